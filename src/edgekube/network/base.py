"""
The network port.

A namespace and an address for each pod of this node (PodNetwork), routes to other nodes' pods
(PeerRoutes), and what turns a service's address into a backend's (ServiceRules).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from edgekube.lib.errors import EdgekubeError


class NetworkError(EdgekubeError):
    """Root of the port's errors; `str()` is fit for an event."""


class AddressesExhausted(NetworkError):
    """The node's pod CIDR has no free address."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod's place in the network: `netns` is the path to join, `address` its IP."""

    uid: str
    netns: str
    address: str
    interface: str
    """The host's end of the veth pair; "" when there is none."""
    address6: str = ""
    """Its IPv6 address in a dual-stack cluster."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """All its addresses, the main one first."""
        return tuple(filter(None, (self.address, self.address6)))


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes and packets since the interface was made, as the pod sees them."""

    received_bytes: int
    sent_bytes: int
    received_packets: int
    sent_packets: int


class Bandwidth(NamedTuple):
    """Bits per second that a pod may receive (`ingress`) and send (`egress`); 0: no limit."""

    ingress: int = 0
    egress: int = 0


UNLIMITED = Bandwidth()


class PodNetwork(Protocol):
    """Make and unmake pods' network namespaces. Every call may be repeated and takes up a half-made state."""

    async def attach(
        self, uid: str, hostname: str, *, sysctls: Mapping[str, str], bandwidth: Bandwidth = UNLIMITED
    ) -> Attachment:
        """Give the pod a namespace, an address of the node's CIDR and a route; returns the same when it has them."""
        ...

    async def detach(self, uid: str) -> None:
        """Take all of it away; the address is free afterwards."""
        ...

    async def list(self) -> Sequence[Attachment]:
        """Return every pod that holds an address, half-made ones too: so nothing is lost that should be detached."""
        ...

    async def traffic(self, uid: str) -> Traffic:
        """Return the pod's counters."""
        ...


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node: its own address and the CIDR of its pods."""

    address: str
    pod_cidr: str
    address6: str = ""
    pod_cidr6: str = ""
    """In dual-stack clusters; without `address6` it is reached by a tunnel."""


class PeerRoutes(Protocol):
    """Ways to the pods of other nodes."""

    async def set_peers(self, peers: Mapping[str, Peer], *, own: str = "") -> None:
        """
        Make `peers` (by node name) the only ones; raises NetworkError for those it could not, after doing the rest.

        `own` is the address those peers know this node by, "" if none is known.
        """
        ...


class NodeAddress(NamedTuple):
    """An address this node itself has on an interface."""

    interface: str
    address: str
    default: bool = False
    """Whether a default route leaves by that interface."""


class Surroundings(Protocol):
    """What this node is called on its LANs, and when that changes (DHCP, a cable, another network)."""

    def addresses(self) -> Sequence[NodeAddress]:
        """
        Return the node's addresses without the pod network's.

        IPv4 first, and of a family those of the interface that the best IPv4 default route leaves by.
        """
        ...

    async def changed(self) -> None:
        """Wait until addresses, links or our routes may have changed since the last call; one waiter at a time."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Transport(Enum):
    """What a service port carries; the value is the IP protocol number."""

    TCP = 6
    UDP = 17
    SCTP = 132


ANY, ANY6 = "0.0.0.0", "::"
EVERYWHERE = frozenset({ANY, ANY6})


class Frontend(NamedTuple):
    """Where clients send to; ANY (or ANY6) means every IPv4 (IPv6) address of this node: a node port."""

    address: str
    transport: Transport
    port: int

    @property
    def is_node_port(self) -> bool:
        """Tell whether it is there at all addresses of this node."""
        return self.address in EVERYWHERE


class Backend(NamedTuple):
    """Where it goes; `local` says the endpoint is on this node."""

    address: str
    port: int
    local: bool = False


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What to do with connections to a frontend: spread them evenly over `backends`, or refuse them if none."""

    name: str
    """For people: `namespace/service:port`."""
    backends: tuple[Backend, ...]
    affinity: int = 0
    """Seconds for which a client address keeps its backend after its last connection; 0: not at all."""
    masquerade: bool = False
    """Hide the client's address behind the node's, so that answers come back this way."""
    inside: tuple[Backend, ...] = ()
    """For the cluster's pods and this node itself, where they get others than clients from outside do."""
    sources: tuple[str, ...] = ()
    """CIDRs of the clients let in, packets of others are dropped; () lets everybody in."""
    silent: bool = False
    """Without backends drop packets instead of refusing them: other nodes have some."""
    random: bool = False
    """Choose by chance instead of in turn."""

    @property
    def everywhere(self) -> tuple[Backend, ...]:
        """All backends a connection of anybody may lead to."""
        return self.backends + self.inside


class Flows(NamedTuple):
    """How many connections the kernel follows, and how many it can; new ones are dropped when it is full."""

    known: int
    most: int


class ServiceRules(Protocol):
    """The packet rules of services. Each call is one atomic step: no packet sees half of it."""

    async def replace(self, rules: Mapping[Frontend, Forwarding]) -> None:
        """Make `rules` all there is, whatever was there; live connections go on."""
        ...

    async def change(self, put: Mapping[Frontend, Forwarding], drop: Collection[Frontend]) -> None:
        """Set some frontends and remove others; costs no more than the change. On NetworkError nothing changed."""
        ...

    async def intact(self) -> bool:
        """Tell cheaply whether what was programmed is still there (another program may flush all rules)."""
        ...

    async def flows(self) -> Flows:
        """Return how full the kernel's table of connections is."""
        ...

    async def clear(self) -> None:
        """Remove everything."""
        ...
