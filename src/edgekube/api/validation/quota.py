"""ResourceQuotas and LimitRanges (pkg/apis/core/validation)."""

from collections.abc import Mapping
from typing import Any

from edgekube.api import quantity
from edgekube.api.validation import names
from edgekube.api.validation.problems import IMMUTABLE, NOT_NEGATIVE, Problems

Tree = dict[str, Any]
SCOPES = (
    "BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating",
    "VolumeAttributesClass",
)  # fmt: skip
_PODS_ONLY = frozenset({"pods"})
_COMPUTE = frozenset({
    "pods", "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory",
    "requests.ephemeral-storage", "limits.ephemeral-storage",
})  # fmt: skip
_OPPOSITES = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})
STANDARD = _COMPUTE | {
    "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims",
    "services.nodeports", "services.loadbalancers", "storage", "requests.storage", "resourceclaims",
}  # fmt: skip
WHOLE = STANDARD - {
    "cpu",
    "memory",
    "ephemeral-storage",
    "storage",
    "requests.storage",
    *(r for r in _COMPUTE if "." in r),
}
_STANDARD = "must be a standard resource for quota"


def resource_quota(tree: Tree, problems: Problems) -> None:
    """Check a ResourceQuota."""
    spec = tree.get("spec", {})
    for name, amount in spec.get("hard", {}).items():
        path = f"spec.hard[{name}]"
        quota_resource(name, path, problems)
        _amount(name, amount, path, problems=problems)
    _scopes(spec, problems)


def resource_quota_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    new, before = tree.get("spec", {}).get("scopes", []), old.get("spec", {}).get("scopes", [])
    if sorted(new) != sorted(before):
        problems.invalid("spec.scopes", new, IMMUTABLE)


def quota_resource(name: str, path: str, problems: Problems) -> None:
    """Check the name of something a quota limits."""
    problems.each(path, name, names.qualified(name))
    if (
        "/" not in name
        and name not in STANDARD
        and not name.startswith(("requests.hugepages-", "hugepages-"))
    ):
        problems.invalid(path, name, _STANDARD)


def _amount(name: str, amount: str, path: str, *, problems: Problems) -> None:
    value = quantity.parse(amount)
    if value < 0:
        problems.invalid(path, amount, NOT_NEGATIVE)
    if (name in WHOLE or name.startswith("count/")) and value != value.to_integral_value():
        problems.invalid(path, amount, "must be an integer")


def _scopes(spec: Tree, problems: Problems) -> None:
    scopes, hard = spec.get("scopes", []), spec.get("hard", {})
    for number, scope in enumerate(scopes):
        if scope not in SCOPES:
            problems.invalid("spec.scopes", scopes, "unsupported scope")
        allowed = _PODS_ONLY if scope == "BestEffort" else _COMPUTE
        if any(name not in allowed for name in hard) and scope != "VolumeAttributesClass":
            problems.invalid(f"spec.scopes[{number}]", scope, "unsupported scope applied to resource")
    if any(pair <= set(scopes) for pair in _OPPOSITES):
        problems.invalid("spec.scopes", scopes, "conflicting scopes")
    for number, want in enumerate(spec.get("scopeSelector", {}).get("matchExpressions", ())):
        path, operator, values = f"spec.scopeSelector.matchExpressions[{number}]", want.get("operator"), want.get("values", [])  # fmt: skip
        if want.get("scopeName") not in SCOPES:
            problems.invalid(f"{path}.scopeName", want.get("scopeName"), "unsupported scope")
        if operator in {"In", "NotIn"} and not values:
            problems.required(f"{path}.values", "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector")  # fmt: skip
        elif operator in {"Exists", "DoesNotExist"} and values:
            problems.invalid(f"{path}.values", values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector")  # fmt: skip
        elif operator not in {"In", "NotIn", "Exists", "DoesNotExist"}:
            problems.invalid(f"{path}.operator", operator, "not a valid selector operator")


def limit_range(tree: Tree, problems: Problems) -> None:
    """Check a LimitRange."""
    seen: set[str] = set()
    for number, item in enumerate(tree.get("spec", {}).get("limits", ())):
        path, kind = f"spec.limits[{number}]", item.get("type", "")
        if not kind:
            problems.required(f"{path}.type")
        if kind in seen:
            problems.duplicate(f"{path}.type", kind)
        seen.add(kind)
        if kind == "Pod":
            for field in ("default", "defaultRequest"):
                if item.get(field):
                    problems.forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'")
        if kind == "PersistentVolumeClaim" and not any("storage" in item.get(f, {}) for f in ("min", "max")):
            problems.required(
                path, "either minimum or maximum storage value is required, but neither was provided"
            )
        _bounds(item, path, problems)


_PAIRS = (("min", "max"), ("min", "defaultRequest"), ("defaultRequest", "max"), ("min", "default"), ("default", "max"), ("defaultRequest", "default"))  # fmt: skip
_CALLED = {"min": "min", "max": "max", "default": "default", "defaultRequest": "default request"}


def _bounds(item: Tree, path: str, problems: Problems) -> None:
    kinds: dict[str, Mapping[str, str]] = {f: item.get(f, {}) for f in (*_CALLED, "maxLimitRequestRatio")}
    for name in sorted({name for amounts in kinds.values() for name in amounts}):
        for low, high in _PAIRS:
            small, large = kinds[low].get(name), kinds[high].get(name)
            if small is not None and large is not None and quantity.parse(small) > quantity.parse(large):
                text = f"{_CALLED[low]} value {small} is greater than {_CALLED[high]} value {large}"
                problems.invalid(f"{path}.{low}[{name}]", small, text)
        ratio = kinds["maxLimitRequestRatio"].get(name)
        if ratio is not None and quantity.parse(ratio) < 1:
            problems.invalid(f"{path}.maxLimitRequestRatio[{name}]", ratio, f"ratio {ratio} is less than 1")
