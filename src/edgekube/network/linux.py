"""
Pods' networks on Linux: point-to-point veth pairs and host routes, no bridge.

Each pod has a namespace `/run/netns/ek-<uid>` with `eth0`; the node's end is named after the pod's
address (`ek0af40105` is 10.244.1.5), so names cannot collide, and carries the uid as its alias, so
the address file can be rebuilt from the kernel. The gateway is an address of the node on `ek0`.
"""

import asyncio
import errno
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import TypeVar

from edgekube.network import netns, sysctl
from edgekube.network.addresses import Addresses
from edgekube.network.base import Attachment, NetworkError, Peer, Traffic
from edgekube.network.links import Links
from edgekube.network.netlink import NetlinkError

T = TypeVar("T")

_BASE = "ek0"
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
    """Of pods' interfaces, in bytes; 0 leaves the kernel's."""

    @property
    def gateway(self) -> str:
        """The node's address in its pod CIDR."""
        return str(IPv4Network(self.pod_cidr)[1])


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
        self._addresses = Addresses(
            addressing.pod_cidr, state_dir / "addresses.json", reserved=frozenset({addressing.gateway})
        )
        # One thread: calls follow one another, and one that its caller gave up is still finished first.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="network")

    async def prepare(self) -> None:
        """Make the node ready: forwarding, gateway and service routes, masquerading; take up what the kernel has."""
        await self._do(self._prepare)

    async def attach(self, uid: str, hostname: str, *, sysctls: Mapping[str, str]) -> Attachment:
        """Give the pod a namespace and an address. Of `sysctls` those under net. are set; others are not ours."""
        return await self._do(lambda: self._attach(_checked(uid), hostname, sysctls))

    async def detach(self, uid: str) -> None:
        """Take all of it away; the address is free afterwards."""
        await self._do(lambda: self._detach(_checked(uid)))

    async def list(self) -> Sequence[Attachment]:
        """Return the pods that hold an address, half-made ones too: attach or detach them."""
        return await self._do(self._list)

    async def traffic(self, uid: str) -> Traffic:
        """Return the pod's counters; NetworkError if it is not attached."""
        return await self._do(lambda: self._traffic(uid))

    async def set_peers(self, peers: Mapping[str, Peer]) -> None:
        """
        Route each node's pods by that node; routes to nodes not named are removed. Nodes must share a LAN.

        Called again, it mends what others took away: routes, and the masquerading of `prepare`.
        """
        await self._do(lambda: self._set_peers(peers))

    async def clear(self) -> None:
        """Remove every pod's network and what `prepare` made (sysctls stay as they are)."""
        await self._do(self._clear)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: _translated(work))

    def _prepare(self) -> None:
        sysctl.write("net/ipv4/ip_forward", "1")
        # A redirect would use up the peer's ICMP allowance, so that rejects went silent.
        for interface in sysctl.children("net/ipv4/conf"):
            # Interfaces come and go meanwhile.
            sysctl.write(f"net/ipv4/conf/{interface}/send_redirects", "0", missing_ok=True)
        links = Links()
        try:
            loopback = links.find("lo")
            if loopback is not None:
                links.set(loopback.index)
            index = _base(links)
            for address in (self._plan.gateway, *self._plan.addresses):
                links.add_address(index, address)
            links.set(index)
            # Without a default route a ClusterIP would be unreachable before NAT sees the packet.
            links.add_route(self._plan.service_cidr, index=index, source=self._plan.gateway)
            found = _pods_in_kernel(links)
        finally:
            links.close()
        self._addresses.adopt(found)
        for item in self._list():
            # Noted before a power cut: nothing is left of it.
            if item.uid not in found and not Path(item.netns).exists():
                self._addresses.release(item.uid)
        self._masquerade()

    def _masquerade(self) -> None:
        from edgekube.network.nftables.pods import ensure  # noqa: PLC0415 - only a prepared node needs it

        ensure(self._plan.pod_cidr, self._plan.cluster_cidr)

    def _attach(self, uid: str, hostname: str, sysctls: Mapping[str, str]) -> Attachment:
        wanted = {
            **_POD_SYSCTLS,
            **{name: value for name, value in sysctls.items() if sysctl.is_network(name)},
        }
        attachment = self._attachment(uid, self._addresses.allocate(uid))
        path = Path(attachment.netns)
        netns.make(path)
        links = Links()
        try:
            if not netns.inside(path, _has_eth0):
                # An interface of that name would have its other end in a namespace that lost its name.
                links.remove(attachment.interface)
                with path.open("rb") as file:
                    links.add_veth(
                        attachment.interface, peer="eth0", namespace=file.fileno(), mtu=self._plan.mtu
                    )
            netns.inside(path, lambda: self._configure(attachment.address, wanted))
            outer = links.find(attachment.interface)
            if outer is None:
                raise NetworkError(f"interface {attachment.interface} of pod {uid} vanished")
            links.set(outer.index, alias=f"{uid} {hostname}")
            links.add_route(f"{attachment.address}/32", index=outer.index)
        finally:
            links.close()
        return attachment

    def _configure(self, address: str, sysctls: Mapping[str, str]) -> None:
        """Set up the pod's side; runs inside its namespace."""
        links = Links()
        try:
            loopback, inner = links.find("lo"), links.find("eth0")
            if loopback is None or inner is None:
                raise NetworkError("the pod's namespace lacks lo or eth0")
            links.set(loopback.index)
            links.add_address(inner.index, address)
            links.set(inner.index)
            links.add_route(f"{self._plan.gateway}/32", index=inner.index)
            links.add_route("0.0.0.0/0", index=inner.index, gateway=self._plan.gateway)
        finally:
            links.close()
        for name, value in sysctls.items():
            sysctl.write(sysctl.path_of(name), value)

    def _detach(self, uid: str) -> None:
        address = self._addresses.get(uid)
        if address is not None:
            self._remove(uid, address)
            self._addresses.release(uid)
        else:
            netns.remove(self._path(uid))

    def _remove(self, uid: str, address: str) -> None:
        links = Links()
        try:
            links.remove(_name_of(address))
        finally:
            links.close()
        netns.remove(self._path(uid))

    def _list(self) -> Sequence[Attachment]:
        return [self._attachment(uid, address) for uid, address in self._addresses.all().items()]

    def _traffic(self, uid: str) -> Traffic:
        address = self._addresses.get(uid)
        links = Links()
        try:
            link = links.find(_name_of(address)) if address else None
        finally:
            links.close()
        if link is None:
            raise NetworkError(f"pod {uid} has no interface")
        return link.traffic

    def _set_peers(self, peers: Mapping[str, Peer]) -> None:
        self._masquerade()
        unreachable: list[str] = []
        wanted = {peer.pod_cidr: peer.address for peer in peers.values()}
        links = Links()
        try:
            have = {route.target: route.gateway for route in links.routes() if route.gateway}
            for target in have.keys() - wanted.keys():
                links.remove_route(target)
            for target in sorted(cidr for cidr, gateway in wanted.items() if have.get(cidr) != gateway):
                try:
                    links.add_route(target, gateway=wanted[target])
                except NetlinkError as error:
                    # Not on our LAN (ENETUNREACH, or EINVAL for an address of our own).
                    if error.number not in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL}:
                        raise
                    unreachable.append(f"{target} by {wanted[target]}")
        finally:
            links.close()
        if unreachable:
            raise NetworkError(f"no way to pods of {', '.join(unreachable)}: the nodes share no LAN")

    def _clear(self) -> None:
        from edgekube.network.nftables.pods import clear  # noqa: PLC0415 - see _masquerade

        links = Links()
        try:
            self._addresses.adopt(_pods_in_kernel(links))
            for uid in self._addresses.all():
                self._detach(uid)
            _remove_all(
                links, [link.name for link in links.all() if _is_pod(link.name) or link.name == _BASE]
            )
            for route in list(links.routes()):
                links.remove_route(route.target)
        finally:
            links.close()
        clear()

    def _attachment(self, uid: str, address: str) -> Attachment:
        return Attachment(uid, str(self._path(uid)), address, _name_of(address))

    def _path(self, uid: str) -> Path:
        return self._netns_dir / f"{self._prefix}{uid}"


