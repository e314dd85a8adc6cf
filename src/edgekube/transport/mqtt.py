"""
MQTT 5 through aiomqtt: the transport between real machines.

Clean start every time: the broker keeps nothing for a client that is away, all state is re-derived
by a resync. Messages are handed over inside paho's callback, without a task or queue between, so
they keep the order of arrival.
"""

import asyncio
import contextlib
import logging
import math
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from itertools import cycle
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, MQTTv5
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgekube.lib.backoff import Backoff
from edgekube.transport.base import (
    Delivery,
    Disconnected,
    LinkState,
    Message,
    TransportError,
)  # fmt: skip
from edgekube.transport.options import TransportOptions
from edgekube.transport.topics import matches

log = logging.getLogger(__name__)

MAX_PACKET = 4 << 20
"""Bytes; a 1 MiB Secret in base64 within JSON is 1.4 MiB."""
IN_FLIGHT = 100
PENDING = 1000
"""Publishes that may wait for their acknowledgement; more wait their turn before they are sent."""
AT_ONCE = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
"""Otherwise a message waits up to 40 ms for the acknowledgement of the one before it (RFC 896, RFC 1122 4.2.3.2)."""
TIMEOUT = 10.0
CALM = 30.0
"""Seconds a connection must last for the back-off to start afresh."""
PORTS = {"mqtts": 8883, "mqtt": 1883}

Handler = Callable[[Message], None]


class BadBroker(TransportError):
    """The address is no broker URL."""


