"""DaemonSets (pkg/apis/apps/validation)."""

from typing import Any

from edgekube.api.validation import workload
from edgekube.api.validation.deployment import int_or_percent
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]


def daemon_set(tree: Tree, problems: Problems) -> None:
    """Check a DaemonSet."""
    spec = tree.get("spec", {})
    for name in ("minReadySeconds", "revisionHistoryLimit"):
        problems.at_least(spec, name, "spec")
    workload.workload(tree, "DaemonSet", problems)
    strategy = spec.get("updateStrategy", {})
    problems.one_of(strategy, "type", "spec.updateStrategy", supported=("RollingUpdate", "OnDelete"))
    if strategy.get("type") == "RollingUpdate":
        _rolling_update(strategy.get("rollingUpdate", {}), "spec.updateStrategy.rollingUpdate", problems)


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    problems.unchanged(tree.get("spec", {}), old.get("spec", {}), "selector", "spec")


def _rolling_update(rolling: Tree, path: str, problems: Problems) -> None:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    int_or_percent(unavailable, f"{path}.maxUnavailable", problems)
    int_or_percent(surge, f"{path}.maxSurge", problems)
    none = (0, "0%")
    if unavailable not in none and surge not in none:
        problems.invalid(f"{path}.maxSurge", surge, "may not be set when maxUnavailable is non-zero")
    elif unavailable in none and surge in none:
        problems.required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0")