def _base(links: Links) -> int:
    """Return the index of the interface that holds the node's own addresses, made if need be."""
    for kind in ("dummy", "bridge"):
        # A kernel without the dummy driver has bridges; one without ports does as well.
        try:
            links.add(_BASE, kind)
            break
        except NetlinkError as error:
            if error.number != errno.EOPNOTSUPP:
                raise
    link = links.find(_BASE)
    if link is None:
        raise NetworkError(
            f"cannot make interface {_BASE}: the kernel has neither the dummy nor the bridge driver"
        )
    return link.index


def _has_eth0() -> bool:
    links = Links()
    try:
        return links.find("eth0") is not None
    finally:
        links.close()


def _remove_all(links: Links, names: Iterable[str]) -> None:
    for name in names:
        links.remove(name)


def _checked(uid: str) -> str:
    if not _UID.fullmatch(uid):
        raise NetworkError(f"pod uid {uid!r} is not fit for a file name")
    return uid


def _name_of(address: str) -> str:
    return f"ek{socket.inet_aton(address).hex()}"


def _is_pod(name: str) -> bool:
    return re.fullmatch(r"ek[0-9a-f]{8}", name) is not None


def _pods_in_kernel(links: Links) -> dict[str, str]:
    """Return pods' addresses by uid, as their interfaces tell them."""
    pods = ((link.alias.split(" ")[0], link.name) for link in links.all() if _is_pod(link.name))
    return {uid: _address_of(name) for uid, name in pods if uid}


def _address_of(name: str) -> str:
    return socket.inet_ntoa(bytes.fromhex(name[2:]))


def _translated(work: Callable[[], T]) -> T:
    try:
        return work()
    except OSError as error:
        raise NetworkError(str(error)) from error
