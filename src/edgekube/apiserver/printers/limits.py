"""Autoscalers, disruption budgets, quotas and limits."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import AGE, UNKNOWN, Printer, age, columns, integer, name, spec, status
from edgekube.apiserver.request import Tree

AUTO = "<auto>"
UNSET, SHOWN_METRICS = "<unset>", 2
WORKLOAD = "N/A"
SOURCES = {
    "Resource": "resource", "Pods": "pods", "Object": "object", "External": "external",
    "ContainerResource": "containerResource",
}  # fmt: skip


def _metric(kind: str, wish: Tree, found: Tree) -> str:
    """Return `current/target` of one metric, `cpu: 12%/80%` for resources."""
    source = SOURCES.get(kind, "")
    target = (wish.get(source) or {}).get("target") or {}
    current = (found.get(source) or {}).get("current") or {} if found.get("type") == kind else {}
    resource = kind in ("Resource", "ContainerResource")
    if kind == "Pods" or target.get("averageValue") is not None:
        now, goal = current.get("averageValue", UNKNOWN), str(target.get("averageValue", ""))
        if kind in ("Object", "External"):
            goal += " (avg)"
    elif resource:
        share, wanted = current.get("averageUtilization"), target.get("averageUtilization")
        now = UNKNOWN if share is None else f"{share}%"
        goal = AUTO if wanted is None else f"{wanted}%"
    else:
        now, goal = current.get("value", UNKNOWN), str(target.get("value", ""))
    prefix = f"{wish[source].get('name', '')}: " if resource and source in wish else ""
    return f"{prefix}{now}/{goal}"


def _targets(autoscaler: Tree) -> str:
    wishes = spec(autoscaler).get("metrics") or ()
    found = status(autoscaler).get("currentMetrics") or ()
    shown = [
        _metric(wish.get("type", ""), wish, found[index] if index < len(found) else {})
        for index, wish in enumerate(wishes)
    ]
    if not shown:
        return "<none>"
    text = ", ".join(shown[:SHOWN_METRICS])
    return text if len(shown) <= SHOWN_METRICS else f"{text} + {len(shown) - SHOWN_METRICS} more..."


def autoscaler_cells(autoscaler: Tree, now: datetime) -> list[Any]:
    """Return a HorizontalPodAutoscaler's cells."""
    about = spec(autoscaler)
    target = about.get("scaleTargetRef") or {}
    least = about.get("minReplicas")
    return [
        name(autoscaler), f"{target.get('kind', '')}/{target.get('name', '')}", _targets(autoscaler),
        UNSET if least is None else str(least), about.get("maxReplicas", 0),
        status(autoscaler).get("currentReplicas", 0), age(autoscaler, now),
    ]  # fmt: skip


def budget_cells(budget: Tree, now: datetime) -> list[Any]:
    """Return a PodDisruptionBudget's cells."""
    least, most = spec(budget).get("minAvailable"), spec(budget).get("maxUnavailable")
    allowed = status(budget).get("disruptionsAllowed", 0)
    shown = [WORKLOAD if value is None else str(value) for value in (least, most)]
    return [name(budget), *shown, allowed, age(budget, now)]


def quota_cells(quota: Tree, now: datetime) -> list[Any]:
    """Return a ResourceQuota's cells: limits apart from all else, used/hard each."""
    hard, used = status(quota).get("hard") or {}, status(quota).get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for resource in sorted(hard):
        text = f"{resource}: {used.get(resource, '0')}/{hard[resource]}"
        (limits if resource.startswith("limits") else requests).append(text)
    return [name(quota), ", ".join(requests), ", ".join(limits), age(quota, now)]


PRINTERS = {
    "horizontalpodautoscalers.autoscaling": Printer(
        columns("Reference", "Targets", "MinPods", "MaxPods", "Replicas", AGE), autoscaler_cells
    ),
    "poddisruptionbudgets.policy": Printer(
        columns("Min Available", "Max Unavailable", integer("Allowed Disruptions"), AGE), budget_cells
    ),
    "resourcequotas": Printer(columns("Request", "Limit", AGE), quota_cells),
}
