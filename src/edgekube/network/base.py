"""The network port, pod side: a namespace and an address for each pod of this node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

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


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes and packets since the interface was made, as the pod sees them."""

    received_bytes: int
    sent_bytes: int
    received_packets: int
    sent_packets: int


class PodNetwork(Protocol):
    """Make and unmake pods' network namespaces. Every call may be repeated and takes up a half-made state."""

    async def attach(self, uid: str, hostname: str, *, sysctls: Mapping[str, str]) -> Attachment:
        """Give the pod a namespace, an address of the node's CIDR and a route; returns the same when it has them."""
        ...

    async def detach(self, uid: str) -> None:
        """Take all of it away; the address is free afterwards."""
        ...

    async def list(self) -> Sequence[Attachment]:
        """Return what is attached now, from the kernel and the address file."""
        ...

    async def traffic(self, uid: str) -> Traffic:
        """Return the pod's counters."""
        ...
