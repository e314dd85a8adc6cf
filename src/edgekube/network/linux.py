"""
Pods' networks on Linux: point-to-point veth pairs and host routes, no bridge.

Each pod has a namespace `/run/netns/ek-<uid>` with `eth0`; the node's end is named after the pod's
address (`ek0af40105` is 10.244.1.5), so names cannot collide, and carries the uid as its alias, so
the address file can be rebuilt from the kernel. The gateway is an address of the node on `ek0`.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TypeVar

from edgekube.network import netns, podlinks, sysctl, ways
from edgekube.network.addresses import Addresses
from edgekube.network.base import UNLIMITED, Attachment, Bandwidth, NetworkError, Peer, Traffic
from edgekube.network.links import Links
from edgekube.network.netlink import NetlinkError
from edgekube.network.overlay import Mode, gateway_of, plan, pod_address6
from edgekube.network.shaping import limit
from edgekube.network.tunnels import DEVICE

T = TypeVar("T")

_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_POD_SYSCTLS = {
    # What other runtimes give a pod: any user may listen on port 80 and send pings.
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddressing:
    """The node's part of the cluster's address plan. CIDRs are IPv4."""

    pod_cidr: str
    """This node's own; its first address is the gateway."""
    cluster_cidr: str
    """All nodes' pod CIDRs: traffic to it keeps the pod's address."""
    service_cidr: str
    addresses: tuple[str, ...] = field(default=())
    """Further addresses of this node that pods reach, such as the cluster DNS address."""
    mtu: int = 0
    """Of pods' interfaces, in bytes; 0: what fits the smallest way to other nodes."""
    mode: Mode = Mode.AUTO
    """Which ways lead to other nodes' pods."""

    pod_cidr6: str = ""
    """This node's own IPv6 CIDR, /96 or shorter; "": pods have IPv4 addresses only."""
    cluster_cidr6: str = ""
    """All nodes' IPv6 pod CIDRs; its prefix length is a multiple of 8."""
    service_cidr6: str = ""
    """Services' IPv6 addresses; "": they have IPv4 ones only."""

    @property
    def gateway(self) -> str:
        """The node's address in its pod CIDR."""
        return str(IPv4Network(self.pod_cidr)[1])

    @property
    def gateways(self) -> tuple[str, ...]:
        """The node's addresses in its pod CIDRs."""
        return (self.gateway, gateway_of(self.pod_cidr6)) if self.pod_cidr6 else (self.gateway,)


