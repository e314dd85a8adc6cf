"""
ResourceQuota, as pure functions (pkg/quota/v1 in Kubernetes): who counts, how much, and what is too much.

Objects and quotas are JSON trees; usage maps quota names (`requests.cpu`, `count/jobs.batch`) to
quantities. The messages are Kubernetes' own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from edgekube.api import quantity
from edgekube.api.podresources import text
from edgekube.api.quotaclaims import claim_names, claim_usage
from edgekube.api.quotapods import missing_in_pod, pod_in_scope, pod_names, pod_usage

Tree = Mapping[str, Any]
Usage = dict[str, str]
COUNT = "count/"
PLAIN_COUNTS = frozenset({"configmaps", "replicationcontrollers", "resourcequotas", "secrets"})
"""Resources whose bare name is a quota name too."""


def _no_scope(_scope: Tree, _obj: Tree) -> bool:
    return False


def _nothing_missing(_names: Iterable[str], _obj: Tree) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """How one resource counts."""

    usage: Callable[[Tree, float], Usage]
    """Of one object at a time (Unix seconds)."""
    names: Callable[[str], bool]
    """Whether it answers for a quota name."""
    in_scope: Callable[[Tree, Tree], bool] = _no_scope
    """Whether an object is within a scope (a ScopedResourceSelectorRequirement)."""
    missing: Callable[[Iterable[str], Tree], str] = _nothing_missing
    """What the object must specify and does not; "" when nothing."""


# --- services


def _service_usage(service: Tree, _now: float) -> Usage:
    spec = service.get("spec") or {}
    ports = spec.get("ports") or ()
    kind = spec.get("type", "ClusterIP")
    asked = len(ports)
    if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
        asked = sum(1 for port in ports if port.get("nodePort"))
    return {
        "services": "1",
        "count/services": "1",
        "services.nodeports": str(asked if kind in {"NodePort", "LoadBalancer"} else 0),
        "services.loadbalancers": str(int(kind == "LoadBalancer")),
    }


_SERVICE_NAMES = frozenset({"services", "count/services", "services.nodeports", "services.loadbalancers"})

# Of these an update may cost more, too.
EVALUATORS: Mapping[str, Evaluator] = {
    "pods": Evaluator(usage=pod_usage, names=pod_names, in_scope=pod_in_scope, missing=missing_in_pod),
    "services": Evaluator(usage=_service_usage, names=_SERVICE_NAMES.__contains__),
    "persistentvolumeclaims": Evaluator(usage=claim_usage, names=claim_names),
}


def evaluator_of(resource: str) -> Evaluator:
    """Return how a group resource (`pods`, `jobs.batch`) counts; those not in the table by number only."""
    return EVALUATORS.get(resource) or _counting(resource)


def _counting(resource: str) -> Evaluator:
    names = frozenset({COUNT + resource, *({resource} & PLAIN_COUNTS)})
    return Evaluator(usage=lambda _obj, _now: dict.fromkeys(names, "1"), names=names.__contains__)


def resources_of(names: Iterable[str]) -> set[str]:
    """Return the group resources that quota names are about."""
    found = set()
    for name in names:
        owner = next((resource for resource, one in EVALUATORS.items() if one.names(name)), None)
        if owner:
            found.add(owner)
        elif name.startswith(COUNT):
            found.add(name.removeprefix(COUNT))
        elif name in PLAIN_COUNTS:
            found.add(name)
    return found


# --- scopes


def scopes_of(quota: Tree) -> list[Tree]:
    """Return every scope a quota asks for, in the long form."""
    spec = quota.get("spec") or {}
    short = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    return [*short, *((spec.get("scopeSelector") or {}).get("matchExpressions") or ())]


def concerns(quota: Tree, evaluator: Evaluator, obj: Tree, hard: Iterable[str]) -> bool:
    """Whether a quota counts an object."""
    return any(map(evaluator.names, hard)) and all(evaluator.in_scope(s, obj) for s in scopes_of(quota))


# --- arithmetic


def total(usages: Iterable[Mapping[str, str]], names: Iterable[str]) -> Usage:
    """Return the sum for `names`, each at least 0."""
    result = dict.fromkeys(names, "0")
    for usage in usages:
        for name in result.keys() & usage.keys():
            result[name] = plus(result[name], usage[name])
    return result


def plus(left: str, right: str) -> str:
    """Add two quantities, in the form of the first that is not zero."""
    first = quantity.parse(left)
    return text(first + quantity.parse(right), left if first else right)


def minus(left: str, right: str) -> str:
    """Subtract; never below zero."""
    return text(max(quantity.parse(left) - quantity.parse(right), Decimal(0)), left)


def delta(evaluator: Evaluator, obj: Tree, old: Tree | None) -> Usage:
    """Return what a write costs more than before, without zeros."""
    new = evaluator.usage(obj, 0)
    before = evaluator.usage(old, 0) if old is not None else {}
    found = {n: minus(amount, before[n]) if n in before else amount for n, amount in new.items()}
    return {name: amount for name, amount in found.items() if quantity.parse(amount) > 0}


# --- the verdict


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refusal` says why not; else each quota named in `charges` is to be charged so much."""

    refusal: str = ""
    charges: tuple[tuple[str, Mapping[str, str]], ...] = ()


def judge(quotas: Sequence[Tree], evaluator: Evaluator, obj: Tree, old: Tree | None) -> Verdict:
    """Decide on a write by the status of a namespace's quotas."""
    interesting = []
    for quota in quotas:
        status = quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        if not concerns(quota, evaluator, obj, hard):
            continue
        name, limited = quota["metadata"]["name"], sorted(filter(evaluator.names, hard))
        if missing := evaluator.missing(limited, obj):
            return Verdict(f"failed quota: {name}: must specify {missing}")
        if unknown := [n for n in limited if n not in used]:
            return Verdict(f"status unknown for quota: {name}, resources: {','.join(unknown)}")
        interesting.append((name, hard, used))
    costs = delta(evaluator, obj, old) if interesting else {}
    charges = []
    for name, hard, used in interesting:
        asked = {n: amount for n, amount in costs.items() if n in hard}
        exceeded = [n for n in asked if quantity.parse(plus(used[n], asked[n])) > quantity.parse(hard[n])]
        if exceeded:
            return Verdict(
                f"exceeded quota: {name}, requested: {_pretty(asked, exceeded)}, "
                f"used: {_pretty(used, exceeded)}, limited: {_pretty(hard, exceeded)}"
            )
        if asked:
            charges.append((name, asked))
    return Verdict(charges=tuple(charges))


def _pretty(amounts: Mapping[str, str], names: Iterable[str]) -> str:
    return ",".join(f"{name}={amounts[name]}" for name in sorted(names))


def charged(quota: Tree, cost: Mapping[str, str]) -> dict[str, Any]:
    """Return the quota with `cost` added to what is used."""
    return _with_used(quota, {n: plus(quota["status"]["used"].get(n, "0"), c) for n, c in cost.items()})


def refunded(quota: Tree, cost: Mapping[str, str]) -> dict[str, Any]:
    """Return the quota with `cost` taken from what is used."""
    used = (quota.get("status") or {}).get("used") or {}
    return _with_used(quota, {n: minus(used[n], c) for n, c in cost.items() if n in used})


def _with_used(quota: Tree, changes: Mapping[str, str]) -> dict[str, Any]:
    status = quota.get("status") or {}
    return {**quota, "status": {**status, "used": {**(status.get("used") or {}), **changes}}}
