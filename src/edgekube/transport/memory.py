"""A broker in memory: for tests and for a server and agent in one process."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from edgekube.transport.base import Delivery, Disconnected, LinkState, Message
from edgekube.transport.options import TransportOptions
from edgekube.transport.topics import matches


@dataclass(slots=True)
class MemoryBroker:
    """Delivers each message to every connected client whose filter matches; keeps retained ones."""

    clients: "list[MemoryTransport]" = field(default_factory=list)
    retained: dict[str, Message] = field(default_factory=dict)
    up: bool = True
    published: int = 0
    """Messages taken so far, for tests that count work."""

    def route(self, message: Message) -> None:
        """Hand a message to all who want it."""
        self.published += 1
        if message.retain:
            if message.payload:
                self.retained[message.topic] = message
            else:
                self.retained.pop(message.topic, None)
        for client in tuple(self.clients):
            client.deliver(Message(message.topic, message.payload))

    def stop(self) -> None:
        """Die: every client loses its connection; no last will is published."""
        self.up = False
        for client in tuple(self.clients):
            client.lose(with_will=False)

    def start(self) -> None:
        """Come back, knowing nothing."""
        self.up = True
        self.retained.clear()


class MemoryTransport:
    """One client of a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, options: TransportOptions) -> None:
        self._broker = broker
        self._options = options
        self._subscriptions: list[tuple[str, Callable[[Message], None]]] = []
        self._watchers: list[Callable[[LinkState], None]] = []
        self._lost = asyncio.Event()
        self._allowed = asyncio.Event()
        self._allowed.set()
        self._connected = False

    async def run(self) -> None:
        """Stay connected until cancelled; a clean end sends no last will."""
        try:
            while True:
                await self._allowed.wait()
                if not self._broker.up:
                    await asyncio.sleep(0.01)
                    continue
                self._connect()
                await self._lost.wait()
        finally:
            self.lose(with_will=False)

    def _connect(self) -> None:
        self._lost.clear()
        self._connected = True
        self._broker.clients.append(self)
        for topic_filter, handler in self._subscriptions:
            for message in tuple(self._broker.retained.values()):
                if matches(topic_filter, message.topic):
                    handler(message)
        self._tell(LinkState.UP)

    async def publish(self, message: Message, *, delivery: Delivery = Delivery.AT_LEAST_ONCE) -> None:
        """Send; raises Disconnected."""
        del delivery  # memory loses nothing
        await asyncio.sleep(0)
        if not self._connected:
            raise Disconnected("not connected to the memory broker")
        self._broker.route(message)

    def subscribe(self, topic_filter: str, handler: Callable[[Message], None]) -> None:
        """Call `handler` for matching messages."""
        self._subscriptions.append((topic_filter, handler))

    def on_state(self, handler: Callable[[LinkState], None]) -> None:
        """Call `handler` when the connection comes or goes."""
        self._watchers.append(handler)
        if self._connected:
            handler(LinkState.UP)

    def deliver(self, message: Message) -> None:
        """Take a message from the broker."""
        for topic_filter, handler in self._subscriptions:
            if matches(topic_filter, message.topic):
                handler(message)

    def lose(self, *, with_will: bool) -> None:
        """Lose the connection; the broker publishes the last will if it notices a client vanish."""
        if not self._connected:
            return
        self._connected = False
        self._broker.clients.remove(self)
        self._lost.set()
        self._tell(LinkState.DOWN)
        if with_will and self._options.will is not None:
            self._broker.route(self._options.will)

    def cut(self) -> None:
        """Partition this client from the broker until `heal`."""
        self._allowed.clear()
        self.lose(with_will=True)

    def heal(self) -> None:
        """End the partition."""
        self._allowed.set()

    def _tell(self, state: LinkState) -> None:
        for watcher in self._watchers:
            watcher(state)


def open_transport(options: TransportOptions, broker: MemoryBroker | None = None) -> MemoryTransport:
    """Return a client of `broker` (a broker of its own if None)."""
    return MemoryTransport(broker or MemoryBroker(), options)
