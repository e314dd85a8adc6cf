"""How Pods count against quotas (pkg/quota/v1/evaluator/core/pods.go in Kubernetes)."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from edgekube.api import quantity
from edgekube.api.podresources import texts_of_pod

Tree = Mapping[str, Any]
ENDED = frozenset({"Succeeded", "Failed"})
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_NAMES = frozenset({
    "pods", "count/pods", *_COMPUTE, *(f"{side}.{name}" for side in ("requests", "limits") for name in _COMPUTE)
})  # fmt: skip
_REQUIRED = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
"""What every container must say when a quota limits it."""
_HUGE = ("hugepages-", "requests.hugepages-")


def pod_names(name: str) -> bool:
    """Whether a quota name is about pods."""
    return name in _NAMES or name.startswith(_HUGE) or _extended(name)


def _extended(name: str) -> bool:
    """`requests.<domain>/<name>`, but nothing of kubernetes.io."""
    domain, slash, _ = name.partition("/")
    return (
        bool(slash)
        and name.startswith("requests.")
        and not (domain == "requests.kubernetes.io" or domain.endswith(".kubernetes.io"))
        and not domain.endswith(".storage.k8s.io")
    )


def pod_usage(pod: Tree, now: float) -> dict[str, str]:
    """Return what one pod uses: ended ones only count as objects."""
    usage = {"count/pods": "1"}
    if not counts(pod, now):
        return usage
    usage["pods"] = "1"
    for name, amount in texts_of_pod(pod["spec"], "requests").items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            usage[name] = usage[f"requests.{name}"] = amount
        elif "/" in name:
            usage[f"requests.{name}"] = amount
    for name, amount in texts_of_pod(pod["spec"], "limits").items():
        if name in _COMPUTE:
            usage[f"limits.{name}"] = amount
    return usage


def counts(pod: Tree, now: float) -> bool:
    """Whether a pod still uses what it asked for: not when it has ended or should long be gone."""
    if (pod.get("status") or {}).get("phase") in ENDED:
        return False
    since = pod["metadata"].get("deletionTimestamp")
    grace = pod["metadata"].get("deletionGracePeriodSeconds")
    if not since or grace is None:
        return True
    return now <= datetime.fromisoformat(since).timestamp() + int(grace)


def missing_in_pod(names: Iterable[str], pod: Tree) -> str:
    """Say which of the limited resources which containers do not specify."""
    spec, required = pod["spec"], _REQUIRED.intersection(names)
    whole = _said(spec)
    lacking: dict[str, set[str]] = {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        for name in required - whole - _said(container):
            lacking.setdefault(name, set()).add(container["name"])
    return "; ".join(f"{name} for: {','.join(sorted(lacking[name]))}" for name in sorted(lacking))


def _said(container: Tree) -> set[str]:
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    return {*requests, *(f"requests.{name}" for name in requests), *(f"limits.{name}" for name in limits)}


# --- scopes


def _terminating(pod: Tree) -> bool:
    return pod["spec"].get("activeDeadlineSeconds") is not None


def _best_effort(pod: Tree) -> bool:
    spec = pod["spec"]
    everybody = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ()), spec]
    return not any(
        quantity.parse(str(amount)) > 0
        for one in everybody
        for side in ("requests", "limits")
        for name, amount in ((one.get("resources") or {}).get(side) or {}).items()
        if name in {"cpu", "memory"}
    )


def _across_namespaces(pod: Tree) -> bool:
    affinity = pod["spec"].get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        one = affinity.get(kind) or {}
        terms = list(one.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [
            weighted.get("podAffinityTerm") or {}
            for weighted in one.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False


_SCOPES: Mapping[str, Callable[[Tree], bool]] = {
    "Terminating": _terminating,
    "NotTerminating": lambda pod: not _terminating(pod),
    "BestEffort": _best_effort,
    "NotBestEffort": lambda pod: not _best_effort(pod),
    "CrossNamespacePodAffinity": _across_namespaces,
}
_OPERATORS: Mapping[str, Callable[[str, Iterable[str]], bool]] = {
    "In": lambda name, values: bool(name) and name in values,
    "NotIn": lambda name, values: name not in values,
    "Exists": lambda name, _values: bool(name),
    "DoesNotExist": lambda name, _values: not name,
}


def pod_in_scope(scope: Tree, pod: Tree) -> bool:
    """Whether a pod is within a scope."""
    name = scope.get("scopeName", "")
    if name == "PriorityClass":
        test = _OPERATORS[scope.get("operator", "Exists")]
        return test(pod["spec"].get("priorityClassName", ""), scope.get("values") or ())
    check = _SCOPES.get(name)
    return check is not None and check(pod)
