"""Downward: keeps every node's copy of what it may know as it should be. Keys are node names, ALL for the broadcast."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import discovery_v1 as discovery
from edgekube.api.kinds import networking_v1 as networking
from edgekube.api.kinds import node_v1 as node_kinds
from edgekube.api.resource import AnyResource, Key, Object, key_of
from edgekube.api.types import core_v1
from edgekube.control.dns import DNS_CONFIG
from edgekube.control.index import Index
from edgekube.control.informer import Informer, Informers
from edgekube.control.policies import SLICES
from edgekube.control.reader import Copy
from edgekube.control.reconcile import Controller
from edgekube.control.volumes import allows, going
from edgekube.hub.plan import Difference, batches, difference, parse
from edgekube.hub.policies import PolicyFacts
from edgekube.hub.refs import (
    CLAIMS,
    CONFIG_MAPS,
    NAMESPACES,
    OWN,
    POLICIES,
    VOLUMES,
    Ref,
    path_of,
    references,
)
from edgekube.hub.sessions import Session, Sessions
from edgekube.hub.view import Versions, delta
from edgekube.transport.base import Disconnected, Message, Transport
from edgekube.transport.session import Sender
from edgekube.transport.topics import Topics
from edgekube.transport.wire import Done, Kind, ObjectDelta, Objects, SnapshotEnd

log = logging.getLogger(__name__)

ALL = ""
"""The key of what every node gets."""
DNS = Ref(CONFIG_MAPS, *DNS_CONFIG)
"""What every node gets though no pod may name it."""
WORKERS = 4
FOR_ONE: tuple[AnyResource, ...] = (
    core.PODS, core.CONFIG_MAPS, core.SECRETS, core.PERSISTENT_VOLUME_CLAIMS, core.PERSISTENT_VOLUMES,
    networking.NETWORK_POLICIES, core.NAMESPACES,
)  # fmt: skip
FOR_ALL: tuple[AnyResource, ...] = (
    core.SERVICES, discovery.ENDPOINT_SLICES, core.NODES, node_kinds.RUNTIME_CLASSES,
)  # fmt: skip


class Downlink:
    """Computes and sends differences; `controller.queue.add(node)` makes it look."""

    def __init__(
        self, transport: Transport, topics: Topics, informers: Informers, sessions: Sessions
    ) -> None:
        self._transport, self._topics, self._sessions = transport, topics, sessions
        self._versions = Versions()
        self._copies: dict[str, Copy[Any]] = {path_of(r): informers.of(r) for r in (*FOR_ONE, *FOR_ALL)}
        self._broadcast: dict[Ref, str] | None = None
        """What all nodes were told; None while none was: those who come get it by their resync."""
        self._touched: set[Ref] = set()
        """What may differ from that, so that a change costs the same however much there is."""
        pods: Informer[core_v1.Pod] = informers.of(core.PODS)
        # The indexes subscribe before the controller, so that it never reads outdated ones.
        self._on = Index(pods, _node_of)
        self._using = Index(pods, lambda pod: references(pod) if pod.spec.node_name else ())
        self._going = Index(
            informers.of(core.PERSISTENT_VOLUMES), lambda volume: ["going"] if going(volume) else []
        )
        self.controller: Controller[str] = Controller("hub-downlink", self, workers=WORKERS)
        self._policies = PolicyFacts(informers, self._versions, self.controller.queue.add)
        self._copies[SLICES] = self._policies.slices
        self._watch()

    async def reconcile(self, key: str) -> float | None:
        """Send what `key` lacks."""
        try:
            if key == ALL:
                await self._tell_all()
            elif (session := self._sessions.get(key)) is not None:
                await self._tell(key, session)
        except Disconnected as error:
            log.info("%s: %s", key or "all nodes", error)
            if key != ALL and (session := self._sessions.get(key)) is not None:
                session.live = False
        return None

    async def hello(self) -> None:
        """Tell every node that we are here, or that nothing got lost since."""
        await self._say(self._topics.all_down, self._sessions.everybody, Kind.HELLO)

    async def poke(self, node: str, session: Session) -> None:
        """Say something empty: a node that missed the last message notices the gap."""
        await self._give(node, session, Kind.OBJECTS, Objects(()))

    async def _tell(self, node: str, session: Session) -> None:
        wish = self._wish_of(node)
        if session.asked is not None:
            asked, session.asked = session.asked, None
            session.known, session.live = wish, True
            common = self._wish_for_all()
            self._broadcast = common if self._broadcast is None else self._broadcast
            everything = {**common, **wish}
            known = {parse(key): version for key, version in asked.items() if key.count("/") >= 3}
            # What is surplus goes by not being on the final list.
            await self._send(node, session, Difference(difference(everything, known).changed, ()), everything)
            digest = SnapshotEnd({str(ref): version for ref, version in everything.items()})
            await self._give(node, session, Kind.SNAPSHOT_END, digest)
        elif session.live:
            found = difference(wish, session.known)
            session.known = wish
            await self._send(node, session, found, wish)
        await self._answer(node, session)

    async def _answer(self, node: str, session: Session) -> None:
        answers, session.answers = session.answers, []
        for kind, body in answers:
            await self._say(self._topics.down(node), session.sender, kind, body)
        if session.done:
            done, session.done = session.done, set()
            body = Done(session.receiver.epoch, tuple(sorted(done)))
            await self._say(self._topics.down(node), session.sender, Kind.DONE, body)

    async def _tell_all(self) -> None:
        touched, self._touched = self._touched, set()
        told = self._broadcast
        if told is None:
            self._broadcast = self._wish_for_all()
            return
        wish: dict[Ref, str] = {}
        for ref in touched:
            self._add(wish, ref)
        found = difference(wish, {ref: told[ref] for ref in touched if ref in told})
        told.update(wish)
        for ref in found.gone:
            del told[ref]
        for batch in batches(self._deltas(found, wish)):
            await self._say(self._topics.all_down, self._sessions.everybody, Kind.OBJECTS, Objects(batch))

    async def _send(self, node: str, session: Session, found: Difference, wish: Mapping[Ref, str]) -> None:
        for batch in batches(self._deltas(found, wish)):
            await self._give(node, session, Kind.OBJECTS, Objects(batch))

    async def _give(self, node: str, session: Session, kind: Kind, body: object) -> None:
        """Say something that the node acknowledges once it is on its disk."""
        session.owed, session.sent_at = session.sender.seq + 1, asyncio.get_running_loop().time()
        await self._say(self._topics.down(node), session.sender, kind, body)

    async def _say(self, topic: str, sender: Sender, kind: Kind, body: object = None) -> None:
        await self._transport.publish(Message(topic, sender.encode(kind, body)))

    def _deltas(self, found: Difference, wish: Mapping[Ref, str]) -> Iterable[ObjectDelta]:
        for ref in found.changed:
            obj = self._copies[ref.path].get(Key(ref.namespace, ref.name))
            if obj is not None:
                yield delta(ref, wish[ref], obj)
        for ref in found.gone:
            yield ObjectDelta(ref.path, ref.namespace, ref.name, "", b"")

    def _wish_of(self, node: str) -> dict[Ref, str]:
        """Return what a node should have of its own: its pods, and what they refer to."""
        pods = path_of(core.PODS)
        wish: dict[Ref, str] = {}
        held = self._on.of(node)
        wish |= self._policies.wish(node, held)
        self._add(wish, DNS)
        for pod in held:
            wanted = Ref(pods, *key_of(pod))
            for ref in (*references(pod), wanted):
                obj = self._copies[ref.path].get(Key(ref.namespace, ref.name))
                if obj is None:
                    continue
                wish[ref] = self._versions.of(ref, obj)
                if ref.path == CLAIMS and obj.spec.volume_name:
                    self._add(wish, Ref(VOLUMES, "", obj.spec.volume_name))
        for volume in self._going.of("going"):
            if self._holds(node, volume):
                self._add(wish, Ref(VOLUMES, *key_of(volume)))
        return wish

    def _add(self, wish: dict[Ref, str], ref: Ref) -> None:
        obj = self._copies[ref.path].get(Key(ref.namespace, ref.name))
        if obj is not None:
            wish[ref] = self._versions.of(ref, obj)

    def _holds(self, node: str, volume: core_v1.PersistentVolume) -> bool:
        """Tell whether a volume's data is on that node, whose turn it is to remove it."""
        found = self._copies[path_of(core.NODES)].get(Key("", node))
        return (
            found is not None
            and volume.spec.node_affinity is not None
            and allows(volume, node, found.metadata.labels)
        )

    def _wish_for_all(self) -> dict[Ref, str]:
        wish = {}
        for resource in FOR_ALL:
            path = path_of(resource)
            for obj in self._copies[path]:
                ref = Ref(path, *key_of(obj))
                wish[ref] = self._versions.of(ref, obj)
        return wish

    def _watch(self) -> None:
        for path, copy in self._copies.items():
            copy.subscribe(self._noter(path))
            self.controller.watch(copy, self._keys(path))

    def _keys(self, path: str) -> Callable[[Object], Iterable[str]]:
        if path not in OWN:
            return lambda _obj: (ALL,)
        if path == path_of(core.PODS):
            return _node_of
        if path == VOLUMES:
            return self._keys_of_volume
        if path == SLICES:
            return self._policies.users
        if path in {POLICIES, NAMESPACES}:
            return lambda _obj: ()  # Who has to look at them, the policies' facts say.
        return lambda obj: self._users(Ref(path, *key_of(obj)))

    def _users(self, ref: Ref) -> set[str]:
        """Return the nodes that get an object because their pods name it, or because all get it."""
        users = {pod.spec.node_name for pod in self._using.of(ref)}
        return users | set(dict(self._sessions)) if ref == DNS else users

    def _keys_of_volume(self, volume: Any) -> Iterable[str]:
        """Return the nodes that use a volume, and those that have to remove it."""
        ref = volume.spec.claim_ref
        users = self._using.of(Ref(CLAIMS, ref.namespace, ref.name)) if ref else ()
        nodes = {pod.spec.node_name for pod in users}
        if going(volume):
            nodes |= {name for name in dict(self._sessions) if self._holds(name, volume)}
        return nodes

    def _noter(self, path: str) -> Callable[[Object | None, Object | None], None]:
        common = path in {path_of(resource) for resource in FOR_ALL}

        def note(old: Object | None, new: Object | None) -> None:
            obj = old if new is None else new
            if obj is None:
                return
            ref = Ref(path, *key_of(obj))
            if new is None:
                self._versions.forget(ref)
            if common:
                self._touched.add(ref)

        return note


def _node_of(pod: Any) -> Iterable[str]:
    return (pod.spec.node_name,) if pod.spec.node_name else ()
