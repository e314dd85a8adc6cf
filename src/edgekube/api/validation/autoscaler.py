"""HorizontalPodAutoscalers (pkg/apis/autoscaling/validation)."""

from typing import Any

from edgekube.api import quantity
from edgekube.api.validation import names
from edgekube.api.validation.label_selector import label_selector
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
LONGEST_PERIOD, LONGEST_WINDOW = 1800, 3600
_SOURCES = {
    "ContainerResource": "containerResource", "External": "external", "Object": "object", "Pods": "pods",
    "Resource": "resource",
}  # fmt: skip
_ONE_TARGET = "must specify either a target"


def autoscaler(tree: Tree, problems: Problems) -> None:
    """Check an autoscaler."""
    spec = tree.get("spec", {})
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and least < 1:
        problems.invalid("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        problems.invalid("spec.maxReplicas", most, "must be greater than 0")
    if least is not None and most < least:
        problems.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    _reference(spec.get("scaleTargetRef", {}), "spec.scaleTargetRef", problems)
    for number, metric in enumerate(spec.get("metrics", ())):
        _metric(metric, f"spec.metrics[{number}]", problems)
    for direction in ("scaleUp", "scaleDown"):
        rules = spec.get("behavior", {}).get(direction)
        if rules is not None:
            _rules(rules, f"spec.behavior.{direction}", problems)


def _reference(about: Tree, path: str, problems: Problems) -> None:
    for field in ("kind", "name"):
        if problems.given(about, field, path):
            problems.each(f"{path}.{field}", about[field], names.path_segment(about[field]))


def _metric(metric: Tree, path: str, problems: Problems) -> None:
    kind = metric.get("type", "")
    problems.one_of(metric, "type", path, supported=tuple(_SOURCES))
    for other, field in _SOURCES.items():
        if field in metric and other != kind:
            problems.forbidden(f"{path}.{field}", "must populate the given metric source only")
    if kind not in _SOURCES:
        return
    field = _SOURCES[kind]
    source, here = metric.get(field), f"{path}.{field}"
    if source is None:
        problems.required(here, "must populate information for the given metric source")
        return
    if kind in {"Resource", "ContainerResource"}:
        if not source.get("name"):
            problems.required(f"{here}.name", "must specify a resource name")
        if kind == "ContainerResource":
            problems.given(source, "container", here)
    else:
        _identifier(source.get("metric", {}), f"{here}.metric", problems)
    if kind == "Object":
        _reference(source.get("describedObject", {}), f"{here}.describedObject", problems)
    _target(source.get("target", {}), f"{here}.target", problems)


def _identifier(metric: Tree, path: str, problems: Problems) -> None:
    if problems.given(metric, "name", path):
        problems.each(f"{path}.name", metric["name"], names.path_segment(metric["name"]))
    if "selector" in metric:
        label_selector(metric["selector"], f"{path}.selector", problems)


def _target(target: Tree, path: str, problems: Problems) -> None:
    problems.one_of(target, "type", path, supported=("Utilization", "Value", "AverageValue"))
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        problems.invalid(f"{path}.averageUtilization", share, "must be greater than 0")
    for field in ("value", "averageValue"):
        if field in target and quantity.parse(target[field]) <= 0:
            problems.invalid(f"{path}.{field}", target[field], "must be positive")
    if share is None and "value" not in target and "averageValue" not in target:
        problems.required(path, f"{_ONE_TARGET} raw value or a target utilization")


def _rules(rules: Tree, path: str, problems: Problems) -> None:
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and not 0 <= window <= LONGEST_WINDOW:
        text = (
            "must be greater than or equal to zero"
            if window < 0
            else f"must be less than or equal to {LONGEST_WINDOW}"
        )
        problems.invalid(f"{path}.stabilizationWindowSeconds", window, text)
    problems.one_of(rules, "selectPolicy", path, supported=("Disabled", "Max", "Min"))
    if not rules.get("policies"):
        problems.required(f"{path}.policies", "must specify at least one Policy")
    for number, policy in enumerate(rules.get("policies", ())):
        here, period = f"{path}.policies[{number}]", policy.get("periodSeconds", 0)
        problems.one_of(policy, "type", here, supported=("Percent", "Pods"))
        if policy.get("value", 0) < 1:
            problems.invalid(f"{here}.value", policy.get("value", 0), "must be greater than zero")
        if not 1 <= period <= LONGEST_PERIOD:
            text = (
                "must be greater than zero"
                if period < 1
                else f"must be less than or equal to {LONGEST_PERIOD}"
            )
            problems.invalid(f"{here}.periodSeconds", period, text)
