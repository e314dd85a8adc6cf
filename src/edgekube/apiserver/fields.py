"""Field selectors: which fields a kind may be selected by, and where they are (API server's conversion tables)."""

from collections.abc import Mapping
from dataclasses import replace

from edgekube.api.errors import BadRequest
from edgekube.api.resource import AnyResource
from edgekube.api.selectors import ANY_FIELDS, FieldMatcher, parse_fields

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
INSTEAD: Mapping[tuple[str, str], str] = {("events", "source"): "reportingComponent"}
"""The field that a label selects by where its own is not there (pkg/registry/core/event)."""
RELABELLED: Mapping[str, Mapping[str, str]] = {
    "events.events.k8s.io": {
        **{label: label for label in ("metadata.name", "metadata.namespace", "reason", "type")},
        **{
            f"regarding.{name}": f"involvedObject.{name}"
            for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        },
        "reportingController": "reportingComponent",
    },
}
"""What labels are called in the version that is stored, of kinds served in another whose fields have other names."""
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


def relabelled(row: AnyResource, text: str) -> str:
    """Return a field selector of a version as the stored one has it; raises BadRequest."""
    labels = RELABELLED.get(row.group_resource)
    if not text or labels is None:
        return text
    terms = []
    for term in parse_fields(text).terms:
        if term.key not in labels:
            raise BadRequest(f"field label not supported: {term.key}")
        terms.append(replace(term, key=labels[term.key]))
    return str(FieldMatcher(tuple(terms)))


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
