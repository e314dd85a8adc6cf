"""
A broker in memory: topics, filters, last wills, and connections that tests can break.

As faithful as the session layer needs: messages of one broker arrive in order, each subscriber's
in its own task; a broken connection loses what was under way and publishes the will.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from edgekube.transport.base import Delivery, Disconnected, LinkState, Message
from edgekube.transport.options import TransportOptions
from edgekube.transport.topics import matches

RETRY = 0.05
"""Seconds between two tries to connect."""


@dataclass(slots=True)
class MemoryBroker:
    """Connects the transports opened with it. `taps` see every message published."""

    online: bool = True
    taps: list[Callable[[str, Message], None]] = field(default_factory=list)
    """Called with the sender's client id."""
    loses: Callable[[Message], bool] = lambda _message: False
    """Messages for which it says so get lost on the way, as in a broker whose queue is full."""
    refused: set[str] = field(default_factory=set)
    """Client ids that may not connect now."""
    _clients: dict[str, "MemoryTransport"] = field(default_factory=dict)
    _retained: dict[str, Message] = field(default_factory=dict)

    def stop(self) -> None:
        """Go away as a killed broker does: nobody's will is published, retained messages are lost."""
        self.online = False
        self._retained.clear()
        for client in tuple(self._clients.values()):
            client.lose()
        self._clients.clear()

    def start(self) -> None:
        """Come back."""
        self.online = True

    def disconnect(self, client_id: str) -> None:
        """Break one client's connection; its will is published."""
        client = self._clients.pop(client_id, None)
        if client is not None:
            client.lose()
            self._say_will(client)

    def connected(self, client_id: str) -> bool:
        """Tell whether that client has a connection."""
        return client_id in self._clients

    def attach(self, client: "MemoryTransport") -> bool:
        """Connect `client`; a namesake loses its connection (MQTT 5.0, 3.1.4-3)."""
        if not self.online or client.client_id in self.refused:
            return False
        self.disconnect(client.client_id)
        self._clients[client.client_id] = client
        return True

    def detach(self, client: "MemoryTransport") -> None:
        """Disconnect `client`, if it is connected."""
        if self._clients.get(client.client_id) is client:
            del self._clients[client.client_id]
            self._say_will(client)

    def route(self, sender: str, message: Message) -> None:
        """Hand `message` to every subscriber."""
        for tap in self.taps:
            tap(sender, message)
        if self.loses(message):
            return
        if message.retain:
            self._retained[message.topic] = message
        for client in tuple(self._clients.values()):
            client.deliver(message)

    def retained(self, topic_filter: str) -> tuple[Message, ...]:
        """Return the retained messages a new subscription gets."""
        return tuple(m for topic, m in self._retained.items() if matches(topic_filter, topic) and m.payload)

    def _say_will(self, client: "MemoryTransport") -> None:
        if client.will is not None:
            self.route(client.client_id, client.will)


class MemoryTransport:
    """A Transport over a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, *, client_id: str, will: Message | None = None) -> None:
        self.client_id, self.will = client_id, will
        self._broker = broker
        self._filters: list[tuple[str, Callable[[Message], None]]] = []
        self._watchers: list[Callable[[LinkState], None]] = []
        self._inbox: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._lost = asyncio.Event()
        self._lost.set()

    async def run(self) -> None:
        """Connect, reconnect, deliver; until cancelled."""
        while True:
            if not self._broker.attach(self):
                await asyncio.sleep(RETRY)
                continue
            self._lost.clear()
            self._inbox.clear()
            try:
                for topic_filter, _ in self._filters:
                    self._inbox.extend(self._broker.retained(topic_filter))
                self._tell(LinkState.UP)
                await self._deliver()
            finally:
                self._broker.detach(self)
                self._lost.set()
                self._tell(LinkState.DOWN)

    async def publish(self, message: Message, *, delivery: Delivery = Delivery.AT_LEAST_ONCE) -> None:
        """Send; raises Disconnected."""
        if self._lost.is_set():
            raise Disconnected(self.client_id)
        self._broker.route(self.client_id, message)
        if delivery is Delivery.AT_LEAST_ONCE:
            await asyncio.sleep(0)
            if self._lost.is_set():
                raise Disconnected(self.client_id)

    def subscribe(self, topic_filter: str, handler: Callable[[Message], None]) -> None:
        """Call `handler` for matching messages."""
        self._filters.append((topic_filter, handler))
        if not self._lost.is_set():
            for message in self._broker.retained(topic_filter):
                handler(message)

    def on_state(self, handler: Callable[[LinkState], None]) -> None:
        """Call `handler` when the connection comes up or is lost."""
        self._watchers.append(handler)

    def renew(self) -> None:
        """Connect anew at once."""
        if not self._lost.is_set():
            self._wake.set()
            self._lost.set()

    def lose(self) -> None:
        """For the broker: the connection broke."""
        self._lost.set()
        self._wake.set()

    def deliver(self, message: Message) -> None:
        """For the broker: a message, if a filter wants it."""
        if not self._lost.is_set() and any(matches(wanted, message.topic) for wanted, _ in self._filters):
            self._inbox.append(message)
            self._wake.set()

    async def _deliver(self) -> None:
        while not self._lost.is_set():
            while self._inbox and not self._lost.is_set():
                message = self._inbox.popleft()
                for topic_filter, handler in self._filters:
                    if matches(topic_filter, message.topic):
                        handler(message)
            self._wake.clear()
            if not self._lost.is_set():
                await self._wake.wait()

    def _tell(self, state: LinkState) -> None:
        for handler in self._watchers:
            handler(state)


def open_transport(options: TransportOptions, *, broker: MemoryBroker) -> MemoryTransport:
    """Return a transport over `broker`; the URLs only matter to other adapters."""
    return MemoryTransport(broker, client_id=options.client_id, will=options.will)
