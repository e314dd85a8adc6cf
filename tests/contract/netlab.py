"""
A node for tests: three pods with echo servers in namespaces of their own, and service rules.

Tests are written once, in IPv4: a Dialect says the same in IPv6, and turns the answers back.
"""

import socket
import subprocess
import threading
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

from edgekube.network import netns
from edgekube.network.base import ANY6, Attachment, Backend, Forwarding, Frontend, Transport
from edgekube.network.linux import LinuxPodNetwork, NodeAddressing
from edgekube.network.nftables.layout import Ranges
from edgekube.network.nftables.services import NftablesServiceRules
from edgekube.network.overlay import Mode

TCP, UDP, SCTP = Transport.TCP, Transport.UDP, Transport.SCTP
ADDRESSING = NodeAddressing(
    pod_cidr="10.244.1.0/28",
    cluster_cidr="10.244.0.0/16",
    service_cidr="10.96.0.0/16",
    addresses=("10.96.0.10",),
)
MAPPED = IPv6Network("fd64::/96")
"""Where an IPv4 address of a test is in IPv6, by its last four bytes; pods have /64s of their own."""
DUAL = replace(
    ADDRESSING,
    pod_cidr6="fd00:10:244:1::/64",
    cluster_cidr6="fd00:10:244::/48",
    service_cidr6="fd64::a60:0/112",
    addresses=("10.96.0.10", "fd64::a60:a"),
)


@dataclass(frozen=True)
class Dialect:
    """How a test's IPv4 addresses are said in a family."""

    name: str = "ip"
    six: bool = False

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if self.six else socket.AF_INET

    def at(self, text: str) -> str:
        """Translate an address or CIDR; what is IPv6 already stays."""
        if not self.six or ":" in text or not text:
            return text
        if text == "0.0.0.0":
            return ANY6
        address, slash, bits = text.partition("/")
        found = str(MAPPED[int(IPv4Address(address))])
        if address.startswith("10.244."):
            prefix = IPv6Network(f"fd00:10:244:{address.split('.')[2]}::/64")
            found = str(prefix[1] if address.endswith(".1") else prefix[int(IPv4Address(address))])
        return f"{found}/{int(bits) + 96}" if slash else found

    def back(self, text: str) -> str:
        """Translate an address that an echo server tells."""
        if not self.six:
            return text
        number = int(IPv6Address(text))
        gateway = (number >> 80) == int(IPv6Address("fd00:10:244::")) >> 80 and number & 0xFFFFFFFF == 1
        return f"10.244.{(number >> 64) & 0xFF}.1" if gateway else str(IPv4Address(number & 0xFFFFFFFF))

    def front(self, frontend: Frontend) -> Frontend:
        return frontend._replace(address=self.at(frontend.address))

    def wish(self, forwarding: Forwarding) -> Forwarding:
        def all_of(backends: tuple[Backend, ...]) -> tuple[Backend, ...]:
            return tuple(backend._replace(address=self.at(backend.address)) for backend in backends)

        return replace(
            forwarding,
            backends=all_of(forwarding.backends),
            inside=all_of(forwarding.inside),
            sources=tuple(map(self.at, forwarding.sources)),
        )


FOUR, SIX = Dialect(), Dialect("ip6", six=True)


class SaidRules(NftablesServiceRules):
    """The rules, told in IPv4 what to do in a dialect."""

    dialect = FOUR

    async def replace(self, rules: Mapping[Frontend, Forwarding]) -> None:
        await super().replace(self._said(rules))

    async def change(self, put: Mapping[Frontend, Forwarding], drop: Collection[Frontend]) -> None:
        await super().change(self._said(put), [self.dialect.front(frontend) for frontend in drop])

    def _said(self, rules: Mapping[Frontend, Forwarding]) -> dict[Frontend, Forwarding]:
        return {self.dialect.front(where): self.dialect.wish(what) for where, what in rules.items()}


def linux(namespace: Path, tmp_path: Path, *, mode: Mode = Mode.AUTO) -> LinuxPodNetwork:
    return LinuxPodNetwork(replace(ADDRESSING, mode=mode), tmp_path, prefix=f"{namespace.name}-")


def linux6(namespace: Path, tmp_path: Path) -> LinuxPodNetwork:
    """Return a dual-stack one."""
    return LinuxPodNetwork(DUAL, tmp_path, prefix=f"{namespace.name}-")