class MqttTransport:
    """A Transport over a real broker; `jitter` returns 0…1."""

    def __init__(self, options: TransportOptions, *, jitter: Callable[[], float] = random.random) -> None:
        self._options = options
        self._addresses = [_address(url) for url in options.brokers]
        self._filters: dict[str, list[Handler]] = {}
        self._watchers: list[Callable[[LinkState], None]] = []
        self._client: aiomqtt.Client | None = None
        self._fresh = asyncio.Event()
        self._again = asyncio.Event()
        """Set: the connection, or the wait for the next, is not worth keeping."""
        self._waiting: set[asyncio.Timeout] = set()
        """Of the publishes under way."""
        self._backoff = Backoff[str](first=0.1, limit=30.0)
        self._jitter = jitter

    async def run(self) -> None:
        """Connect to one broker after the other, deliver, reconnect with back-off; until cancelled."""
        loop = asyncio.get_running_loop()
        turns: Iterator[tuple[str, str, int]] = cycle(self._addresses)
        for tried, address in enumerate(turns, 1):
            started = loop.time()
            _heed_cancellation()
            self._again.clear()
            try:
                await self._connect(*address)
            except (aiomqtt.MqttError, OSError) as error:
                log.info("broker %s:%d: %s", address[1], address[2], error)
            if loop.time() - started >= CALM:
                self._backoff.forget("connect")
            if tried % len(self._addresses) == 0 or loop.time() - started >= CALM:
                delay = self._backoff.next("connect")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay * (0.5 + self._jitter())):
                        await self._again.wait()

    async def publish(self, message: Message, *, delivery: Delivery = Delivery.AT_LEAST_ONCE) -> None:
        """Send; returns when the broker has it (AT_LEAST_ONCE). Raises Disconnected."""
        client = self._client
        if client is None:
            raise Disconnected(self._options.client_id)
        try:
            async with asyncio.timeout(TIMEOUT) as patience:
                self._waiting.add(patience)
                try:
                    await client.publish(
                        message.topic,
                        message.payload,
                        qos=delivery.value,
                        retain=message.retain,
                        timeout=math.inf,
                    )
                finally:
                    self._waiting.discard(patience)
        except (aiomqtt.MqttError, ValueError, OSError, TimeoutError) as error:
            raise Disconnected(f"{message.topic}: {error}") from error

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        """Call `handler` for matching messages, now and after every reconnect."""
        self._filters.setdefault(topic_filter, []).append(handler)
        self._fresh.set()

    def on_state(self, handler: Callable[[LinkState], None]) -> None:
        """Call `handler` when the connection comes up (subscriptions made) or is lost."""
        self._watchers.append(handler)

    def renew(self) -> None:
        """Connect anew at once."""
        self._again.set()

    async def _connect(self, scheme: str, host: str, port: int) -> None:
        client = self._make(scheme, host, port)
        async with client:
            made: set[str] = set()
            await self._subscribe(client, made)
            _heed_cancellation()
            self._client = client
            self._tell(LinkState.UP)
            keeper = asyncio.create_task(self._follow_filters(client, made), name="mqtt-filters")
            try:
                await self._end(client)
            finally:
                keeper.cancel()
                self._client = None
                self._give_up()
                await self._say_will(client)
                self._tell(LinkState.DOWN)

    def _give_up(self) -> None:
        """End every publish under way: its acknowledgement can no more come."""
        now = asyncio.get_running_loop().time()
        for patience in self._waiting:
            if not patience.expired():
                patience.reschedule(now)

    async def _end(self, client: aiomqtt.Client) -> None:
        """Wait until the connection is lost, which raises, or not wanted any more."""

        async def lost() -> None:
            async for _ in client.messages:  # Nothing is ever queued: this waits for the end.
                pass

        tasks = {asyncio.create_task(lost(), name="mqtt-lost"), asyncio.create_task(self._again.wait())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _make(self, scheme: str, host: str, port: int) -> aiomqtt.Client:
        dispatch = self._dispatch

        class Inbox(asyncio.Queue[aiomqtt.Message]):
            """Where aiomqtt puts what arrives: passed on at once."""

            def put_nowait(self, item: aiomqtt.Message) -> None:
                dispatch(item)

        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
        properties.MaximumPacketSize = MAX_PACKET
        will = self._options.will
        client = aiomqtt.Client(
            host, port, identifier=self._options.client_id, protocol=aiomqtt.ProtocolVersion(MQTTv5),
            clean_start=MQTT_CLEAN_START_FIRST_ONLY, properties=properties, keepalive=self._options.keep_alive,
            will=aiomqtt.Will(will.topic, will.payload, 1, will.retain) if will else None,
            tls_context=self._tls() if scheme == "mqtts" else None, timeout=TIMEOUT, queue_type=Inbox,
            max_inflight_messages=IN_FLIGHT, max_concurrent_outgoing_calls=PENDING, socket_options=AT_ONCE,
        )  # fmt: skip
        client.pending_calls_threshold = PENDING
        return client

    def _tls(self) -> ssl.SSLContext:
        # Made anew for every connection: certificates are renewed while we run.
        context = ssl.create_default_context(
            cafile=str(self._options.authority) if self._options.authority else None
        )
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._options.certificate and self._options.key:
            context.load_cert_chain(self._options.certificate, self._options.key)
        return context

    async def _subscribe(self, client: aiomqtt.Client, made: set[str]) -> None:
        for topic_filter in [name for name in self._filters if name not in made]:
            codes = await client.subscribe(topic_filter, qos=1)
            made.add(topic_filter)
            if any(getattr(code, "value", code) >= 0x80 for code in codes):
                log.error("the broker refuses us %s", topic_filter)

    async def _follow_filters(self, client: aiomqtt.Client, made: set[str]) -> None:
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            try:
                await self._subscribe(client, made)
            except aiomqtt.MqttError as error:
                log.info("subscribing: %s", error)
                return

    async def _say_will(self, client: aiomqtt.Client) -> None:
        """Publish the will ourselves before an orderly disconnect, which makes the broker forget it."""
        will = self._options.will
        if will is None:
            return
        try:
            await client.publish(will.topic, will.payload, qos=0, retain=will.retain, timeout=1.0)
        except (aiomqtt.MqttError, ValueError, OSError):
            return  # The connection is broken: then the broker does.

    def _dispatch(self, incoming: aiomqtt.Message) -> None:
        topic, payload = incoming.topic.value, incoming.payload
        message = Message(topic, payload if isinstance(payload, bytes) else b"", retain=incoming.retain)
        for topic_filter, handlers in tuple(self._filters.items()):
            if matches(topic_filter, topic):
                for handler in handlers:
                    handler(message)

    def _tell(self, state: LinkState) -> None:
        for handler in self._watchers:
            handler(state)


def _heed_cancellation() -> None:
    # asyncio.wait_for, which aiomqtt waits with, loses one that comes as its result does (CPython issue 86296).
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _address(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise BadBroker(f"{url}: not mqtts://host[:port] or mqtt://host[:port]")
    return parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]


def open_transport(options: TransportOptions) -> MqttTransport:
    """Return a transport to the brokers of `options`; call inside the event loop."""
    return MqttTransport(options)
