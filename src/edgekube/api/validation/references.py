"""References to a pod's own fields and resources (the downward API)."""

from typing import Any

from edgekube.api import quantity
from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_IN_ENV = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
_IN_VOLUME = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage",
    "requests.memory",
)  # fmt: skip
_DIVISORS = {
    "cpu": ("1m", "1"),
    "memory": ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"),
}


def field_reference(tree: Tree, path: str, problems: Problems, *, in_volume: bool) -> None:
    """Check an ObjectFieldSelector of a variable or of a file."""
    if not problems.given(tree, "apiVersion", path) or not problems.given(tree, "fieldPath", path):
        return
    text = tree["fieldPath"]
    whole, bracket, key = text.partition("['")
    if bracket and key.endswith("']") and whole in ("metadata.annotations", "metadata.labels"):
        problems.each(f"{path}.fieldPath", key[:-2], names.qualified(key[:-2].lower()))
    elif bracket:
        problems.invalid(f"{path}.fieldPath", text, f'field label does not support subscript: "{whole}"')
    elif text not in (_IN_VOLUME if in_volume else _IN_ENV):
        problems.unsupported(f"{path}.fieldPath", text, _IN_VOLUME if in_volume else _IN_ENV)


def resource_reference(tree: Tree, path: str, problems: Problems) -> None:
    """Check a ResourceFieldSelector."""
    if not problems.given(tree, "resource", path):
        return
    name = tree["resource"]
    if name not in _RESOURCES and ".hugepages-" not in name:
        problems.unsupported(f"{path}.resource", name, _RESOURCES)
        return
    divisor = tree.get("divisor", "0")
    allowed = _DIVISORS["cpu" if name.endswith(".cpu") else "memory"]
    if quantity.parse(divisor) and divisor not in allowed:
        problems.invalid(
            f"{path}.divisor", divisor, f"only divisor's values {' and '.join(allowed)} are supported"
        )