@dataclass
class Servers:
    """Echo servers that tell their name and the client's address as they see it."""

    dialect: Dialect = FOUR
    sockets: list[socket.socket] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, where: Path, name: str, *, address: str = "0.0.0.0", port: int = 8080) -> None:
        family = self.dialect.family
        for kind, work in ((socket.SOCK_STREAM, self._tcp), (socket.SOCK_DGRAM, self._udp)):
            made = netns.inside(where, lambda kind=kind: socket.socket(family, kind))
            made.bind((self.dialect.at(address), port))
            if kind == socket.SOCK_STREAM:
                made.listen(400)
            self.sockets.append(made)
            thread = threading.Thread(target=work, args=(made, name))
            thread.start()
            self.threads.append(thread)

    def _tcp(self, listener: socket.socket, name: str) -> None:
        while True:
            try:
                connection, client = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, self._answer(name, client[0]))).start()

    def _serve(self, connection: socket.socket, answer: str) -> None:
        with connection:
            connection.settimeout(20)
            try:
                while connection.recv(100):
                    connection.sendall(answer.encode())
            except OSError:
                return

    def _udp(self, made: socket.socket, name: str) -> None:
        while True:
            try:
                data, client = made.recvfrom(100)
            except OSError:
                return
            if not data:
                return
            made.sendto(self._answer(name, client[0]).encode(), client)

    def _answer(self, name: str, client: str) -> str:
        return f"{name} {self.dialect.back(client)}"

    def stop(self) -> None:
        for made in self.sockets:
            # Wakes accept(), and recvfrom() too, though it complains.
            with suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(5)
        for made in self.sockets:
            made.close()


@dataclass
class Node:
    """A node of three pods with echo servers, and its rules."""

    network: LinuxPodNetwork
    rules: SaidRules
    namespace: Path
    pods: list[Attachment]
    servers: Servers
    dialect: Dialect = FOUR

    def backends(self, *numbers: int) -> tuple[Backend, ...]:
        return tuple(Backend(self.pods[number].address, 8080, local=True) for number in numbers)

    def ask(
        self,
        frontend: Frontend,
        *,
        pod: int | None = None,
        times: int = 1,
        address: str = "",
        where: Path | None = None,
        timeout: float = 10,
    ) -> list[str]:
        inside = where or (Path(self.pods[pod].netns) if pod is not None else self.namespace)
        target = (self.dialect.at(address or frontend.address), frontend.port)
        return netns.inside(
            inside, lambda: [ask(target, frontend.transport, timeout=timeout) for _ in range(times)]
        )

    @contextmanager
    def outsider(self, *routes: str) -> Iterator[Path]:
        """A machine at 10.50.0.2 on a LAN with this node (10.50.0.1), by which it sends to `routes`."""
        other = Path(f"{self.namespace}-lan")
        netns.make(other)
        ours, theirs = self.dialect.at("10.50.0.1"), self.dialect.at("10.50.0.2")
        size, nodad = (120, " nodad") if self.dialect.six else (24, "")
        routes = tuple(map(self.dialect.at, routes))
        try:
            for where, command in (
                (self.namespace, f"ip link add lan0 type veth peer name lan0 netns {other.name}"),
                (self.namespace, f"ip addr add {ours}/{size} dev lan0{nodad}"),
                (self.namespace, "ip link set lan0 up"),
                (other, f"ip addr add {theirs}/{size} dev lan0{nodad}"),
                (other, "ip link set lan0 up"),
                # As by a default route, without which nothing leaves the node to be translated.
                *((self.namespace, f"ip route add {route} via {theirs}") for route in routes),
                *((other, f"ip route add {route} via {ours}") for route in routes),
            ):
                netns.inside(
                    where, lambda command=command: subprocess.run(command.split(), check=True, timeout=10)
                )
            yield other
        finally:
            netns.remove(other)

    def nft(self, *arguments: str, given: str = "") -> str:
        return subprocess.run(
            ["nft", *arguments], check=True, capture_output=True, text=True, input=given, timeout=20
        ).stdout


def ask(target: tuple[str, int], transport: Transport, *, timeout: float = 10) -> str:
    with closing(connected(target, transport, timeout=timeout)) as client:
        client.send(b"?")
        return client.recv(100).decode()


def connected(target: tuple[str, int], transport: Transport, *, timeout: float = 10) -> socket.socket:
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    client = socket.socket(family, socket.SOCK_STREAM if transport is TCP else socket.SOCK_DGRAM)
    client.settimeout(timeout)
    try:
        client.connect(target)
    except OSError:
        client.close()
        raise
    return client


def nftables(dialect: Dialect = FOUR) -> SaidRules:
    six = {"service_cidr6": DUAL.service_cidr6, "cluster_cidr6": DUAL.cluster_cidr6} if dialect.six else {}
    made = SaidRules(Ranges(service_cidr="10.96.0.0/16", cluster_cidr="10.244.0.0/16", **six))
    made.dialect = dialect
    return made


@asynccontextmanager
async def node_in(namespace: Path, tmp_path: Path, dialect: Dialect = FOUR) -> AsyncIterator[Node]:
    network = linux6(namespace, tmp_path) if dialect.six else linux(namespace, tmp_path)
    await network.prepare()
    rules = nftables(dialect)
    servers = Servers(dialect)
    pods = []
    for number in range(3):
        pod = await network.attach(f"uid-{number}", f"pod-{number}", sysctls={})
        pods.append(pod)
        servers.start(Path(pod.netns), f"pod-{number}")
    await rules.replace({})
    yield Node(network, rules, namespace, pods, servers, dialect)
    servers.stop()
    rules.close()
    await network.clear()


def names(answers: list[str]) -> Counter[str]:
    return Counter(answer.split()[0] for answer in answers)
