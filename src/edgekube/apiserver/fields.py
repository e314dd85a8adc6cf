"""Field selectors: which fields a kind may be selected by, and where they are (API server's conversion tables)."""

from collections.abc import Mapping
from typing import Any

from edgekube.api.errors import BadRequest
from edgekube.api.resource import AnyResource
from edgekube.api.selectors import ANY_FIELDS, FieldMatcher, parse_fields
from edgekube.apiserver.request import Tree

Paths = Mapping[str, tuple[str, ...]]

EVERY: Paths = {"metadata.name": ("metadata", "name")}
NAMESPACED: Paths = {"metadata.namespace": ("metadata", "namespace")}


def _paths(*labels: str) -> Paths:
    return {label: tuple(label.split(".")) for label in labels}


FIELDS: Mapping[str, Paths] = {
    "pods": _paths(
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
        "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName",
    ),
    "nodes": _paths("spec.unschedulable"),
    "namespaces": _paths("status.phase"),
    "secrets": _paths("type"),
    "services": _paths("spec.clusterIP", "spec.type"),
    "events": {
        **_paths(
            "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
            "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
            "type", "reportingComponent",
        ),
        "source": ("source", "component"),
    },
    "replicasets.apps": _paths("status.replicas"),
    "replicationcontrollers": _paths("status.replicas"),
    "jobs.batch": {"status.successful": ("status", "succeeded")},
    "certificatesigningrequests.certificates.k8s.io": _paths("spec.signerName"),
}  # fmt: skip
BOOLEANS = frozenset({"spec.unschedulable", "spec.hostNetwork"})
NUMBERS = frozenset({"status.replicas", "status.successful"})


def paths_of(row: AnyResource) -> Paths:
    """Return the fields a resource may be selected by."""
    common = {**EVERY, **NAMESPACED} if row.namespaced else EVERY
    if row.custom is not None:
        return {**common, **row.custom.fields}
    return {**common, **FIELDS.get(row.group_resource, {})}


def absent(label: str) -> str:
    """Return what a field that is not there is selected by."""
    if label in BOOLEANS:
        return "false"
    return "0" if label in NUMBERS else ""


def values_of(paths: Paths, tree: Tree) -> dict[str, str]:
    """Return the fields' values as text; absent ones are "" (false, or 0)."""
    return {label: _text(label, _at(tree, path)) for label, path in paths.items()}


def _at(tree: Tree, path: tuple[str, ...]) -> Any:
    node: Any = tree
    for step in path:
        if not isinstance(node, dict):
            return None
        node = node.get(step)
    return node


def _text(label: str, value: Any) -> str:
    if label in BOOLEANS:
        return "true" if value else "false"
    return absent(label) if value is None else str(value)


def matcher(row: AnyResource, text: str, name: str = "") -> FieldMatcher:
    """Parse a request's field selector; raises BadRequest for fields the kind is not selected by."""
    if name:
        text = f"{text},metadata.name={name}" if text else f"metadata.name={name}"
    if not text:
        return ANY_FIELDS
    parsed = parse_fields(text)
    allowed = paths_of(row)
    for key in sorted(parsed.keys):
        if key not in allowed:
            raise BadRequest(f"field label not supported: {key}")
    return parsed
