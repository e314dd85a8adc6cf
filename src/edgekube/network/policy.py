"""
The port of network policies: who may talk to this node's pods, and to whom they may talk.

Values are addresses and ports only; selectors were resolved before (`proxy.policyplan`). A pod that
is not named in `Policing.isolated` is open. The node itself always reaches its pods and its pods
always reach it; a pod always reaches itself; answers always come back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

from edgekube.network.base import Transport

LAST_PORT = 65535


class Direction(Enum):
    """Seen from the pod."""

    INGRESS = "ingress"
    EGRESS = "egress"


class PortRange(NamedTuple):
    """Ports `first` to `last`, both included; 0 to 65535 means all of the protocol, said or not."""

    transport: Transport
    first: int = 0
    last: int = LAST_PORT


class Place(NamedTuple):
    """A port of a pod."""

    address: str
    transport: Transport
    port: int


class Policy(NamedTuple):
    """One direction of a NetworkPolicy; `name` is `namespace/name`."""

    direction: Direction
    name: str

    def __str__(self) -> str:
        return f"{self.direction.value}-{self.name}"


class Isolated(NamedTuple):
    """One direction of a pod, by its address."""

    direction: Direction
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Traffic that a policy lets through: with one of the peers, to one of the ports."""

    anyone: bool = False
    """Whoever the peer is; else it must be in one of `peers` or `cidrs`."""
    peers: tuple[str, ...] = ()
    """Names of sets in `Policing.addresses`."""
    cidrs: tuple[str, ...] = ()
    ports: tuple[PortRange, ...] = ()
    """Where it may go to; with `places` empty too: anywhere, by any protocol."""
    places: tuple[str, ...] = ()
    """Names of sets in `Policing.places`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policing:
    """All that is to be enforced on a node."""

    isolated: Mapping[Isolated, tuple[Policy, ...]] = field(default_factory=dict)
    """What is let through is what one of these policies lets through."""
    policies: Mapping[Policy, tuple[Grant, ...]] = field(default_factory=dict)
    addresses: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Sets of peers by name, of both families."""
    places: Mapping[str, frozenset[Place]] = field(default_factory=dict)
    """Sets of named ports by name."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """What sets mean, by name, for people."""

    def __bool__(self) -> bool:
        return bool(self.isolated)


class PolicyRules(Protocol):
    """The packet rules of policies. Each call is one atomic step; on NetworkError nothing changed."""

    async def replace(self, wish: Policing) -> None:
        """Make `wish` all there is, whatever was there; live connections go on."""
        ...

    async def change(self, wish: Policing) -> None:
        """Go from what the last call made to `wish`; costs no more than the difference."""
        ...

    async def intact(self) -> bool:
        """Tell cheaply whether what was programmed is still there (another program may flush all rules)."""
        ...

    async def clear(self) -> None:
        """Remove everything: all pods are open."""
        ...
