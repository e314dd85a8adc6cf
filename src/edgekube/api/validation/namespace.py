"""Namespaces."""

from typing import Any

from edgekube.api.validation import metadata
from edgekube.api.validation.problems import Problems


def namespace(tree: dict[str, Any], problems: Problems) -> None:
    """Check a Namespace."""
    for index, name in enumerate(tree.get("spec", {}).get("finalizers", ())):
        metadata.finalizer(name, f"spec.finalizers[{index}]", problems)
