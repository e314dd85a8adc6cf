"""MQTT 5 through aiomqtt (paho): TLS with client certificates, several brokers, reconnecting for ever."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import aiomqtt

from edgekube.lib.backoff import Backoff
from edgekube.transport.base import Delivery, Disconnected, LinkState, Message
from edgekube.transport.options import TransportOptions
from edgekube.transport.topics import matches

log = logging.getLogger(__name__)

FIRST_DELAY = 0.1
LAST_DELAY = 15.0
"""Seconds between two tries to connect, at most."""
CONNECT = 10.0
"""Seconds one try may take."""
IN_FLIGHT = 200
"""Unacknowledged messages this client sends at once (MQTT 5, 3.3.4)."""
QUEUED = 10_000
"""Received messages that may wait for their handler."""


class MqttTransport:
    """One client's connection, kept up by `run`."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._subscriptions: list[tuple[str, Callable[[Message], None]]] = []
        self._watchers: list[Callable[[LinkState], None]] = []
        self._client: aiomqtt.Client | None = None

    async def run(self) -> None:
        """Connect, deliver, reconnect with back-off; until cancelled."""
        backoff = Backoff[str](first=FIRST_DELAY, limit=LAST_DELAY)
        turn = 0
        while True:
            broker = self._options.brokers[turn % len(self._options.brokers)]
            try:
                await self._session(broker, backoff)
            except (aiomqtt.MqttError, OSError, ssl.SSLError) as error:
                log.warning("%s: %s", broker, error)
            turn += 1
            # Spread by the client's name, so that a fleet does not come back as one.
            spread = sum(self._options.client_id.encode()) % 100 / 400
            await asyncio.sleep(backoff.next("connect") * (1 + spread))

    async def _session(self, broker: str, backoff: Backoff[str]) -> None:
        async with self._make(broker) as client:
            for topic_filter in dict.fromkeys(name for name, _ in self._subscriptions):
                await client.subscribe(topic_filter, qos=1)
            backoff.forget("connect")
            self._client = client
            self._tell(LinkState.UP)
            try:
                async for message in client.messages:
                    payload = message.payload
                    if isinstance(payload, bytes):
                        self._deliver(Message(str(message.topic), payload, retain=message.retain))
            finally:
                self._client = None
                self._tell(LinkState.DOWN)

    def _make(self, broker: str) -> aiomqtt.Client:
        url = urlsplit(broker)
        will = self._options.will
        return aiomqtt.Client(
            url.hostname or "127.0.0.1",
            url.port or 8883,
            identifier=self._options.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            keepalive=self._options.keep_alive,
            timeout=CONNECT,
            tls_context=self._tls() if url.scheme == "mqtts" else None,
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=will.retain) if will else None,
            max_inflight_messages=IN_FLIGHT,
            max_queued_incoming_messages=QUEUED,
            logger=logging.getLogger("edgekube.transport.paho"),
        )

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._options.authority)
        if self._options.certificate is not None:
            context.load_cert_chain(self._options.certificate, self._options.key)
        return context

    def _deliver(self, message: Message) -> None:
        for topic_filter, handler in self._subscriptions:
            if matches(topic_filter, message.topic):
                handler(message)

    async def publish(self, message: Message, *, delivery: Delivery = Delivery.AT_LEAST_ONCE) -> None:
        """Send; returns when the broker has it (AT_LEAST_ONCE)."""
        client = self._client
        if client is None:
            raise Disconnected("no connection to a broker")
        try:
            await client.publish(message.topic, message.payload, qos=delivery.value, retain=message.retain)
        except aiomqtt.MqttError as error:
            raise Disconnected(str(error)) from error

    def subscribe(self, topic_filter: str, handler: Callable[[Message], None]) -> None:
        """Call `handler` for matching messages; subscribe before `run`."""
        self._subscriptions.append((topic_filter, handler))

    def on_state(self, handler: Callable[[LinkState], None]) -> None:
        """Call `handler` when the connection comes or goes."""
        self._watchers.append(handler)
        if self._client is not None:
            handler(LinkState.UP)

    def _tell(self, state: LinkState) -> None:
        for watcher in self._watchers:
            watcher(state)


def open_transport(options: TransportOptions) -> MqttTransport:
    """Return a client that `run` connects."""
    return MqttTransport(options)
