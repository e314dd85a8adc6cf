"""
LimitRanges, as pure functions (plugin/pkg/admission/limitranger in Kubernetes): defaults and bounds.

Objects and limit items are JSON trees; the messages are Kubernetes' own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from edgekube.api.podresources import amounts, texts_of_pod

Tree = dict[str, Any]
ANNOTATION = "kubernetes.io/limit-ranger"
_Check = Callable[[str, str, str, Mapping[str, str], Mapping[str, str]], str]


def items_of(ranges: Iterable[Tree], kind: str) -> list[Tree]:
    """Return the items of one type (Container, Pod, PersistentVolumeClaim)."""
    return [i for r in ranges for i in (r.get("spec") or {}).get("limits") or () if i.get("type") == kind]


# --- defaults


def fill(pod: Tree, ranges: Sequence[Tree]) -> None:
    """Give every container of a pod the defaults it lacks, and note it in an annotation."""
    notes: list[str] = []
    for item in items_of(ranges, "Container"):
        defaults = {"limits": item.get("default") or {}, "requests": item.get("defaultRequest") or {}}
        for field, called in (("containers", "container"), ("initContainers", "init container")):
            for container in pod["spec"].get(field) or ():
                notes += _fill(container, defaults, called)
    if notes:
        pod["metadata"].setdefault("annotations", {})[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(
            notes
        )


def _fill(container: Tree, defaults: Mapping[str, Mapping[str, str]], called: str) -> Iterable[str]:
    for side, word in (("requests", "request"), ("limits", "limit")):
        own = (container.get("resources") or {}).get(side) or {}
        added = {name: value for name, value in defaults[side].items() if name not in own}
        if added:
            container.setdefault("resources", {})[side] = {**own, **added}
            yield f"{', '.join(sorted(added))} {word} for {called} {container['name']}"


# --- bounds


def pod_problems(pod: Tree, ranges: Sequence[Tree]) -> list[str]:
    """Return what is outside the bounds of Container and Pod items."""
    spec = pod["spec"]
    problems: list[str] = []
    for item in items_of(ranges, "Container"):
        for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
            resources = container.get("resources") or {}
            problems += _bounds(item, resources.get("requests") or {}, resources.get("limits") or {})
    for item in items_of(ranges, "Pod"):
        problems += _bounds(item, texts_of_pod(spec, "requests"), texts_of_pod(spec, "limits"))
    return problems


def claim_problems(claim: Tree, ranges: Sequence[Tree]) -> list[str]:
    """Return what is outside the bounds of PersistentVolumeClaim items."""
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    problems: list[str] = []
    for item in items_of(ranges, "PersistentVolumeClaim"):
        for field, check in (("min", _minimum), ("max", _maximum_request)):
            for name, bound in sorted((item.get(field) or {}).items()):
                problems.append(check("PersistentVolumeClaim", name, bound, requests, {}))
    return [problem for problem in problems if problem]


def joined(problems: Sequence[str]) -> str:
    """Return several problems as one message (utilerrors.Aggregate)."""
    distinct = list(dict.fromkeys(problems))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"


def _bounds(item: Tree, requests: Mapping[str, str], limits: Mapping[str, str]) -> list[str]:
    found = [
        check(item["type"], name, bound, requests, limits)
        for field, check in _CHECKS
        for name, bound in sorted((item.get(field) or {}).items())
    ]
    return [problem for problem in found if problem]


def _minimum(kind: str, name: str, bound: str, requests: Mapping[str, str], limits: Mapping[str, str]) -> str:
    start = f"minimum {name} usage per {kind} is {bound}"
    if name not in requests:
        return f"{start}.  No request is specified"
    if _amount(requests[name]) < _amount(bound):
        return f"{start}, but request is {requests[name]}"
    if name in limits and _amount(limits[name]) < _amount(bound):
        return f"{start}, but limit is {limits[name]}"
    return ""


def _maximum(kind: str, name: str, bound: str, requests: Mapping[str, str], limits: Mapping[str, str]) -> str:
    start = f"maximum {name} usage per {kind} is {bound}"
    if name not in limits:
        return f"{start}.  No limit is specified"
    if _amount(limits[name]) > _amount(bound):
        return f"{start}, but limit is {limits[name]}"
    if name in requests and _amount(requests[name]) > _amount(bound):
        return f"{start}, but request is {requests[name]}"
    return ""


def _maximum_request(
    kind: str, name: str, bound: str, requests: Mapping[str, str], _limits: Mapping[str, str]
) -> str:
    start = f"maximum {name} usage per {kind} is {bound}"
    if name not in requests:
        return f"{start}.  No request is specified"
    return f"{start}, but request is {requests[name]}" if _amount(requests[name]) > _amount(bound) else ""


def _ratio(kind: str, name: str, bound: str, requests: Mapping[str, str], limits: Mapping[str, str]) -> str:
    start = f"{name} max limit to request ratio per {kind} is {bound}"
    request, limit = _amount(requests.get(name, "0")), _amount(limits.get(name, "0"))
    if not request:
        return f"{start}, but no request is specified or request is 0"
    if not limit:
        return f"{start}, but no limit is specified or limit is 0"
    ratio = limit / request
    return f"{start}, but provided ratio is {ratio:.6f}" if ratio > _amount(bound) else ""


def _amount(written: str) -> Decimal:
    return amounts({"": written})[""]


_CHECKS: tuple[tuple[str, _Check], ...] = (
    ("min", _minimum),
    ("max", _maximum),
    ("maxLimitRequestRatio", _ratio),
)
