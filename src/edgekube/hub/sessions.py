"""What the hub remembers of each node it hears of; nothing of it outlives the process."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from edgekube.hub.refs import Ref
from edgekube.transport.session import Receiver, Sender
from edgekube.transport.wire import Kind


class Presence(Enum):
    """Whether a node has a connection."""

    PRESENT = "present"
    GONE = "gone"
    """Its connection broke."""
    LEFT = "left"
    """It said goodbye."""


@dataclass(slots=True)
class Session:
    """One node."""

    sender: Sender
    receiver: Receiver = field(default_factory=Receiver)
    presence: Presence = Presence.PRESENT
    heard: bool = True
    """Whether it said anything since our own connection came up."""
    live: bool = False
    """Whether `known` is what it has; else nothing is sent until it asks for a resync."""
    known: Mapping[Ref, str] = field(default_factory=dict)
    """Versions of the objects it got from its own topic."""
    asked: Mapping[str, str] | None = None
    """The digest of a resync that is not answered yet."""
    answers: list[tuple[Kind, object]] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    """Numbers of its messages that are written and not confirmed yet."""
    owed: int = 0
    """The last number it has to acknowledge."""
    acked: int = 0
    sent_at: float = 0.0
    patience: float = 0.0


class Sessions:
    """Sessions by node name. `epoch` names the run of our connection; `renew` begins the next one."""

    def __init__(self, epoch: str) -> None:
        self._base, self._run = epoch, 0
        self.epoch = epoch
        self.everybody = Sender(epoch)
        self._sessions: dict[str, Session] = {}

    def __iter__(self) -> Iterator[tuple[str, Session]]:
        return iter(tuple(self._sessions.items()))

    def get(self, node: str) -> Session | None:
        """Return the session of a node that was heard of."""
        return self._sessions.get(node)

    def of(self, node: str) -> Session:
        """Return the session, made at need."""
        session = self._sessions.get(node)
        if session is None:
            session = self._sessions[node] = Session(Sender(self.epoch))
        return session

    def present(self, node: str) -> bool:
        """Tell whether a node has a connection."""
        session = self._sessions.get(node)
        return session is not None and session.presence is Presence.PRESENT

    def renew(self) -> None:
        """Begin anew: what was sent before may be lost, so every node has to resync."""
        self._run += 1
        self.epoch = f"{self._base}.{self._run}"
        self.everybody = Sender(self.epoch)
        for session in self._sessions.values():
            session.sender = Sender(self.epoch)
            session.live = session.heard = False
            session.asked = None
            session.acked = session.owed = 0
