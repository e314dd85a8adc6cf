"""Deployments."""

from typing import Any

from edgekube.api.validation import names, workload
from edgekube.api.validation.problems import NOT_NEGATIVE, Problems

Tree = dict[str, Any]
_NUMBERS = ("replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")


def deployment(tree: Tree, problems: Problems) -> None:
    """Check a Deployment."""
    spec = tree.get("spec", {})
    for name in _NUMBERS:
        problems.at_least(spec, name, "spec")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        problems.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")
    workload.workload(tree, "Deployment", problems)
    _strategy(spec.get("strategy", {}), problems)


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    problems.unchanged(tree.get("spec", {}), old.get("spec", {}), "selector", "spec")


def int_or_percent(value: int | str, path: str, problems: Problems) -> None:
    """Check a number or percentage."""
    if isinstance(value, str):
        problems.each(path, value, names.percent(value))
    elif value < 0:
        problems.invalid(path, value, NOT_NEGATIVE)


def _strategy(strategy: Tree, problems: Problems) -> None:
    path = "spec.strategy"
    rolling = strategy.get("rollingUpdate")
    problems.one_of(strategy, "type", path, supported=("Recreate", "RollingUpdate"))
    if strategy.get("type") == "Recreate" and rolling is not None:
        problems.forbidden(f"{path}.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    if strategy.get("type") == "RollingUpdate":
        _rolling_update(rolling or {}, f"{path}.rollingUpdate", problems)


def _rolling_update(rolling: Tree, path: str, problems: Problems) -> None:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    int_or_percent(unavailable, f"{path}.maxUnavailable", problems)
    int_or_percent(surge, f"{path}.maxSurge", problems)
    if unavailable in (0, "0%") and surge in (0, "0%"):
        problems.invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")
    if isinstance(unavailable, str) and not names.percent(unavailable) and int(unavailable[:-1]) > 100:
        problems.invalid(f"{path}.maxUnavailable", unavailable, "must not be greater than 100%")
