"""
The transport port: topics, messages, and streams between master and nodes.

Delivery is at least once and may be reordered across a broker restart, so receivers must be
indifferent to duplicates (the session layer in `transport.session` numbers messages).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import msgspec

from edgekube.lib.errors import EdgekubeError


class TransportError(EdgekubeError):
    """Root of the port's errors."""


class Disconnected(TransportError):
    """There is no connection to a broker now; nothing was sent."""


class StreamClosed(TransportError):
    """The other side ended the stream, or the node went away; `reason` is for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `payload` is opaque to the transport."""

    topic: str
    payload: bytes
    retain: bool = False


class LinkState(Enum):
    """What a link tells its owner."""

    UP = "up"
    DOWN = "down"


class Delivery(Enum):
    """MQTT's quality of service."""

    AT_MOST_ONCE = 0
    AT_LEAST_ONCE = 1


class Transport(Protocol):
    """One client's connection to the broker, kept up for ever by `run`."""

    async def run(self) -> None:
        """Connect, reconnect with back-off, deliver; until cancelled."""
        ...

    async def publish(self, message: Message, *, delivery: Delivery = Delivery.AT_LEAST_ONCE) -> None:
        """
        Send; returns when the broker has it (AT_LEAST_ONCE). Raises Disconnected.

        Messages go out in the order of the calls: the message is queued before the first suspension.
        """
        ...

    def subscribe(self, topic_filter: str, handler: Callable[[Message], None]) -> None:
        """Call `handler` for matching messages, in order of arrival, now and after every reconnect."""
        ...

    def on_state(self, handler: Callable[[LinkState], None]) -> None:
        """Call `handler` whenever the connection comes up (subscriptions made) or is lost."""
        ...

    def renew(self) -> None:
        """Connect anew at once: this machine's address changed, so the connection is dead though nothing says so."""
        ...


# --- Streams: logs, exec, attach, port-forward ------------------------------------------------

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
"""Channels, numbered as in Kubernetes' v5.channel.k8s.io: ERROR carries a Status, RESIZE {"Width","Height"}."""


class StreamRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a stream is for. `kind` is exec, attach, log or portforward."""

    kind: str
    namespace: str
    pod: str
    uid: str
    container: str = ""
    command: tuple[str, ...] = ()
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False
    port: int = 0
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    since_time: str = ""
    limit_bytes: int | None = None


class Stream(Protocol):
    """A two-way, flow-controlled sequence of (channel, data) frames."""

    async def send(self, channel: int, data: bytes) -> None:
        """Send; waits while the other side has not consumed enough. Raises StreamClosed."""
        ...

    async def receive(self) -> tuple[int, bytes] | None:
        """Return the next frame; data b"" is the end of that channel. None: closed cleanly. Raises StreamClosed."""
        ...

    async def close(self, reason: str = "") -> None:
        """End the stream; with a `reason` the other side's `receive` raises StreamClosed. Harmless twice."""
        ...


StreamHandler = Callable[[StreamRequest, Stream], Awaitable[None]]
"""The node's side: serves one stream and returns; what it raises reaches the other side as the reason."""


class StreamGateway(Protocol):
    """The master's side: how the API server asks a node."""

    async def open(self, node: str, request: StreamRequest) -> Stream:
        """Open a stream to `node`; raises ServiceUnavailable when the node is away, Timeout if it does not answer."""
        ...


FrameSource = AsyncIterator[tuple[int, bytes]]
