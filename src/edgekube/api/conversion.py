"""
Built-in kinds that are served in a second form: what one version says, in the words of the other.

Conversions are pure and lose nothing: what the other version has no field for is kept in annotations.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

Tree = dict[str, Any]
_EVENT_FIELDS = {
    "involvedObject": "regarding", "message": "note", "reportingComponent": "reportingController",
    "source": "deprecatedSource", "count": "deprecatedCount", "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
}  # fmt: skip
"""core/v1 → events.k8s.io/v1 (pkg/apis/events/v1/conversion.go)."""
METRICS, BEHAVIOR, CONDITIONS, CURRENT = (
    f"autoscaling.alpha.kubernetes.io/{name}"
    for name in ("metrics", "behavior", "conditions", "current-metrics")
)


def _event(tree: Tree) -> Tree:
    """Return a core event as events.k8s.io/v1 shows it."""
    renamed = {_EVENT_FIELDS.get(name, name): value for name, value in tree.items()}
    renamed.setdefault("eventTime", None)
    return {**renamed, "apiVersion": "events.k8s.io/v1"}


def _core_event(tree: Tree) -> Tree:
    back = {new: old for old, new in _EVENT_FIELDS.items()}
    renamed = {back.get(name, name): value for name, value in tree.items()}
    renamed.setdefault("involvedObject", {})
    return {**renamed, "apiVersion": "v1"}


def _autoscaler_v1(tree: Tree) -> Tree:
    """Return an autoscaling/v2 autoscaler as v1 shows it (pkg/apis/autoscaling/v1/conversion.go)."""
    spec, status = dict(tree.get("spec") or {}), dict(tree.get("status") or {})
    metadata = dict(tree.get("metadata") or {})
    notes = dict(metadata.get("annotations") or {})
    others = []
    for metric in spec.pop("metrics", ()):
        share = _cpu_share(metric)
        if share is not None and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = share
        else:
            others.append(metric)
    current = []
    for metric in status.pop("currentMetrics", None) or ():
        used = ((metric.get("resource") or {}).get("current") or {}).get("averageUtilization")
        if (metric.get("resource") or {}).get("name") == "cpu" and used is not None:
            status["currentCPUUtilizationPercentage"] = used
        else:
            current.append(metric)
    kept = {METRICS: others, BEHAVIOR: spec.pop("behavior", None), CONDITIONS: status.pop("conditions", None), CURRENT: current}  # fmt: skip
    notes.update({name: msgspec.json.encode(value).decode() for name, value in kept.items() if value})
    if notes:
        metadata["annotations"] = notes
    shown = {**tree, "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec}
    return {**shown, "status": {"currentReplicas": 0, "desiredReplicas": 0, **status}}


def _cpu_share(metric: Tree) -> int | None:
    source = metric.get("resource") or {}
    share: int | None = (source.get("target") or {}).get("averageUtilization")
    return share if metric.get("type") == "Resource" and source.get("name") == "cpu" else None


def _autoscaler_v2(tree: Tree) -> Tree:
    spec, status = dict(tree.get("spec") or {}), dict(tree.get("status") or {})
    metadata = dict(tree.get("metadata") or {})
    notes = dict(metadata.get("annotations") or {})
    kept = {name: _kept(notes.pop(name, "")) for name in (METRICS, BEHAVIOR, CONDITIONS, CURRENT)}
    share = spec.pop("targetCPUUtilizationPercentage", None)
    metrics = list(kept[METRICS] or ())
    if share is not None:
        target = {"type": "Utilization", "averageUtilization": share}
        metrics.insert(0, {"type": "Resource", "resource": {"name": "cpu", "target": target}})
    used = status.pop("currentCPUUtilizationPercentage", None)
    current = list(kept[CURRENT] or ())
    if used is not None:
        found = {"name": "cpu", "current": {"averageUtilization": used}}
        current.insert(0, {"type": "Resource", "resource": found})
    more = {"metrics": metrics, "behavior": kept[BEHAVIOR]}
    spec.update({name: value for name, value in more.items() if value})
    told = {"conditions": kept[CONDITIONS], "currentMetrics": current}
    status.update({name: value for name, value in told.items() if value})
    metadata.pop("annotations", None)
    if notes:
        metadata["annotations"] = notes
    stored = {**tree, "apiVersion": "autoscaling/v2", "metadata": metadata, "spec": spec}
    return {**stored, "status": status} if status else stored


def _kept(text: str) -> Any:
    """Read an annotation back; what somebody wrote there by hand and is no JSON says nothing."""
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        return None


CONVERSIONS: Mapping[tuple[str, str, str], Callable[[Tree], Tree]] = {
    ("v1", "events.k8s.io/v1", "Event"): _event,
    ("events.k8s.io/v1", "v1", "Event"): _core_event,
    ("autoscaling/v2", "autoscaling/v1", "HorizontalPodAutoscaler"): _autoscaler_v1,
    ("autoscaling/v1", "autoscaling/v2", "HorizontalPodAutoscaler"): _autoscaler_v2,
}
"""From, to, kind."""


def convert(tree: Tree, api_version: str) -> Tree:
    """Return an object in another version; the same object if it is of that version already."""
    before = tree.get("apiVersion", "")
    if before == api_version:
        return tree
    return CONVERSIONS[before, api_version, tree.get("kind", "")](tree)
