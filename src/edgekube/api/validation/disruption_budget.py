"""PodDisruptionBudgets (pkg/apis/policy/validation)."""

from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.deployment import int_or_percent
from edgekube.api.validation.label_selector import label_selector
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]


def disruption_budget(tree: Tree, problems: Problems) -> None:
    """Check a PodDisruptionBudget."""
    spec = tree.get("spec", {})
    if "minAvailable" in spec and "maxUnavailable" in spec:
        problems.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")
    for field in ("minAvailable", "maxUnavailable"):
        value = spec.get(field)
        if value is None:
            continue
        int_or_percent(value, f"spec.{field}", problems)
        if isinstance(value, str) and not names.percent(value) and int(value[:-1]) > 100:
            problems.invalid(f"spec.{field}", value, "must not be greater than 100%")
    if "selector" in spec:
        label_selector(spec["selector"], "spec.selector", problems)
    if "unhealthyPodEvictionPolicy" in spec:
        problems.one_of(
            spec, "unhealthyPodEvictionPolicy", "spec", supported=("AlwaysAllow", "IfHealthyBudget")
        )
