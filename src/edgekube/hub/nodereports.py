"""Upward: the Node object as the agent reports it, and its Ready condition when the agent is away. Keys are node names."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edgekube.api.errors import AlreadyExists
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.client.typed import Client
from edgekube.control.clock import Clock, stamp
from edgekube.control.informer import Informers
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.hub.confirm import Confirm
from edgekube.hub.sessions import Presence, Sessions
from edgekube.hub.view import tree_of

OWNED = "edgekube.io/agent-labels"
"""Annotation: the labels that the agent set, so that they go when the agent no longer says them."""
SETTLE = 1.0
"""Seconds a lost connection may take to come back before the node counts as unreachable."""
REPORTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
UNKNOWN = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
STOPPED = ("False", "KubeletStopped", "the node's agent was stopped")


@dataclass(slots=True)
class _Report:
    node: core_v1.Node
    seqs: list[int] = field(default_factory=list)


class NodeReports:
    """Creates and updates Nodes; `controller.queue.add(name)` makes it look."""

    def __init__(
        self, client: Client, informers: Informers, sessions: Sessions, confirm: Confirm, *,
        clock: Clock = time.time,
    ) -> None:  # fmt: skip
        self._client, self._sessions, self._confirm, self._clock = client, sessions, confirm, clock
        self._nodes = informers.of(core.NODES)
        self._writer = Writer(client, self._nodes)
        self._reports: dict[str, _Report] = {}
        self.controller: Controller[str] = Controller("hub-nodes", self, workers=2)
        self.controller.watch(self._nodes, lambda _node: ())

    def take(self, name: str, seq: int, raw: bytes) -> None:
        """Queue a report; a malformed one is dropped."""
        try:
            node = msgspec.json.decode(raw, type=core_v1.Node)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._confirm(name, (seq,))
            return
        known = self._reports.get(name)
        self._reports[name] = _Report(node, [*(known.seqs if known else ()), seq])
        self.controller.queue.add(name)

    def look(self, name: str, *, after: float = 0.0) -> None:
        """Look at a node whose presence changed, in `after` seconds."""
        if after:
            self.controller.queue.add_after(name, after)
        else:
            self.controller.queue.add(name)

    async def reconcile(self, name: str) -> float | None:
        """Write the report of a node that is there, or that nobody knows of one that is not."""
        session, report = self._sessions.get(name), self._reports.get(name)
        node = self._nodes.get(Key("", name))
        if session is None:
            return None
        if session.presence is not Presence.PRESENT:
            if node is not None:
                await self._away(node, UNKNOWN if session.presence is Presence.GONE else STOPPED)
            return None
        if report is None:
            return None
        seqs = tuple(report.seqs)
        if node is None and seqs:
            node = await self._create(name, report.node)
        if node is not None:
            await self._write(node, report.node)
        self._confirm(name, seqs)
        del report.seqs[: len(seqs)]
        return None

    async def _create(self, name: str, report: core_v1.Node) -> core_v1.Node:
        meta = report.metadata
        labels = {"kubernetes.io/hostname": name, **meta.labels}
        fresh = core_v1.Node(
            metadata=meta_v1.ObjectMeta(
                name=name, labels=labels, annotations={**meta.annotations, OWNED: ",".join(sorted(labels))}
            ),
            spec=core_v1.NodeSpec(taints=report.spec.taints),
        )
        try:
            return await self._writer.create(fresh)
        except AlreadyExists:
            return await self._client.get(core.NODES, Key("", name))

    async def _write(self, node: core_v1.Node, report: core_v1.Node) -> None:
        key = Key("", node.metadata.name)
        if patch := metadata_patch(node.metadata, report.metadata):
            node = await self._writer.patch(key, {"metadata": {"uid": node.metadata.uid, **patch}})
        now = stamp(self._clock())
        status = node_status_patch(tree_of(node.status), tree_of(report.status), now)
        if status:
            await self._patch_status(node, status)

    async def _away(self, node: core_v1.Node, verdict: tuple[str, str, str]) -> None:
        conditions = away(tree_of(node.status.conditions), verdict, stamp(self._clock()))
        if conditions is not None:
            await self._patch_status(node, {"conditions": conditions})

    async def _patch_status(self, node: core_v1.Node, status: Mapping[str, Any]) -> None:
        meta = {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version}
        await self._writer.patch(
            Key("", node.metadata.name), {"metadata": meta, "status": status}, subresource="status"
        )


def metadata_patch(current: meta_v1.ObjectMeta, report: meta_v1.ObjectMeta) -> dict[str, Any]:
    """Return the merge patch for labels and annotations: the agent's own set, others untouched."""
    owned = set(filter(None, current.annotations.get(OWNED, "").split(",")))
    labels: dict[str, str | None] = {
        name: value for name, value in report.labels.items() if current.labels.get(name) != value
    }
    labels.update({name: None for name in owned - set(report.labels) if name in current.labels})
    labels.pop("kubernetes.io/hostname", None) if "kubernetes.io/hostname" not in report.labels else None
    names = ",".join(sorted(set(report.labels) | (owned & {"kubernetes.io/hostname"})))
    wanted = {**report.annotations, OWNED: names}
    annotations = {name: v for name, v in wanted.items() if current.annotations.get(name) != v}
    return {k: v for k, v in (("labels", labels), ("annotations", annotations)) if v}


def node_status_patch(current: Mapping[str, Any], report: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return the merge patch of a status; others' conditions and fields stay."""
    wanted = dict(report)
    known = {c["type"]: c for c in current.get("conditions", ())}
    mine = [_turned(c, known.get(c["type"]), now) for c in report.get("conditions", ())]
    types = {c["type"] for c in mine}
    wanted["conditions"] = [*mine, *(c for t, c in known.items() if t not in types)]
    patch: dict[str, Any] = {}
    for name, value in wanted.items():
        if current.get(name) == value:
            continue
        old = current.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            # In a merge patch, what is left out stays.
            value = {**{key: None for key in old if key not in value}, **value}  # noqa: PLW2901
        patch[name] = value
    if not patch.get("conditions", True):
        del patch["conditions"]
    return patch


def _turned(report: Mapping[str, Any], known: Mapping[str, Any] | None, now: str) -> dict[str, Any]:
    """Return a condition; if it turned here (it was Unknown while the node was away), it turned now."""
    if known is None or known.get("status") == report["status"]:
        return dict(report)
    if report.get("lastTransitionTime", "") > known.get("lastTransitionTime", ""):
        return dict(report)
    return {**report, "lastTransitionTime": now}


def away(
    conditions: Iterable[Mapping[str, Any]], verdict: tuple[str, str, str], now: str
) -> list[dict[str, Any]] | None:
    """Return the conditions of a node that is away; None when they say so already."""
    status, reason, message = verdict
    found, changed = [], False
    for condition in conditions:
        kind = condition["type"]
        # Stopped is known of Ready only; the rest is then as unknown as of a lost node.
        new = (status, reason, message) if kind == "Ready" else UNKNOWN
        if kind not in REPORTED or condition.get("status") == new[0]:
            found.append(dict(condition))
            continue
        changed = True
        found.append({
            **condition, "status": new[0], "reason": new[1], "message": new[2], "lastTransitionTime": now,
        })  # fmt: skip
    return found if changed else None
