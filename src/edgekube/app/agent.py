"""`edgekube agent`: one node as one process. It joins once over HTTPS; then its only connection is the broker's."""

import asyncio
import contextlib
import logging
import signal
import subprocess
import sys
from pathlib import Path

from edgekube.app import membership
from edgekube.app.membership import ClusterFacts, Membership, NotJoined
from edgekube.app.networking import NetworkWish, NodeNetwork
from edgekube.app.options import AgentOptions
from edgekube.app.paths import AgentPaths
from edgekube.board.linux import LinuxBoard
from edgekube.lib.errors import EdgekubeError
from edgekube.network.announce import Announcer
from edgekube.network.lanline import lan
from edgekube.network.nftables.foreign import NftablesForeignRules
from edgekube.network.nftables.layout import Ranges
from edgekube.network.nftables.policies import NftablesPolicyRules
from edgekube.network.nftables.services import NftablesServiceRules
from edgekube.node.address import AddressWish
from edgekube.node.config import KubeletConfig
from edgekube.node.kubelet import Kubelet
from edgekube.node.link.link import NodeLink
from edgekube.node.shutdown import MARKER, machine_stops
from edgekube.proxy.announcer import NodeAnnouncer
from edgekube.proxy.diagnosis import Diagnosis
from edgekube.proxy.dns.server import DnsServer
from edgekube.proxy.policies import NodePolicies
from edgekube.proxy.services import ServiceProxy
from edgekube.runtime.podman.runtime import open_runtime
from edgekube.runtime.podman.service import PodmanService, ServicePaths
from edgekube.transport.base import Message
from edgekube.transport.mqtt import open_transport
from edgekube.transport.options import TransportOptions
from edgekube.transport.topics import Topics

log = logging.getLogger(__name__)


REPORTING = 50
"""Tenths of seconds in which the last reports must have gone out."""


class AgentError(EdgekubeError):
    """The agent cannot run; `str()` says what to do."""


def run(options: AgentOptions) -> int:
    """Join if need be, then run until SIGTERM or SIGINT."""
    paths = AgentPaths(options.data_dir)
    member = _member(options, paths)
    _protect(options.node.oom_score_adj)
    asyncio.run(_until_signalled(options, paths, member))
    return 0


def _protect(score: int) -> None:
    """Make the kernel kill pods rather than us when memory runs out (proc(5), oom_score_adj)."""
    try:
        Path("/proc/self/oom_score_adj").write_text(str(score))
    except OSError as error:
        log.info("oom_score_adj %d: %s", score, error.strerror)


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
    told = asyncio.Event()
    agent = asyncio.create_task(serve(options, paths, member, told))

    def stop() -> None:
        if told.is_set():
            agent.cancel()  # Said twice: at once.
        told.set()

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, agent.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await agent


async def serve(options: AgentOptions, paths: AgentPaths, member: Membership, told: asyncio.Event) -> None:
    """Compose the agent and run it until `told` to end, or cancelled."""
    facts, name = member.facts, member.node_name
    transport = open_transport(_transport(facts, name, paths))
    link = NodeLink(transport, facts.cluster, name, paths.wish)
    network = NodeNetwork(_network(options, paths), facts, link.mirror, name)
    policies = NodePolicies(
        link.mirror, NftablesPolicyRules(), network.open, node_name=name,
        cluster_cidrs=tuple(filter(None, (facts.cluster_cidr, facts.cluster_cidr6))), check=2,
    )  # fmt: skip
    service = PodmanService(ServicePaths(paths.podman, options.run_dir))
    runtime = open_runtime(options.runtime or service.url)
    own = (facts.cluster_dns,)
    rules = NftablesServiceRules(
        Ranges(
            service_cidr=facts.service_cidr, cluster_cidr=facts.cluster_cidr,
            service_cidr6=facts.service_cidr6, cluster_cidr6=facts.cluster_cidr6,
        )
    )  # fmt: skip
    proxy = ServiceProxy(link.mirror, rules, name, network=policies.open_network, own_addresses=own, check=10)
    kubelet = Kubelet(
        mirror=link.mirror, reporter=link, runtime=runtime, network=proxy.open_network, board=LinuxBoard(disk=options.data_dir, images=paths.podman),
        config=_kubelet(options, facts, name, network.node_ip),
    )  # fmt: skip
    link.serve_streams(kubelet.stream_handler)
    dns = DnsServer(link.mirror, addresses=own, domain=facts.cluster_domain, upstreams=_upstreams(own))
    announcer = Announcer(lan())
    diagnosis = Diagnosis(link, name, rules, NftablesForeignRules(), probes=network.probes)
    itself = asyncio.current_task()
    assert itself is not None
    async with asyncio.TaskGroup() as group:
        group.create_task(_farewell(options, told, kubelet, link, itself), name="farewell")
        if not options.runtime:
            group.create_task(service.run(), name="podman")
            await service.ready()
        group.create_task(link.run(), name="link")
        group.create_task(kubelet.run(), name="kubelet")
        group.create_task(network.follow_address(kubelet, transport), name="address")
        await network.open()
        group.create_task(network.follow_nodes(kubelet), name="routes")
        group.create_task(proxy.run(), name="proxy")
        group.create_task(diagnosis.run(), name="diagnosis")
        group.create_task(policies.run(), name="policies")
        group.create_task(dns.run(), name="dns")
        group.create_task(announcer.run(), name="announcer")
        group.create_task(NodeAnnouncer(link.mirror, announcer, name).run(), name="announced")


async def _farewell(
    options: AgentOptions, told: asyncio.Event, kubelet: Kubelet, link: NodeLink, agent: "asyncio.Task[None]"
) -> None:
    """End the agent when told to; and before it the pods, if it is the machine that ends."""
    (options.run_dir / MARKER).unlink(missing_ok=True)  # Of a shutdown that is over.
    await told.wait()
    grace, critical = options.node.shutdown_grace, options.node.shutdown_grace_critical
    if grace > 0 and await machine_stops(options.run_dir):
        await kubelet.shut_down(grace=grace, critical=critical)
        for _ in range(REPORTING):
            if not link.unconfirmed:
                break
            await asyncio.sleep(0.1)
    agent.cancel()


def _transport(facts: ClusterFacts, name: str, paths: AgentPaths) -> TransportOptions:
    return TransportOptions(
        brokers=facts.brokers, client_id=f"{facts.cluster}-{name}", authority=paths.authority,
        certificate=paths.certificate, key=paths.key, will=Message(Topics(facts.cluster).gone(name), b""),
    )  # fmt: skip


def _network(options: AgentOptions, paths: AgentPaths) -> NetworkWish:
    node = AddressWish(options.node_ip, options.node_interface)
    return NetworkWish(directory=paths.network, mode=options.network, node=node)


def _kubelet(options: AgentOptions, facts: ClusterFacts, name: str, node_ip: str) -> KubeletConfig:
    node = options.node
    return KubeletConfig(
        node_name=name, node_ip=node_ip, data_dir=options.data_dir, cluster_dns=(facts.cluster_dns,),
        cluster_domain=facts.cluster_domain, cgroup_root=options.cgroup_root, service_cidr=facts.service_cidr,
        run_dir=options.run_dir, max_pods=node.max_pods, kube_reserved=node.kube_reserved,
        system_reserved=node.system_reserved, eviction=node.eviction, image_gc=node.image_gc, manifests=node.manifests,
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
