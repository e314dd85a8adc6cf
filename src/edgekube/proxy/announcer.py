"""Which Services' addresses this node speaks for on its LANs: those the cloud controller gave it."""

from edgekube.api.types import core_v1
from edgekube.control.mirror import Mirror
from edgekube.control.reconcile import Controller
from edgekube.network.announce import Announcer
from edgekube.proxy.endpoints import FAMILIES

ANNOUNCER = "edgekube.io/announced-by"
_KEY = "addresses"


def addresses(service: core_v1.Service, node_name: str) -> tuple[str, ...]:
    """Return the addresses of a Service that the node is to announce."""
    if service.spec.type != "LoadBalancer" or service.metadata.annotations.get(ANNOUNCER) != node_name:
        return ()
    ingress = service.status.load_balancer.ingress if service.status.load_balancer else ()
    given = [item.ip for item in ingress]
    return tuple(address for family in FAMILIES for address in family.of(given))


class NodeAnnouncer:
    """Keeps an Announcer at what the Services say."""

    def __init__(self, mirror: Mirror, announcer: Announcer, node_name: str) -> None:
        self._mirror, self._announcer, self._node_name = mirror, announcer, node_name
        self._controller: Controller[str] = Controller("announcer", self)
        self._last: frozenset[str] | None = None

    async def run(self) -> None:
        """Follow the Services until cancelled."""
        self._controller.watch(self._mirror.services, self._keys)
        self._controller.queue.add(_KEY)
        await self._controller.run()

    def _keys(self, service: core_v1.Service) -> list[str]:
        return [_KEY] if addresses(service, self._node_name) else []

    async def reconcile(self, key: str) -> None:
        """Tell the announcer if something changed."""
        del key
        wish = frozenset(
            address for service in self._mirror.services for address in addresses(service, self._node_name)
        )
        if wish != self._last:
            self._announcer.set_addresses(wish)
            self._last = wish
