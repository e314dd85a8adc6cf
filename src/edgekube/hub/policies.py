"""
What network policies mean on each node: which policies select its pods, and which pods they speak of.

See `control.policies` for why the master answers the selectors. Everything is kept up to date
change by change: a pod's costs as much as there are different selectors about its namespace.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import networking_v1 as networking
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, meta_v1, networking_v1
from edgekube.control.informer import Informers
from edgekube.control.policies import (
    SLICES,
    PeerQuery,
    PeerSlice,
    addresses_of,
    bucket_of,
    is_subject,
    queries,
    selects,
)
from edgekube.control.reader import Copy
from edgekube.control.selectorindex import SelectorIndex
from edgekube.hub.refs import NAMESPACES, POLICIES, Ref
from edgekube.hub.view import Versions


class _Peer(NamedTuple):
    """A pod as an answer."""

    node: str
    addresses: tuple[str, ...]
    ports: tuple[int, ...]


class PolicyFacts:
    """Follows policies, namespaces and pods; `look(node)` is called when a node's part may have changed."""

    def __init__(self, informers: Informers, versions: Versions, look: Callable[[str], None]) -> None:
        self.slices: Copy[PeerSlice] = Copy()
        self.slices.synced.set()
        self._versions = versions
        self._look = look
        self._version = 0
        self._pods = informers.of(core.PODS)
        self._namespaces = informers.of(core.NAMESPACES)
        self._policies = informers.of(networking.NETWORK_POLICIES)
        self._in: dict[str, dict[Key, core_v1.Pod]] = {}
        """Pods by namespace."""
        self._policies_in: dict[str, dict[Key, networking_v1.NetworkPolicy]] = {}
        self._asked: dict[Key, dict[str, PeerQuery]] = {}
        """Queries of each policy."""
        self._queries: dict[str, PeerQuery] = {}
        self._askers: dict[str, set[Key]] = {}
        """Policies by query."""
        self._answers: dict[str, dict[int, dict[Key, _Peer]]] = {}
        """Query, bucket, pod."""
        self._shown: dict[str, dict[Ref, str]] = {}
        """The slices of each query, and their versions."""
        self._selected: dict[Key, Counter[str]] = {}
        """How many pods a policy selects on each node."""
        self._selecting: SelectorIndex[Key] = SelectorIndex()
        self._asking: SelectorIndex[str] = SelectorIndex()
        self._policies.subscribe(self._policy_changed)
        self._namespaces.subscribe(self._namespace_changed)
        self._pods.subscribe(self._pod_changed)

    def wish(self, node: str, pods: tuple[core_v1.Pod, ...]) -> dict[Ref, str]:
        """Return what a node with these pods needs to enforce what is about them, and the versions."""
        wish: dict[Ref, str] = {}
        wanted: set[str] = set()
        spaces = {pod.metadata.namespace for pod in pods}
        for namespace in spaces:
            for key, policy in self._policies_in.get(namespace, {}).items():
                if self._selected[key][node]:
                    ref = Ref(POLICIES, *key)
                    wish[ref] = self._versions.of(ref, policy)
                    wanted |= self._asked[key].keys()
        for namespace in spaces if wanted else ():
            space = self._namespaces.get(Key("", namespace))
            if space is not None:
                ref = Ref(NAMESPACES, "", namespace)
                wish[ref] = self._versions.of(ref, space)
        for name in wanted:
            wish |= self._shown[name]
        return wish

    def users(self, piece: Any) -> set[str]:
        """Return the nodes that enforce a policy which asks what the slice answers."""
        return {
            node
            for key in self._askers.get(piece.query, ())
            for node, count in self._selected[key].items()
            if count
        }

    # --- Policies

    def _policy_changed(
        self, old: networking_v1.NetworkPolicy | None, new: networking_v1.NetworkPolicy | None
    ) -> None:
        if old is not None and new is not None and old.spec == new.spec:
            return
        policy = new or old
        assert policy is not None
        key = key_of(policy)
        known = self._policies_in.setdefault(key.namespace, {})
        nodes = set(self._selected.pop(key, ()))
        wanted: dict[str, PeerQuery] = {}
        if new is not None:
            known[key] = new
            self._selecting.put(key, key.namespace, new.spec.pod_selector)
            pods = self._in.get(key.namespace, {}).values()
            self._selected[key] = Counter(_node(pod) for pod in pods if selects(new, pod))
            nodes |= set(self._selected[key])
            wanted = queries(new)
        else:
            known.pop(key, None)
            self._selecting.drop(key)
        before = self._asked.pop(key, {})
        if new is not None:
            self._asked[key] = wanted
        for name, query in wanted.items():
            self._ask(name, query, key)
        for name in before.keys() - wanted.keys():
            self._forget(name, key)
        for node in nodes - {""}:
            self._look(node)

    def _ask(self, name: str, query: PeerQuery, asker: Key) -> None:
        self._askers.setdefault(name, set()).add(asker)
        if name in self._queries:
            return
        self._queries[name] = query
        self._answers[name], self._shown[name] = {}, {}
        self._asking.put(name, query.namespace, query.pods)
        pods = self._in.get(query.namespace, {}).values() if query.namespace else self._pods
        touched: set[int] = set()
        for pod in pods:
            peer = self._peer(query, pod)
            if peer is not None:
                bucket = bucket_of(peer.node)
                self._answers[name].setdefault(bucket, {})[key_of(pod)] = peer
                touched.add(bucket)
        for bucket in touched:
            self._show(name, bucket)

    def _forget(self, name: str, asker: Key) -> None:
        self._askers[name].discard(asker)
        if self._askers[name]:
            return
        del self._askers[name], self._queries[name]
        self._asking.drop(name)
        del self._shown[name]
        for bucket in self._answers.pop(name):
            self.slices.drop(Key("", _name(name, bucket)))

    # --- Pods and namespaces

    def _namespace_changed(self, old: core_v1.Namespace | None, new: core_v1.Namespace | None) -> None:
        before = old.metadata.labels if old is not None else {}
        after = new.metadata.labels if new is not None else {}
        one = new or old
        if one is None or before == after:
            return
        pods = tuple(self._in.get(one.metadata.name, {}).values())
        for pod in pods:
            self._answer(pod, pod)
        for node in {_node(pod) for pod in pods} - {""}:
            self._look(node)

    def _pod_changed(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        if old is not None and new is not None and _seen(old) == _seen(new):
            self._in[new.metadata.namespace][key_of(new)] = new
            return
        pod = new or old
        assert pod is not None
        key = key_of(pod)
        held = self._in.setdefault(key.namespace, {})
        if new is not None:
            held[key] = new
        else:
            held.pop(key, None)
            if not held:
                del self._in[key.namespace]
        for form, count in ((old, -1), (new, 1)):
            if form is not None:
                self._select(form, count)
        self._answer(old, new)

    def _select(self, pod: core_v1.Pod, count: int) -> None:
        """Count the pod where it is selected; its own node looks anyway, because it has changed."""
        namespace, node = pod.metadata.namespace, _node(pod)
        for key in self._selecting.candidates(namespace, pod.metadata.labels):
            if selects(self._policies_in[namespace][key], pod):
                counts = self._selected[key]
                counts[node] += count
                if not counts[node]:
                    del counts[node]

    def _answer(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        """Bring a pod's part of every answer up to date."""
        found: dict[tuple[str, int, Key], _Peer | None] = {}
        for pod in (old, new):
            if pod is not None:
                bucket, key = bucket_of(_node(pod)), key_of(pod)
                for name in self._asking.candidates(pod.metadata.namespace, pod.metadata.labels):
                    found[name, bucket, key] = self._peer(self._queries[name], pod) if pod is new else None
        for (name, bucket, key), peer in found.items():
            answers = self._answers[name]
            if answers.get(bucket, {}).get(key) == peer:
                continue
            if peer is not None:
                answers.setdefault(bucket, {})[key] = peer
            else:
                del answers[bucket][key]
            self._show(name, bucket)

    def _peer(self, query: PeerQuery, pod: core_v1.Pod) -> _Peer | None:
        """Return the pod as an answer, or None if it is none or has no address yet."""
        addresses, meta = addresses_of(pod), pod.metadata
        if not addresses or not is_subject(pod):
            return None
        space = self._namespaces.get(Key("", meta.namespace))
        if not query.matches(meta.namespace, meta.labels, space.metadata.labels if space is not None else {}):
            return None
        ports = query.ports(pod)
        return _Peer(_node(pod), addresses, ports) if ports else None

    def _show(self, name: str, bucket: int) -> None:
        """Publish a slice, or withdraw an empty one."""
        pods, ref = self._answers[name][bucket], Ref(SLICES, "", _name(name, bucket))
        if not pods:
            del self._answers[name][bucket]
            del self._shown[name][ref]
            self.slices.drop(Key("", ref.name))
            return
        peers: dict[str, dict[int, tuple[str, ...]]] = {}
        for peer in sorted(pods.values()):
            for port in peer.ports:
                ports = peers.setdefault(peer.node, {})
                ports[port] = (*ports.get(port, ()), *peer.addresses)
        self._version += 1
        meta = meta_v1.ObjectMeta(name=ref.name, resource_version=str(self._version))
        piece = PeerSlice(metadata=meta, query=name, peers=peers)
        self._shown[name][ref] = self._versions.of(ref, piece)
        self.slices.set(piece)


def _name(query: str, bucket: int) -> str:
    return f"{query}.{bucket}"


def _node(pod: core_v1.Pod) -> str:
    return pod.spec.node_name or ""


def _seen(pod: core_v1.Pod) -> tuple[object, ...]:
    """Return what of a pod matters here."""
    return _node(pod), pod.metadata.labels, pod.metadata.uid, addresses_of(pod), is_subject(pod)