class LinuxPodNetwork:
    """PodNetwork and PeerRoutes of the namespace the process runs in. Call `prepare` once before anything else."""

    def __init__(
        self,
        addressing: NodeAddressing,
        state_dir: Path,
        *,
        netns_dir: Path = Path("/run/netns"),
        prefix: str = "ek-",
    ) -> None:
        self._plan = addressing
        self._netns_dir = netns_dir
        self._prefix = prefix
        self._file = state_dir / "addresses.json"
        self._addresses = Addresses(addressing.pod_cidr, self._file, reserved=_reserved(addressing))
        self._mtu = addressing.mtu
        # One thread: calls follow one another, and one that its caller gave up is still finished first.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="network")

    @property
    def pod_cidr(self) -> str:
        """Where new pods' addresses are from."""
        return self._plan.pod_cidr

    async def prepare(self) -> None:
        """Make the node ready: forwarding, gateway and service routes, masquerading; take up what the kernel has."""
        await self._do(self._prepare)

    async def renumber(self, pod_cidr: str, pod_cidr6: str = "") -> None:
        """
        Give addresses of another CIDR from now on; pods that have one keep theirs and what leads to it.

        The ways of other nodes do not lead to them any more; whoever runs them should start them anew.
        """
        await self._do(lambda: self._renumber(pod_cidr, pod_cidr6))

    async def attach(
        self, uid: str, hostname: str, *, sysctls: Mapping[str, str], bandwidth: Bandwidth = UNLIMITED
    ) -> Attachment:
        """Give the pod a namespace and an address. Of `sysctls` those under net. are set; others are not ours."""
        return await self._do(lambda: self._attach(_checked(uid), hostname, sysctls, bandwidth))

    async def detach(self, uid: str) -> None:
        """Take all of it away; the address is free afterwards."""
        await self._do(lambda: self._detach(_checked(uid)))

    async def list(self) -> Sequence[Attachment]:
        """Return the pods that hold an address, half-made ones too: attach or detach them."""
        return await self._do(self._list)

    async def traffic(self, uid: str) -> Traffic:
        """Return the pod's counters; NetworkError if it is not attached."""
        return await self._do(lambda: self._traffic(uid))

    async def set_peers(self, peers: Mapping[str, Peer], *, own: str = "") -> None:
        """
        Make ways to each node's pods, by a LAN shared with it or by VXLAN; those to nodes not named are removed.

        `own` is the address peers know this node by. Called again, it mends what others took away: routes,
        tunnels, pods' MTU, and the masquerading of `prepare`.
        """
        await self._do(lambda: self._set_peers(peers, own))

    async def clear(self) -> None:
        """Remove every pod's network and what `prepare` made (sysctls stay as they are)."""
        await self._do(self._clear)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: _translated(work))

    def _renumber(self, pod_cidr: str, pod_cidr6: str) -> None:
        self._plan = replace(self._plan, pod_cidr=pod_cidr, pod_cidr6=pod_cidr6)
        self._addresses = Addresses(pod_cidr, self._file, reserved=_reserved(self._plan))
        self._prepare()

    def _prepare(self) -> None:
        sysctl.write("net/ipv4/ip_forward", "1")
        # A redirect would use up the peer's ICMP allowance, so that rejects went silent.
        for interface in sysctl.children("net/ipv4/conf"):
            # Interfaces come and go meanwhile.
            sysctl.write(f"net/ipv4/conf/{interface}/send_redirects", "0", missing_ok=True)
        if self._plan.pod_cidr6:
            _forward6()
        links = Links()
        try:
            loopback = links.find("lo")
            if loopback is not None:
                links.set(loopback.index)
            index = podlinks.base(links)
            for address in (*self._plan.gateways, *self._plan.addresses):
                links.add_address(index, address)
            links.set(index)
            # Without a default route a ClusterIP would be unreachable before NAT sees the packet.
            links.add_route(self._plan.service_cidr, index=index, source=self._plan.gateway)
            if self._plan.pod_cidr6 and self._plan.service_cidr6:
                links.add_route(
                    self._plan.service_cidr6, index=index, source=gateway_of(self._plan.pod_cidr6)
                )
            found = podlinks.pods_in_kernel(links)
            self._mtu = self._mtu or plan({}, ways.lans(links), mode=self._plan.mode).pod_mtu
        finally:
            links.close()
        self._addresses.adopt(found)
        for item in self._list():
            # Noted before a power cut: nothing is left of it.
            if item.uid not in found and not Path(item.netns).exists():
                self._addresses.release(item.uid)
        self._drop_former()
        self._masquerade(afresh=True)

    def _drop_former(self) -> None:
        """Take away the addresses of a former CIDR once no pod is left that has its gateway there."""
        network = IPv4Network(self._plan.pod_cidr)
        if any(IPv4Address(address) not in network for address in self._addresses.all().values()):
            return
        ours = IPv4Network(self._plan.cluster_cidr)
        links = Links()
        try:
            base = links.find(podlinks.BASE)
            for item in list(links.addresses()):
                former = IPv4Address(item.address) in ours and item.address != self._plan.gateway
                if base is not None and item.index == base.index and former:
                    links.remove_address(item.index, item.address)
        finally:
            links.close()

    def _masquerade(self, *, afresh: bool = False) -> None:
        from edgekube.network.nftables.pods import ensure, program  # noqa: PLC0415 - only a prepared node needs it

        (program if afresh else ensure)(self._plan.pod_cidr, self._plan.cluster_cidr)
        if self._plan.pod_cidr6:
            from edgekube.network.nftables import pods6  # noqa: PLC0415 - and only in a dual-stack cluster

            (pods6.program if afresh else pods6.ensure)(self._plan.pod_cidr6, self._plan.cluster_cidr6)

    def _attach(
        self, uid: str, hostname: str, sysctls: Mapping[str, str], bandwidth: Bandwidth
    ) -> Attachment:
        wanted = {
            **_POD_SYSCTLS,
            **{name: value for name, value in sysctls.items() if sysctl.is_network(name)},
        }
        attachment = self._attachment(uid, self._addresses.allocate(uid))
        path = Path(attachment.netns)
        netns.make(path)
        links = Links()
        try:
            if not netns.inside(path, podlinks.has_eth0):
                # An interface of that name would have its other end in a namespace that lost its name.
                links.remove(attachment.interface)
                with path.open("rb") as file:
                    links.add_veth(attachment.interface, peer="eth0", namespace=file.fileno(), mtu=self._mtu)
            netns.inside(
                path,
                lambda: podlinks.configure(
                    attachment.addresses, self._plan.gateways, wanted, rate=bandwidth.egress
                ),
            )
            outer = links.find(attachment.interface)
            if outer is None:
                raise NetworkError(f"interface {attachment.interface} of pod {uid} vanished")
            limit(outer, bandwidth.ingress)
            if attachment.address6:
                podlinks.without_asking(attachment.interface)
            links.set(outer.index, alias=f"{uid} {hostname}")
            if attachment.address6:
                # Other than with ARP, only the interface that has the address answers for it.
                links.add_address(outer.index, gateway_of(self._plan.pod_cidr6))
            for address in attachment.addresses:
                links.add_route(podlinks.whole(address), index=outer.index)
            # Packets with another source address than the pod's are forged, perhaps to pass for a policy's peer.
            sysctl.write(f"net/ipv4/conf/{attachment.interface}/rp_filter", "1", missing_ok=True)
        finally:
            links.close()
        return attachment

    def _detach(self, uid: str) -> None:
        address = self._addresses.get(uid)
        if address is not None:
            self._remove(uid, address)
            for each in self._attachment(uid, address).addresses:
                _forget_flows(each)
            self._addresses.release(uid)
        else:
            netns.remove(self._path(uid))

    def _remove(self, uid: str, address: str) -> None:
        links = Links()
        try:
            links.remove(podlinks.name_of(address))
        finally:
            links.close()
        netns.remove(self._path(uid))

    def _list(self) -> Sequence[Attachment]:
        return [self._attachment(uid, address) for uid, address in self._addresses.all().items()]

    def _traffic(self, uid: str) -> Traffic:
        address = self._addresses.get(uid)
        links = Links()
        try:
            link = links.find(podlinks.name_of(address)) if address else None
        finally:
            links.close()
        if link is None:
            raise NetworkError(f"pod {uid} has no interface")
        return link.traffic

    def _set_peers(self, peers: Mapping[str, Peer], own: str) -> None:
        self._masquerade()
        links = Links()
        try:
            wish = plan(
                peers, ways.lans(links), mode=self._plan.mode, own=own, pod_cidr=self._plan.pod_cidr,
                pod_cidr6=self._plan.pod_cidr6,
            )  # fmt: skip
            problems = ways.apply(links, wish, own=self._plan.gateways)
            self._mtu = self._plan.mtu or wish.pod_mtu or self._mtu
            self._resize(links)
        finally:
            links.close()
        lost = [
            f"no way to {peers[name].pod_cidr} by {peers[name].address} ({name}): {why}"
            for name, why in wish.unreachable.items()
        ]
        if lost or problems:
            raise NetworkError("; ".join([*lost, *problems]))

    def _resize(self, links: Links) -> None:
        """Give pods that are there already the MTU that the ways have now."""
        if not self._mtu:
            return
        sizes = {
            link.name: link for link in links.all() if podlinks.is_pod(link.name) and link.mtu != self._mtu
        }
        for item in self._list():
            outer = sizes.get(item.interface)
            path = Path(item.netns)
            if outer is not None and netns.exists(path):
                # The host's end last: it tells whether this was done.
                netns.inside(path, lambda: podlinks.set_mtu("eth0", self._mtu))
                links.set(outer.index, up=outer.up, mtu=self._mtu)

    def _clear(self) -> None:
        from edgekube.network.nftables.pods import clear  # noqa: PLC0415 - see _masquerade

        links = Links()
        try:
            self._addresses.adopt(podlinks.pods_in_kernel(links))
            for uid in self._addresses.all():
                self._detach(uid)
            _remove_all(
                links,
                [
                    link.name
                    for link in links.all()
                    if podlinks.is_pod(link.name) or link.name in {podlinks.BASE, DEVICE}
                ],
            )
            for route in [*links.routes(), *links.routes(socket.AF_INET6)]:
                links.remove_route(route.target)
        finally:
            links.close()
        clear()
        if self._plan.pod_cidr6:
            from edgekube.network.nftables import pods6  # noqa: PLC0415 - see _masquerade

            pods6.clear()

    def _attachment(self, uid: str, address: str) -> Attachment:
        six = pod_address6(self._plan.pod_cidr6, address) if self._plan.pod_cidr6 else ""
        return Attachment(uid, str(self._path(uid)), address, podlinks.name_of(address), six)

    def _path(self, uid: str) -> Path:
        return self._netns_dir / f"{self._prefix}{uid}"


