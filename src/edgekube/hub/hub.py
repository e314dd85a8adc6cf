"""
The master's end of the wire: one task group beside the API server.

Downward, `Downlink` keeps what every node may know as it should be. Upward, reports wait in
coalescing places, one for each pod, node and event, until they are written through the API; then
the node is told that they are done. Nothing here is state that could be lost: what a node was
sent it can name, what a node said it says again.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping

from edgekube.api.kinds.core_v1 import PODS
from edgekube.api.resource import Key
from edgekube.client.typed import Client
from edgekube.control.clock import Clock
from edgekube.control.informer import Informers
from edgekube.control.reconcile import Controller
from edgekube.hub.downlink import Downlink
from edgekube.hub.eventreports import EventReports
from edgekube.hub.leases import Leases
from edgekube.hub.metrics import MetricsWriter
from edgekube.hub.mirrorpods import MirrorPods
from edgekube.hub.nodereports import SETTLE, NodeReports
from edgekube.hub.podreports import PodReports
from edgekube.hub.sessions import Presence, Session, Sessions
from edgekube.hub.tokens import TokenDesk
from edgekube.hub.uplink import Uplink
from edgekube.hub.volumereports import VolumeReports
from edgekube.transport.base import Disconnected, LinkState, Message, Transport
from edgekube.transport.topics import Topics, node_of
from edgekube.transport.wire import (
    Ack,
    Envelope,
    EventReport,
    Kind,
    MirrorPod,
    NodeStatusReport,
    PodGone,
    PodStatusReport,
    Request,
    Resync,
    StatsReport,
    VolumeGone,
)

log = logging.getLogger(__name__)

RENEW = 10.0
"""Seconds between two renewals of Leases, and looks at who is silent."""
RETURN = 45.0
"""Seconds nodes have to say something after our own connection came back."""
UNACKED = 10.0
"""Seconds a node has to acknowledge before it is poked; doubled up to UNACKED_LIMIT."""
UNACKED_LIMIT = 300.0
HELLO_EVERY = 60.0
REQUESTS = 256
"""Requests under way at once; more are dropped, and the node asks again."""


class Hub:
    """
    Carries the cluster to nodes and back; the caller runs `transport` and `informers`.

    The transport's will should be an empty message on `topics.all_gone`.
    """

    name = "hub"

    def __init__(
        self, transport: Transport, client: Client, informers: Informers, topics: Topics, *, epoch: str,
        clock: Clock = time.time,
    ) -> None:  # fmt: skip
        self.sessions = Sessions(epoch)
        self.downlink = Downlink(transport, topics, informers, self.sessions)
        self.uplink = Uplink(self.sessions, self._appeared)
        self._pods = PodReports(client, informers, self._confirm)
        self._nodes = NodeReports(client, informers, self.sessions, self._confirm, clock=clock)
        self._events = EventReports(client, self._confirm)
        self._volumes = VolumeReports(client, informers, self._confirm)
        self._mirrors = MirrorPods(client, informers, self._confirm)
        self._leases = Leases(client, informers, clock=clock)
        self._desk = TokenDesk(client, informers)
        self._measures = _Measures(MetricsWriter(client, self._labels_of))
        self._copies = informers.of(PODS)
        self._asked: set[tuple[str, str, int]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._connected = asyncio.Event()
        self._since = 0.0
        self._rows()
        transport.subscribe(topics.up("+"), self.uplink.arrive)
        transport.subscribe(topics.gone("+"), self._gone)
        transport.on_state(self._state)

    def _labels_of(self, key: Key) -> Mapping[str, str]:
        pod = self._copies.get(key)
        return pod.metadata.labels if pod is not None else {}

    @property
    def stats(self) -> Mapping[str, bytes]:
        """The newest summary of each node (kubelet summary API shape, JSON)."""
        return self._measures.stats

    def present(self, node: str) -> bool:
        """Tell whether a node has a connection."""
        return self.sessions.present(node)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                group.create_task(self.downlink.controller.run(), name="hub-downlink")
                group.create_task(self._pods.controller.run(), name="hub-pods")
                group.create_task(self._nodes.controller.run(), name="hub-nodes")
                group.create_task(self._events.controller.run(), name="hub-events")
                group.create_task(self._volumes.controller.run(), name="hub-volumes")
                group.create_task(self._mirrors.controller.run(), name="hub-mirrors")
                group.create_task(self._measures.controller.run(), name="hub-stats")
                group.create_task(self._say_hello(), name="hub-hello")
                group.create_task(self._tend(), name="hub-presence")
                await asyncio.Event().wait()
            finally:
                self._group = None

    # --- What nodes say

    def _rows(self) -> None:
        on = self.uplink.on
        on(Kind.RESYNC, Resync, self._resync)
        on(Kind.ACK, Ack, self._acknowledged)
        on(Kind.GOODBYE, None, self._goodbye)
        on(Kind.REQUEST, Request, self._request)
        on(Kind.POD_STATUS, PodStatusReport, lambda node, e, body: self._pods.take(node, e.seq, body))
        on(Kind.POD_GONE, PodGone, lambda node, e, body: self._pods.take(node, e.seq, body))
        on(Kind.MIRROR_POD, MirrorPod, lambda node, e, body: self._mirrors.take(node, e.seq, body))
        on(Kind.VOLUME_GONE, VolumeGone, lambda node, e, body: self._volumes.take(node, e.seq, body))
        on(Kind.NODE_STATUS, NodeStatusReport, lambda node, e, body: self._nodes.take(node, e.seq, body.raw))
        on(Kind.EVENT, EventReport, lambda node, e, body: self._events.take(node, e.seq, body))
        on(Kind.STATS, StatsReport, lambda node, _e, body: self._measures.take(node, body.summary))

    def _resync(self, node: str, _envelope: Envelope, body: Resync) -> None:
        self.sessions.of(node).asked = body.digest
        self.downlink.controller.queue.add(node)

    def _acknowledged(self, node: str, _envelope: Envelope, body: Ack) -> None:
        session = self.sessions.of(node)
        if body.epoch == session.sender.epoch:
            session.acked, session.patience = max(session.acked, body.own), UNACKED

    def _goodbye(self, node: str, _envelope: Envelope, _body: None) -> None:
        session = self.sessions.of(node)
        session.presence, session.live = Presence.LEFT, False
        log.info("node %s says goodbye", node)
        self._nodes.look(node)

    def _request(self, node: str, envelope: Envelope, body: Request) -> None:
        key = (node, envelope.epoch, body.id)
        if self._group is not None and key not in self._asked and len(self._asked) < REQUESTS:
            self._asked.add(key)
            self._group.create_task(self._answer(key, body), name=f"hub-request-{node}")

    async def _answer(self, key: tuple[str, str, int], request: Request) -> None:
        node, epoch, _ = key
        try:
            reply = await self._desk.answer(node, request)
        finally:
            self._asked.discard(key)
        session = self.sessions.of(node)
        if session.receiver.epoch == epoch:
            session.answers.append((Kind.REPLY, reply))
            self.downlink.controller.queue.add(node)

    def _confirm(self, node: str, seqs: Iterable[int]) -> None:
        session = self.sessions.get(node)
        wanted = set(seqs)
        if session is not None and wanted:
            session.done |= wanted
            self.downlink.controller.queue.add(node)

    # --- Presence

    def _appeared(self, node: str) -> None:
        log.info("node %s is here", node)
        self._nodes.look(node)
        if self._group is not None:
            self._group.create_task(self._leases.renew(node), name=f"hub-lease-{node}")

    def _gone(self, message: Message) -> None:
        node = node_of(message.topic)
        session = self.sessions.get(node)
        if session is not None and session.presence is Presence.PRESENT:
            self._lost(node, session)

    def _lost(self, node: str, session: Session) -> None:
        log.info("node %s is gone", node)
        session.presence, session.live = Presence.GONE, False
        self._nodes.look(node, after=SETTLE)

    def _state(self, state: LinkState) -> None:
        if state is LinkState.DOWN:
            self._connected.clear()
            return
        # Whatever was under way is lost: a new epoch makes every node resync and repeat.
        self.sessions.renew()
        self._since = asyncio.get_running_loop().time()
        self._connected.set()

    async def _say_hello(self) -> None:
        """Greet at every new connection, and now and then, so that a lost last broadcast is noticed."""
        while True:
            await self._connected.wait()
            epoch = self.sessions.epoch
            try:
                await self.downlink.hello()
            except Disconnected as error:
                log.info("no hello: %s", error)
            for _ in range(int(HELLO_EVERY)):
                await asyncio.sleep(1)
                if epoch != self.sessions.epoch:
                    break

    async def _tend(self) -> None:
        """Renew the Leases of who is here, poke who does not acknowledge, give up who stays silent."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(RENEW)
            now = loop.time()
            for node, session in self.sessions:
                if session.presence is not Presence.PRESENT:
                    continue
                if not session.heard and self._connected.is_set() and now - self._since > RETURN:
                    self._lost(node, session)
                    continue
                await self._leases.renew(node)
                await self._check(node, session, now)

    async def _check(self, node: str, session: Session, now: float) -> None:
        session.patience = session.patience or UNACKED
        waiting = session.live and session.acked < session.owed
        if not waiting or now - session.sent_at < session.patience:
            return
        session.patience = min(2 * session.patience, UNACKED_LIMIT)
        try:
            await self.downlink.poke(node, session)
        except Disconnected:
            log.debug("%s not poked", node)


class _Measures:
    """The newest summary of each node, in memory and as metrics."""

    def __init__(self, writer: MetricsWriter) -> None:
        self.stats: dict[str, bytes] = {}
        self._writer = writer
        self.controller: Controller[str] = Controller("hub-stats", self)

    def take(self, node: str, summary: bytes) -> None:
        """Remember a summary."""
        self.stats[node] = summary
        self.controller.queue.add(node)

    async def reconcile(self, node: str) -> float | None:
        """Show a node's newest summary as metrics."""
        await self._writer.write(node, self.stats[node])
        return None
