"""What nodes say: each kind to its part of the hub."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgekube.hub.sessions import Presence, Sessions
from edgekube.transport.base import Message
from edgekube.transport.session import Malformed, Verdict, body_of, decode
from edgekube.transport.topics import node_of
from edgekube.transport.wire import Envelope, Kind

Row = Callable[[str, Envelope, Any], None]
"""Called with node, envelope and body."""


@dataclass(slots=True)
class Uplink:
    """Decodes, drops duplicates, notes presence, hands on. `appeared` is called with a node that came (back)."""

    sessions: Sessions
    appeared: Callable[[str], None]
    malformed: int = 0
    unknown: int = 0
    """Messages of kinds this hub does not know."""
    _rows: dict[int, tuple[Any, Row]] = field(default_factory=dict)

    def on(self, kind: Kind, shape: Any, row: Row) -> None:
        """Hand messages of `kind` to `row`; `shape` is the body's Struct, None for an empty one."""
        self._rows[int(kind)] = (shape, row)

    def arrive(self, message: Message) -> None:
        """Take a message of a node."""
        node = node_of(message.topic)
        try:
            envelope = decode(message.payload)
            row = self._rows.get(envelope.kind)
            body = body_of(envelope, row[0]) if row is not None and row[0] is not None else None
        except Malformed:
            self.malformed += 1
            return
        session = self.sessions.of(node)
        if session.receiver.decide(envelope) is Verdict.DUPLICATE:
            return
        if envelope.kind != Kind.GOODBYE:
            came = session.presence is not Presence.PRESENT or not session.heard
            session.presence, session.heard = Presence.PRESENT, True
            if came:
                self.appeared(node)
        if row is None:
            self.unknown += 1
        else:
            row[1](node, envelope, body)
