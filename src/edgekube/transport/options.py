"""How to reach a broker."""

from dataclasses import dataclass
from pathlib import Path

from edgekube.transport.base import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """`brokers` are URLs (`mqtts://host:port`, `memory://name`), tried in turn; certificates are PEM files."""

    brokers: tuple[str, ...]
    client_id: str
    will: Message | None = None
    """Published by the broker when this client vanishes without a word (MQTT 5, 3.1.2.5)."""
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    keep_alive: int = 30
    """Seconds of silence after which a ping is sent; half as much again, and the connection counts as lost."""
