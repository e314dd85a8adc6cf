"""Which nodes are lost, and what their conditions and taints should be (pkg/controller/nodelifecycle in Kubernetes)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from edgekube.api.types import core_v1
from edgekube.control.clock import stamp
from edgekube.control.taints import NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE

REPORTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
"""Conditions that nobody can know of a lost node."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life: the Lease's renewTime as last seen, and when (Unix seconds, our clock) it last changed."""

    renewed: str
    seen: float


def signs(
    nodes: Iterable[core_v1.Node], renewals: Mapping[str, str], known: Mapping[str, Sign], now: float
) -> dict[str, Sign]:
    """Return the signs of life; a node seen for the first time gets the benefit of the doubt."""
    found = {}
    for node in nodes:
        name = node.metadata.name
        renewed, before = renewals.get(name, ""), known.get(name)
        same = before is not None and before.renewed == renewed
        found[name] = before if before is not None and same else Sign(renewed, now)
    return found


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write for one node; None: nothing."""

    conditions: tuple[core_v1.NodeCondition, ...] | None
    taints: tuple[core_v1.Taint, ...] | None


def plan(node: core_v1.Node, now: float, *, lost: bool, evict: bool) -> Plan:
    """Decide for one node; `evict` is False when no node is ready, and so we may be the ones cut off."""
    conditions = _lost(node, now) if lost else node.status.conditions
    taints = _taints(node, _ready(conditions), now, lost=lost, evict=evict)
    return Plan(
        conditions if conditions != node.status.conditions else None,
        taints if taints != node.spec.taints else None,
    )


def ready(node: core_v1.Node) -> bool:
    """Whether the node says it is ready."""
    return _ready(node.status.conditions) == "True"


def _ready(conditions: Iterable[core_v1.NodeCondition]) -> str:
    return next((c.status for c in conditions if c.type == "Ready"), "")


def _lost(node: core_v1.Node, now: float) -> tuple[core_v1.NodeCondition, ...]:
    known = {condition.type: condition for condition in node.status.conditions}
    for kind in REPORTED:
        before = known.get(kind)
        if before is None:
            known[kind] = core_v1.NodeCondition(
                type=kind, status="Unknown", reason="NodeStatusNeverUpdated",
                message="Kubelet never posted node status.", last_transition_time=stamp(now),
                last_heartbeat_time=node.metadata.creation_timestamp,
            )  # fmt: skip
        elif before.status != "Unknown":
            known[kind] = msgspec.structs.replace(
                before, status="Unknown", reason="NodeStatusUnknown",
                message="Kubelet stopped posting node status.", last_transition_time=stamp(now),
            )  # fmt: skip
    return tuple(known.values())


_WANTED: Mapping[str, str] = {"Unknown": UNREACHABLE, "False": NOT_READY, "": NOT_READY}


TROUBLES: Mapping[str, str] = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
"""Condition → the taint a node has while it is true."""


def _troubles(node: core_v1.Node, *, lost: bool) -> set[str]:
    # What a lost node had is not known any more.
    true = {c.type for c in node.status.conditions if c.status == "True"} if not lost else set()
    found = {key for condition, key in TROUBLES.items() if condition in true}
    return found | {UNSCHEDULABLE} if node.spec.unschedulable else found


def _taints(
    node: core_v1.Node, ready_status: str, now: float, *, lost: bool, evict: bool
) -> tuple[core_v1.Taint, ...]:
    key = _WANTED.get(ready_status)
    have = {(taint.key, taint.effect) for taint in node.spec.taints}
    wanted = {(key, NO_SCHEDULE)} if key else set()
    # A connection lost a moment ago keeps new pods away; only real silence drives pods out.
    if key and evict and (lost or key == NOT_READY or (key, NO_EXECUTE) in have):
        wanted.add((key, NO_EXECUTE))
    wanted |= {(name, NO_SCHEDULE) for name in _troubles(node, lost=lost)}
    ours = {(name, effect) for name in (NOT_READY, UNREACHABLE) for effect in (NO_SCHEDULE, NO_EXECUTE)}
    ours |= {(name, NO_SCHEDULE) for name in (*TROUBLES.values(), UNSCHEDULABLE)}
    kept = [t for t in node.spec.taints if (t.key, t.effect) not in ours or (t.key, t.effect) in wanted]
    added = sorted((effect, name) for name, effect in wanted - have)
    return (*kept, *(core_v1.Taint(key=name, effect=effect, time_added=stamp(now)) for effect, name in added))
