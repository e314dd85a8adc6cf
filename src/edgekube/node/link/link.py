"""
The agent's end of the wire.

The mirror is filled from this node's disk at start and from the hub's deltas later; a delta counts
as received once it is on disk. Whatever may have been missed (a reconnect, a gap in the numbers, a
new hub) is made good by a resync: we send what we have, the hub sends the difference.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Hashable
from pathlib import Path

import msgspec

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.control.mirror import Mirror, NodeEvent
from edgekube.node.link.inbound import Inbound
from edgekube.node.link.outbox import Outbox
from edgekube.node.link.talk import Talk
from edgekube.node.link.tokens import Tokens
from edgekube.transport.base import Disconnected, LinkState, Message, StreamHandler, Transport
from edgekube.transport.session import Sender, Switch
from edgekube.transport.streams import Acceptor
from edgekube.transport.topics import Topics
from edgekube.transport.wire import (
    Ack,
    Done,
    Kind,
    MirrorPod,
    NodeStatusReport,
    PodGone,
    PodStatusReport,
    Reply,
    Request,
    Resync,
    StatsReport,
    VolumeGone,
)

log = logging.getLogger(__name__)

ASK_AGAIN = 5.0
"""Seconds without an answer after which a resync is asked for again, doubled up to ASK_LIMIT."""
ASK_LIMIT = 60.0
ASK_PAUSE = 0.5
"""Seconds between two resyncs, whatever happens."""
BATCH = 64
"""Reports under way at once."""
GOODBYE_TIMEOUT = 2.0

Clock = Callable[[], float]


class NodeLink:
    """
    Fills `mirror`, implements `control.mirror.Reporter`. `run` also runs the transport.

    The transport's will should be an empty message on `Topics(cluster).gone(node)`.
    """

    name = "link"

    def __init__(
        self, transport: Transport, cluster: str, node: str, directory: Path, *, clock: Clock = time.time,
        epoch: str = "",
    ) -> None:  # fmt: skip
        topics = Topics(cluster)
        self._transport, self._topics, self._node = transport, topics, node
        self._sender = Sender(epoch or secrets.token_hex(6))
        self._outbox, self._talk = Outbox(), Talk(clock)
        self._tokens = Tokens(self._request, clock)
        self._told, self._ask, self._up = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._asking = self._unasked = False
        self._acceptor: Acceptor | None = None
        self._inbound = Inbound(
            directory, want=self._want, satisfied=self._satisfied, acknowledge=self._acknowledge
        )
        self._inbound.subscribe(transport, topics, node)
        self.switch.on(Kind.DONE, Done, lambda _e, body: self._confirmed(body))
        self.switch.on(Kind.REPLY, Reply, lambda _e, body: self._tokens.answer(body))
        self.mirror.pods.subscribe(self._pod_changed)
        transport.on_state(self._state)

    @property
    def mirror(self) -> Mirror:
        """What this node may know."""
        return self._inbound.wish.mirror

    @property
    def switch(self) -> Switch:
        """Counts malformed messages and unknown kinds."""
        return self._inbound.switch

    @property
    def connected(self) -> bool:
        """Whether there is a broker now."""
        return self._up.is_set()

    @property
    def unconfirmed(self) -> int:
        """How many reports the hub has not confirmed."""
        return len(self._outbox)

    def serve_streams(self, handler: StreamHandler) -> None:
        """Serve logs, exec, attach and port-forward with `handler`; call before `run`."""
        self._acceptor = Acceptor(self._transport, self._topics, self._node, handler)

    async def run(self) -> None:
        """Keep mirror and hub up to date until cancelled; says goodbye then."""
        # The transport outlives the other tasks by a moment, for the goodbye.
        carrier = asyncio.create_task(self._transport.run(), name="transport")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_follow(carrier), name="link-transport")
                group.create_task(self._inbound.save(), name="link-disk")
                group.create_task(self._tell(), name="link-reports")
                group.create_task(self._resync(), name="link-resync")
                if self._acceptor is not None:
                    group.create_task(self._acceptor.run(), name="link-streams")
        finally:
            await self._goodbye()
            carrier.cancel()
            await asyncio.wait((carrier,))

    # --- Reporter

    def pod_status(self, key: Key, uid: str, status: core_v1.PodStatus) -> None:
        """Report a pod's status; only the newest of a pod matters."""
        report = PodStatusReport(key.namespace, key.name, uid, msgspec.json.encode(status))
        self._put(("pod", uid), Kind.POD_STATUS, report, kept=True)

    def pod_gone(self, key: Key, uid: str) -> None:
        """Report that a pod being deleted has ended and left nothing behind."""
        self._outbox.drop([("pod", uid)])
        self._put(("gone", uid), Kind.POD_GONE, PodGone(key.namespace, key.name, uid))

    def volume_gone(self, name: str, uid: str) -> None:
        """Report that the data of a volume being deleted are removed."""
        self._put(("volume", uid), Kind.VOLUME_GONE, VolumeGone(name, uid))

    def mirror_pod(self, pod: core_v1.Pod) -> None:
        """Ask for a mirror of a static pod; harmless when there is one."""
        self._put(("mirror", pod.metadata.uid), Kind.MIRROR_POD, MirrorPod(msgspec.json.encode(pod)))

    def node_status(self, node: core_v1.Node) -> None:
        """Report labels, annotations, taints and status of this node."""
        self._put("node", Kind.NODE_STATUS, NodeStatusReport(msgspec.json.encode(node)), kept=True)

    def event(self, event: NodeEvent) -> None:
        """Report an event; repeats are counted, the rate is bounded."""
        heard = self._talk.hear(event)
        if heard is not None:
            report, wait = heard
            self._put(("event", event), Kind.EVENT, report, wait=wait)

    def stats(self, summary: bytes) -> None:
        """Report resource usage; an older report that was not sent yet is forgotten."""
        self._put("stats", Kind.STATS, StatsReport(summary), confirmed=False)

    async def service_account_token(
        self, key: Key, audience: str, seconds: int, pod: core_v1.Pod
    ) -> tuple[str, str]:
        """Return a token for ServiceAccount `key` bound to `pod`, and its expiry; raises Disconnected."""
        return await self._tokens.get(key, audience, seconds, pod)

    # --- Sending

    def _put(
        self, slot: Hashable, kind: Kind, body: object, *, kept: bool = False, confirmed: bool = True,
        wait: float = 0.0,
    ) -> None:  # fmt: skip
        due = asyncio.get_running_loop().time() + wait if wait else 0.0
        self._outbox.put(slot, kind, body, kept=kept, confirmed=confirmed, due=due)
        self._told.set()

    def _acknowledge(self, ack: Ack) -> None:
        self._put("ack", Kind.ACK, ack, confirmed=False)

    def _request(self, request: Request) -> None:
        if not self.connected:
            raise Disconnected(self._node)
        self._put(("request", request.id), Kind.REQUEST, request, confirmed=False)

    async def _tell(self) -> None:
        """Send what is due, while there is a connection."""
        loop = asyncio.get_running_loop()
        while True:
            await self._up.wait()
            self._told.clear()
            slots = self._outbox.due(loop.time())[:BATCH]
            if slots:
                await asyncio.gather(*(self._send(slot) for slot in slots))
                continue
            try:
                async with asyncio.timeout_at(self._outbox.next_due()):
                    await self._told.wait()
            except TimeoutError:
                continue

    async def _send(self, slot: Hashable) -> None:
        item = self._outbox.get(slot)
        if item is None or item.done:
            return
        payload = self._sender.encode(item.kind, item.body)
        self._outbox.sent(slot, self._sender.seq, asyncio.get_running_loop().time())
        try:
            await self._transport.publish(Message(self._topics.up(self._node), payload))
        except Disconnected as error:
            log.debug("not sent: %s", error)  # What matters is due again later.

    def _confirmed(self, body: Done) -> None:
        if body.epoch == self._sender.epoch:
            self._outbox.confirm(body.seqs)

    def _pod_changed(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            uid = old.metadata.uid
            self._outbox.drop([("pod", uid), ("gone", uid)])
            self._tokens.forget(uid)

    # --- Presence and resync

    def _state(self, state: LinkState) -> None:
        if state is LinkState.DOWN:
            self._up.clear()
            return
        self._inbound.restart()
        self._up.set()
        self._outbox.again(everything=False)
        self._told.set()
        self._want(everything=False)

    def _want(self, *, everything: bool) -> None:
        if everything:
            self._outbox.again(everything=True)
            self._told.set()
        self._asking = self._unasked = True
        self._ask.set()

    def _satisfied(self) -> None:
        # An answer to an earlier question may not cover why we want to ask once more.
        self._asking = self._unasked
        self._ask.set()

    async def _resync(self) -> None:
        """Ask for the difference until a complete answer came."""
        delay = ASK_AGAIN
        while True:
            await self._up.wait()
            self._ask.clear()
            if not self._asking:
                delay = ASK_AGAIN
                await self._ask.wait()
                continue
            self._unasked = False
            payload = self._sender.encode(Kind.RESYNC, Resync(dict(self._inbound.wish.digest)))
            try:
                await self._transport.publish(Message(self._topics.up(self._node), payload))
            except Disconnected as error:
                log.debug("resync not asked for: %s", error)
            await asyncio.sleep(ASK_PAUSE)
            try:
                async with asyncio.timeout(delay):
                    await self._ask.wait()
            except TimeoutError:
                # Perhaps the answer came and was taken for something old.
                self._inbound.restart()
                delay = min(delay * 2, ASK_LIMIT)

    async def _goodbye(self) -> None:
        if not self.connected:
            return
        payload = self._sender.encode(Kind.GOODBYE)
        try:
            async with asyncio.timeout(GOODBYE_TIMEOUT):
                await self._transport.publish(Message(self._topics.up(self._node), payload))
        except (Disconnected, TimeoutError):
            log.info("no goodbye: the broker is away")


async def _follow(carrier: "asyncio.Task[None]") -> None:
    await asyncio.shield(carrier)
