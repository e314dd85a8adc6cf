"""How a client reaches the broker: what every adapter's `open_transport` takes."""

from dataclasses import dataclass
from pathlib import Path

from edgekube.transport.base import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """What `open_transport` of every adapter takes. Times in seconds."""

    brokers: tuple[str, ...]
    """Brokers, tried in turn: `mqtts://host:port`, `mqtt://host:port` (no TLS), `memory://name`."""
    client_id: str
    """Unique among the broker's clients; a second connection of the same name ends the first."""
    authority: Path | None = None
    """CA certificate (PEM) that the broker's certificate must come from."""
    certificate: Path | None = None
    key: Path | None = None
    will: Message | None = None
    """Sent whenever the connection ends, orderly or not."""
    keep_alive: int = 30
    """A silent connection is given up by the broker after one and a half of these."""
