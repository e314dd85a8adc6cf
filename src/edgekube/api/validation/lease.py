"""Leases."""

from typing import Any

from edgekube.api.validation.problems import Problems


def lease(tree: dict[str, Any], problems: Problems) -> None:
    """Check a Lease."""
    spec = tree.get("spec", {})
    problems.at_least(spec, "leaseDurationSeconds", "spec", least=1)
    problems.at_least(spec, "leaseTransitions", "spec")
