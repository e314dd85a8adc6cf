"""Leases."""

from typing import Any

from edgekube.api.validation.problems import Problems


def lease(tree: dict[str, Any], problems: Problems) -> None:
    """Check a Lease."""
    spec = tree.get("spec", {})
    strategy = spec.get("strategy")
    if strategy and spec.get("holderIdentity") == "":
        problems.invalid("spec.holderIdentity", "", "must not be empty")
    if spec.get("preferredHolder") and not strategy:
        problems.forbidden("spec.preferredHolder", "may only be specified when `strategy` is defined")
    elif spec.get("preferredHolder") == "":
        problems.invalid("spec.preferredHolder", "", "must not be empty")
    problems.at_least(spec, "leaseDurationSeconds", "spec", least=1)
    problems.at_least(spec, "leaseTransitions", "spec")
