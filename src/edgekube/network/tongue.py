"""What neighbours on an Ethernet say to each other about who has which address, in either family."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from edgekube.network.claims import Say


class Talk(NamedTuple):
    """What one frame says. MACs are six bytes."""

    mac: bytes
    """Who says it."""
    has: tuple[str, ...]
    """Addresses the sender says it has."""
    asks: str
    """The address it asks for, "" if it asks nothing."""
    answer: Callable[[bytes], bytes]
    """Returns the frame that says the given MAC has it."""


class Tongue(Protocol):
    """A protocol: ARP or neighbour discovery."""

    ethertype: int
    filter: tuple[tuple[int, int, int, int], ...]
    """A classic BPF program that lets its frames pass; () for all of the ethertype."""

    def understand(self, frame: bytes) -> Talk | None:
        """Return what an Ethernet frame says; None if it is none of these, or damaged."""
        ...

    def to_all(self, say: Say, address: str, mac: bytes) -> bytes:
        """Return a claim, or the question whether somebody has the address."""
        ...

    def groups(self, addresses: Iterable[str]) -> frozenset[str]:
        """Return the multicast groups that questions for these addresses are sent to."""
        ...
