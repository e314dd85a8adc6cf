"""Packets for policies: between three pods and clients outside, of both families, or only thought of."""

import asyncio
import socket
import struct
import subprocess
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path

from contract.netlab import ADDRESSING, TCP, Node, Servers, node_in
from edgekube.network import netns
from edgekube.network.base import Transport
from edgekube.network.linux import LinuxPodNetwork
from edgekube.network.nftables.policies import NftablesPolicyRules
from edgekube.network.policy import Policing
from edgekube.network.policy_memory import MemoryPolicyRules

SCTP = Transport.SCTP
A, B, C = "10.244.1.2", "10.244.1.3", "10.244.1.4"
NEAR, FAR = "192.0.2.7", "192.0.2.200"
"""Two clients outside."""
WEB, ADMIN = 8080, 9090
LONG, SHORT = 10.0, 0.4
"""Seconds to wait for an answer that should come, and for one that should not."""
PREFIX = "fd00:244:0:1::"
"""Of the node's pods, and here of the clients outside, too: an IPv4 address makes the rest."""


class Kernel:
    """A node in a namespace, a namespace outside, and packets."""

    def __init__(self, node, outside):
        self.rules = NftablesPolicyRules()
        self.node = node
        self.places = {pod.address: Path(pod.netns) for pod in node.pods}
        self.places |= {NEAR: outside, FAR: outside}

    async def reaches(self, source, target, transport=TCP, port=WEB, *, expected=True):
        where = self.places[source]
        wait = LONG if expected else SHORT
        if transport is SCTP:
            return await asyncio.to_thread(self._sctp, source, target, port, wait)

        def ask():
            return netns.inside(where, lambda: _ask(source, target, transport, port, wait))

        return await asyncio.to_thread(ask)

    def send(self, sender, source, target):
        """Send a datagram whose header says it comes from `source`; tell whether it arrived."""
        kind = (socket.AF_INET, socket.SOCK_RAW)
        inbox = netns.inside(self.places[target], lambda: socket.socket(*kind, socket.IPPROTO_UDP))
        outbox = netns.inside(self.places[sender], lambda: socket.socket(*kind, socket.IPPROTO_RAW))
        with closing(inbox), closing(outbox):
            inbox.settimeout(LONG if sender == source else SHORT)
            ends = socket.inet_aton(source) + socket.inet_aton(target)
            header = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0)
            outbox.sendto(header + ends + struct.pack("!HHHH", 7, 7, 8, 0), (target, 0))
            try:
                return bool(inbox.recv(100))
            except TimeoutError:
                return False

    def _sctp(self, source, target, port, wait):
        """Send an SCTP header by raw socket, for the kernel may lack the protocol."""
        inbox, outbox = (
            netns.inside(self.places[name], lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 132))
            for name in (target, source)
        )
        with closing(inbox), closing(outbox):
            inbox.bind((target, 0))
            inbox.settimeout(wait)
            outbox.bind((source, 0))
            outbox.sendto(init_chunk(port), (target, 0))
            try:
                return struct.unpack_from("!H", inbox.recv(100), 22)[0] == port
            except TimeoutError:
                return False


