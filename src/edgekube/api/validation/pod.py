"""Pods."""

from typing import Any

from edgekube.api.validation.pod_spec import pod_spec
from edgekube.api.validation.problems import Problems


def pod(tree: dict[str, Any], problems: Problems) -> None:
    """Check a Pod."""
    pod_spec(tree.get("spec", {}), "spec", problems)
