"""A node for tests: three pods with echo servers in namespaces of their own, and service rules."""

import socket
import subprocess
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekube.network import netns
from edgekube.network.base import Attachment, Backend, Frontend, Transport
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


def linux(namespace: Path, tmp_path: Path, *, mode: Mode = Mode.AUTO) -> LinuxPodNetwork:
    return LinuxPodNetwork(replace(ADDRESSING, mode=mode), tmp_path, prefix=f"{namespace.name}-")


@dataclass
class Servers:
    """Echo servers that tell their name and the client's address as they see it."""

    sockets: list[socket.socket] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, where: Path, name: str, *, address: str = "0.0.0.0", port: int = 8080) -> None:
        for kind, work in ((socket.SOCK_STREAM, self._tcp), (socket.SOCK_DGRAM, self._udp)):
            made = netns.inside(where, lambda kind=kind: socket.socket(socket.AF_INET, kind))
            made.bind((address, port))
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
            threading.Thread(target=self._serve, args=(connection, f"{name} {client[0]}")).start()

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
            made.sendto(f"{name} {client[0]}".encode(), client)

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
    rules: NftablesServiceRules
    namespace: Path
    pods: list[Attachment]
    servers: Servers

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
        target = (address or frontend.address, frontend.port)
        return netns.inside(
            inside, lambda: [ask(target, frontend.transport, timeout=timeout) for _ in range(times)]
        )

    @contextmanager
    def outsider(self, *routes: str) -> Iterator[Path]:
        """A machine at 10.50.0.2 on a LAN with this node (10.50.0.1), by which it sends to `routes`."""
        other = Path(f"{self.namespace}-lan")
        netns.make(other)
        try:
            for where, command in (
                (self.namespace, f"ip link add lan0 type veth peer name lan0 netns {other.name}"),
                (self.namespace, "ip addr add 10.50.0.1/24 dev lan0"),
                (self.namespace, "ip link set lan0 up"),
                (other, "ip addr add 10.50.0.2/24 dev lan0"),
                (other, "ip link set lan0 up"),
                # As by a default route, without which nothing leaves the node to be translated.
                *((self.namespace, f"ip route add {route} via 10.50.0.2") for route in routes),
                *((other, f"ip route add {route} via 10.50.0.1") for route in routes),
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
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM if transport is TCP else socket.SOCK_DGRAM)
    client.settimeout(timeout)
    try:
        client.connect(target)
    except OSError:
        client.close()
        raise
    return client


def nftables() -> NftablesServiceRules:
    return NftablesServiceRules(Ranges(service_cidr="10.96.0.0/16", cluster_cidr="10.244.0.0/16"))


@asynccontextmanager
async def node_in(namespace: Path, tmp_path: Path) -> AsyncIterator[Node]:
    network = linux(namespace, tmp_path)
    await network.prepare()
    rules = nftables()
    servers = Servers()
    pods = []
    for number in range(3):
        pod = await network.attach(f"uid-{number}", f"pod-{number}", sysctls={})
        pods.append(pod)
        servers.start(Path(pod.netns), f"pod-{number}")
    await rules.replace({})
    yield Node(network, rules, namespace, pods, servers)
    servers.stop()
    rules.close()
    await network.clear()


def names(answers: list[str]) -> Counter[str]:
    return Counter(answer.split()[0] for answer in answers)
