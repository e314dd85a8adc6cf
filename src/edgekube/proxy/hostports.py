"""hostPort of this node's pods: frontends of the node that lead to the pod, without hiding the client."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address

from edgekube.api.types import core_v1
from edgekube.network.base import (
    UNLIMITED,
    Attachment,
    Backend,
    Bandwidth,
    Forwarding,
    Frontend,
    PodNetwork,
    Traffic,
    Transport,
)
from edgekube.proxy.endpoints import FAMILIES, IPFamily

_ENDED = {"Succeeded", "Failed"}


def plan_host_ports(pod: core_v1.Pod, *addresses: str) -> dict[Frontend, Forwarding]:
    """
    Return the rules of a pod at `addresses`; none without one, and for pods in the node's own network.

    hostIP narrows a port to one address of the node. 127.0.0.0/8 and ::1 cannot be forwarded from: left out.
    """
    if pod.spec.host_network or pod.status.phase in _ENDED:
        return {}
    places = {family: found[0] for family in FAMILIES if (found := family.of(addresses))}
    rules: dict[Frontend, Forwarding] = {}
    sidecars = (container for container in pod.spec.init_containers if container.restart_policy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        for port in container.ports:
            name = f"{pod.metadata.namespace}/{pod.metadata.name}:{port.name or port.container_port}"
            for family, address in places.items():
                frontend = _frontend(port, family)
                if frontend is not None:
                    backend = Backend(address, port.container_port, local=True)
                    rules.setdefault(frontend, Forwarding(name, (backend,)))
    return rules


def _frontend(port: core_v1.ContainerPort, family: IPFamily) -> Frontend | None:
    transport = port.protocol or "TCP"
    if not port.host_port or transport not in Transport.__members__:
        return None
    hosts = family.of([port.host_ip or family.any_address])
    if not hosts or ip_address(hosts[0]).is_loopback:
        return None
    return Frontend(hosts[0], Transport[transport], port.host_port)


OpenNetwork = Callable[[], Awaitable[PodNetwork]]


class ToldNetwork:
    """A PodNetwork that tells when pods got or lost their address."""

    def __init__(self, network: PodNetwork, told: Callable[[], None]) -> None:
        self._network = network
        self._told = told

    async def attach(
        self, uid: str, hostname: str, *, sysctls: Mapping[str, str], bandwidth: Bandwidth = UNLIMITED
    ) -> Attachment:
        """Give the pod its place."""
        made = await self._network.attach(uid, hostname, sysctls=sysctls, bandwidth=bandwidth)
        self._told()
        return made

    async def detach(self, uid: str) -> None:
        """Take it away."""
        await self._network.detach(uid)
        self._told()

    async def list(self) -> Sequence[Attachment]:
        """Return every pod that holds an address."""
        return await self._network.list()

    async def traffic(self, uid: str) -> Traffic:
        """Return the pod's counters."""
        return await self._network.traffic(uid)