def init_chunk(port):
    """Return an SCTP packet that begins an association: the kernel's flow table takes nothing else."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65535, 1, 1, 7)
    header = struct.pack("!HHI", 5555, port, 0)
    return header + struct.pack("<I", _crc32c(header + bytes(4) + chunk)) + chunk


def _crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _ask(source, target, transport, port, wait):
    if transport is None:
        return _ping(source, target, wait)
    kind = socket.SOCK_STREAM if transport is TCP else socket.SOCK_DGRAM
    with closing(socket.socket(socket.AF_INET, kind)) as client:
        client.settimeout(wait)
        client.bind((source, 0))
        try:
            client.connect((target, port))
            client.send(b"?")
            return bool(client.recv(100))
        except TimeoutError:
            return False


def _ping(source, target, wait):
    with closing(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) as client:
        client.settimeout(wait)
        client.bind((source, 0))
        body = struct.pack("!BBHHH", 8, 0, 0xF7FF - 5, 0, 5)
        client.sendto(body, (target, 0))
        try:
            while client.recv(100)[20] != 0:
                pass
        except TimeoutError:
            return False
        return True


class Judge:
    """The same questions to the judge in memory."""

    def __init__(self):
        self.rules = MemoryPolicyRules()

    async def reaches(self, source, target, transport=TCP, port=WEB, *, expected=True):
        del expected
        return self.rules.allows(source, target, transport, port)


def run(where, *commands):
    for command in commands:
        netns.inside(where, lambda command=command: subprocess.run(command.split(), check=True, timeout=10))


def six(address):
    """Return the IPv6 address, or CIDR, that stands for an IPv4 one."""
    if "/" in address:
        network = IPv4Network(address)
        return f"{six(str(network.network_address))}/{96 + network.prefixlen}"
    return str(IPv6Address(int(IPv6Address(PREFIX)) + int(IPv4Address(address))))


def all_six(wish):
    """Return the same policies about the addresses that stand for those of `wish`."""
    return Policing(
        isolated={pod._replace(address=six(pod.address)): names for pod, names in wish.isolated.items()},
        policies={
            policy: tuple(replace(grant, cidrs=tuple(map(six, grant.cidrs))) for grant in grants)
            for policy, grants in wish.policies.items()
        },
        addresses={name: frozenset(map(six, held)) for name, held in wish.addresses.items()},
        places={
            name: frozenset(place._replace(address=six(place.address)) for place in held)
            for name, held in wish.places.items()
        },
        titles=wish.titles,
    )


class Rules6(NftablesPolicyRules):
    """Enforces what is said of IPv4 addresses for those of the other family."""

    async def replace(self, wish):
        await super().replace(all_six(wish))

    async def change(self, wish):
        await super().change(all_six(wish))


class Kernel6:
    """A node in a namespace, a namespace outside, and packets of IPv6."""

    def __init__(self, node, outside):
        self.rules = Rules6()
        self.node = node
        self.places = {pod.address: Path(pod.netns) for pod in node.pods}
        self.places |= {NEAR: outside, FAR: outside}

    async def reaches(self, source, target, transport=TCP, port=WEB, *, expected=True):
        wait = LONG if expected else SHORT
        kinds = {
            TCP: (socket.SOCK_STREAM,),
            Transport.UDP: (socket.SOCK_DGRAM,),
            SCTP: (socket.SOCK_RAW, 132),
        }
        kind = kinds.get(transport, (socket.SOCK_RAW, socket.IPPROTO_ICMPV6))

        def made(where):
            opened = netns.inside(self.places[where], lambda: socket.socket(socket.AF_INET6, *kind))
            # Several that wait for what must not come may wait at once.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            opened.settimeout(wait)
            return opened

        def probe():
            with closing(made(target)) as inbox, closing(made(source)) as outbox:
                inbox.bind((six(target), port if kind[0] != socket.SOCK_RAW else 0))
                outbox.bind((six(source), 0))
                try:
                    return arrives(inbox, outbox, six(target), transport, port)
                except TimeoutError:
                    return False

        return await asyncio.to_thread(probe)


def arrives(inbox, outbox, target, transport, port):
    if transport is TCP:
        inbox.listen(5)
        outbox.connect((target, port))
        return True
    if transport is Transport.UDP:
        outbox.sendto(b"?", (target, port))
        return inbox.recv(100) == b"?"
    if transport is SCTP:
        outbox.sendto(init_chunk(port), (target, 0))
        return struct.unpack_from("!H", inbox.recv(100), 2)[0] == port
    outbox.sendto(struct.pack("!BBHHH", 128, 0, 0, 0, 5), (target, 0))
    while outbox.recv(100)[0] != 129:
        pass
    return True


def plug(namespace, outside, *, addresses, gateway, pods):
    """Join a namespace outside to the node."""
    run(namespace, f"ip link add wan0 type veth peer name wan0 netns {outside.name}")
    run(namespace, f"ip addr add {gateway} dev wan0 nodad", "ip link set wan0 up")
    run(outside, "ip link set lo up", *(f"ip addr add {address} dev wan0 nodad" for address in addresses))
    run(outside, "ip link set wan0 up", f"ip route add {pods} via {gateway.split('/')[0]}")


@asynccontextmanager
async def kernel_of(namespace, tmp_path):
    """Make the node, and clients outside."""
    outside = Path(f"{namespace}-o")
    netns.make(outside)
    async with node_in(namespace, tmp_path) as node:
        clients = (f"{NEAR}/24", f"{FAR}/24")
        plug(namespace, outside, addresses=clients, gateway="192.0.2.1/24", pods="10.244.0.0/16")
        node.servers.start(Path(node.pods[0].netns), "a", port=ADMIN)
        node.servers.start(outside, "outside", port=WEB)
        made = Kernel(node, outside)
        yield made
        made.rules.close()
    netns.remove(outside)


@asynccontextmanager
async def kernel6_of(namespace, tmp_path):
    """Make the same of IPv6."""
    outside = Path(f"{namespace}-o")
    netns.make(outside)
    addressing = replace(ADDRESSING, pod_cidr6=f"{PREFIX}/64", cluster_cidr6="fd00:244::/48")
    network = LinuxPodNetwork(addressing, tmp_path, prefix=f"{namespace.name}-")
    await network.prepare()
    pods = [await network.attach(f"uid-{number}", f"pod-{number}", sysctls={}) for number in range(3)]
    assert [pod.address6 for pod in pods] == [six(pod.address) for pod in pods]
    clients = tuple(f"{six(address)}/120" for address in (NEAR, FAR))
    plug(
        namespace,
        outside,
        addresses=clients,
        gateway=f"{six('192.0.2.1')}/120",
        pods=f"{six('10.244.1.0')}/120",
    )
    made = Kernel6(Node(network, None, namespace, pods, Servers()), outside)
    yield made
    made.rules.close()
    await network.clear()
    netns.remove(outside)
