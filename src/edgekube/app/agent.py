"""`edgekube agent`: one node as one process. It joins once over HTTPS; then its only connection is the broker's."""

import asyncio
import contextlib
import logging
import signal
import subprocess
import sys
from pathlib import Path

from edgekube.api.resource import Key
from edgekube.app import membership
from edgekube.app.membership import ClusterFacts, Membership, NotJoined
from edgekube.app.options import AgentOptions
from edgekube.app.paths import AgentPaths
from edgekube.board.linux import LinuxBoard
from edgekube.control.mirror import Mirror
from edgekube.lib.errors import EdgekubeError
from edgekube.network.linux import LinuxPodNetwork, NodeAddressing
from edgekube.network.nftables.layout import Ranges
from edgekube.network.nftables.services import NftablesServiceRules
from edgekube.node.config import KubeletConfig
from edgekube.node.kubelet import Kubelet
from edgekube.node.link.link import NodeLink
from edgekube.proxy.dns.server import DnsServer
from edgekube.proxy.routes import NodeRoutes
from edgekube.proxy.services import ServiceProxy
from edgekube.runtime.podman.runtime import open_runtime
from edgekube.runtime.podman.service import PodmanService, ServicePaths
from edgekube.transport.base import Message
from edgekube.transport.mqtt import open_transport
from edgekube.transport.options import TransportOptions
from edgekube.transport.topics import Topics

log = logging.getLogger(__name__)


class AgentError(EdgekubeError):
    """The agent cannot run; `str()` says what to do."""


def run(options: AgentOptions) -> int:
    """Join if need be, then run until SIGTERM or SIGINT."""
    paths = AgentPaths(options.data_dir)
    member = _member(options, paths)
    asyncio.run(_until_signalled(options, paths, member))
    return 0


def _member(options: AgentOptions, paths: AgentPaths) -> Membership:
    """Return the membership on disk; without one, join."""
    with contextlib.suppress(NotJoined):
        return membership.load(paths.membership)
    if not options.server or options.token_file is None:
        raise AgentError(
            "this node has not joined a cluster: give --server https://HOST:6443 and --token-file FILE"
        )
    command = [
        sys.executable, "-m", "edgekube.app.enroll", "--server", options.server, "--token-file", str(options.token_file),
        "--node-name", options.node_name, "--data-dir", str(options.data_dir),
    ]  # fmt: skip
    if subprocess.run(command, check=False).returncode:  # noqa: S603 - our own program
        raise AgentError("joining failed; see above")
    return membership.load(paths.membership)


async def _until_signalled(options: AgentOptions, paths: AgentPaths, member: Membership) -> None:
    loop = asyncio.get_running_loop()
    agent = asyncio.create_task(serve(options, paths, member))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await agent


async def serve(options: AgentOptions, paths: AgentPaths, member: Membership) -> None:
    """Compose the agent and run it until cancelled."""
    facts, name = member.facts, member.node_name
    link = NodeLink(open_transport(_transport(facts, name, paths)), facts.cluster, name, paths.wish)
    network = _Network(paths, facts, link.mirror, name)
    service = PodmanService(ServicePaths(paths.podman, options.run_dir))
    runtime = open_runtime(options.runtime or service.url)
    kubelet = Kubelet(
        mirror=link.mirror, reporter=link, runtime=runtime, network=network.open, board=LinuxBoard(),
        config=_kubelet(options, facts, name),
    )  # fmt: skip
    link.serve_streams(kubelet.stream_handler)
    own = (facts.cluster_dns,)
    rules = NftablesServiceRules(Ranges(service_cidr=facts.service_cidr, cluster_cidr=facts.cluster_cidr))
    proxy = ServiceProxy(link.mirror, rules, name, own_addresses=own, check=10)
    dns = DnsServer(link.mirror, addresses=own, domain=facts.cluster_domain, upstreams=_upstreams(own))
    async with asyncio.TaskGroup() as group:
        if not options.runtime:
            group.create_task(service.run(), name="podman")
            await service.ready()
        group.create_task(link.run(), name="link")
        group.create_task(kubelet.run(), name="kubelet")
        made = await network.open()
        group.create_task(NodeRoutes(link.mirror, made, name).run(), name="routes")
        group.create_task(proxy.run(), name="proxy")
        group.create_task(dns.run(), name="dns")


class _Network:
    """The pod network, made once the node's pod CIDR is known: from the wish on disk, or from the master."""

    def __init__(self, paths: AgentPaths, facts: ClusterFacts, mirror: Mirror, name: str) -> None:
        self._directory = paths.network
        self._facts = facts
        self._mirror = mirror
        self._key = Key("", name)
        self._making = asyncio.Lock()
        self._network: LinuxPodNetwork | None = None

    async def open(self) -> LinuxPodNetwork:
        """Return the network; waits for the CIDR. Raises NetworkError; the next call tries again."""
        async with self._making:
            if self._network is None:
                self._network = await self._make()
            return self._network

    async def _make(self) -> LinuxPodNetwork:
        cidr = await self._pod_cidr()
        addressing = NodeAddressing(
            pod_cidr=cidr,
            cluster_cidr=self._facts.cluster_cidr,
            service_cidr=self._facts.service_cidr,
            addresses=(self._facts.cluster_dns,),
        )
        network = LinuxPodNetwork(addressing, self._directory)
        await network.prepare()
        log.info("pods get addresses from %s", cidr)
        return network

    async def _pod_cidr(self) -> str:
        changed = asyncio.Event()
        self._mirror.nodes.subscribe(lambda _old, _new: changed.set())
        while True:
            node = self._mirror.nodes.get(self._key)
            if node is not None and node.spec.pod_cidr:
                return node.spec.pod_cidr
            changed.clear()
            await changed.wait()


def _transport(facts: ClusterFacts, name: str, paths: AgentPaths) -> TransportOptions:
    return TransportOptions(
        brokers=facts.brokers, client_id=f"{facts.cluster}-{name}", authority=paths.authority,
        certificate=paths.certificate, key=paths.key, will=Message(Topics(facts.cluster).gone(name), b""),
    )  # fmt: skip


def _kubelet(options: AgentOptions, facts: ClusterFacts, name: str) -> KubeletConfig:
    return KubeletConfig(
        node_name=name, node_ip=options.node_ip, data_dir=options.data_dir, cluster_dns=(facts.cluster_dns,),
        cluster_domain=facts.cluster_domain, cgroup_root=options.cgroup_root, service_cidr=facts.service_cidr,
        run_dir=options.run_dir,
    )  # fmt: skip


def _upstreams(own: tuple[str, ...]) -> tuple[str, ...]:
    """Return the name servers of the machine's resolv.conf(5), without ourselves."""
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except OSError:
        return ()
    words = [line.split() for line in lines]
    servers = (word[1] for word in words if len(word) > 1 and word[0] == "nameserver")
    return tuple(server for server in servers if server not in own and ":" not in server)