def _forward6() -> None:
    """Let IPv6 packets through; on interfaces that listen to routers' advertisements keep listening."""
    for interface in sysctl.children("net/ipv6/conf"):
        # 1 means: only while not forwarding (ip-sysctl, accept_ra).
        path = f"net/ipv6/conf/{interface}/accept_ra"
        if sysctl.read(path) == "1":
            sysctl.write(path, "2", missing_ok=True)
    sysctl.write("net/ipv6/conf/all/forwarding", "1")


def _reserved(addressing: NodeAddressing) -> frozenset[str]:
    return frozenset({addressing.gateway})


def _forget_flows(address: str) -> None:
    """Have the kernel forget a gone pod's flows, if it can: the next pod with that address must not get them."""
    from edgekube.network.nftables.conntrack import forget_pod  # noqa: PLC0415 - see _masquerade

    with contextlib.suppress(NetlinkError):  # A kernel without flow tracking lists none.
        forget_pod(address)


def _remove_all(links: Links, names: Iterable[str]) -> None:
    for name in names:
        links.remove(name)


def _checked(uid: str) -> str:
    if not _UID.fullmatch(uid):
        raise NetworkError(f"pod uid {uid!r} is not fit for a file name")
    return uid


def _translated(work: Callable[[], T]) -> T:
    try:
        return work()
    except OSError as error:
        raise NetworkError(str(error)) from error
