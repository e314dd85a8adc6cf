"""Rules of metadata (apimachinery/pkg/api/validation)."""

from typing import Any

from edgekube.api.resource import AnyResource
from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
ANNOTATIONS_LIMIT = 256 * 1024
_FINALIZERS = ("foregroundDeletion", "kubernetes", "orphan")
_NAMES: dict[tuple[str, str], names.Rule] = {
    ("", "Namespace"): names.label,
    ("", "Service"): names.label_1035,
    ("certificates.k8s.io", "CertificateSigningRequest"): names.path_segment,
    ("apiregistration.k8s.io", "APIService"): names.path_segment,
    ("networking.k8s.io", "IPAddress"): names.path_segment,
    ("rbac.authorization.k8s.io", "Role"): names.path_segment,
    ("rbac.authorization.k8s.io", "ClusterRole"): names.path_segment,
    ("rbac.authorization.k8s.io", "RoleBinding"): names.path_segment,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): names.path_segment,
}


_ANY_FINALIZER = frozenset({"apiextensions.k8s.io", "apiregistration.k8s.io"})
"""Groups that are not checked by the core's rules: their finalizers need no domain, nor do custom resources'."""


def create(resource: AnyResource, metadata: Tree, problems: Problems) -> None:
    """Check a new object's metadata."""
    _name(resource, metadata, problems)
    _namespace(resource, metadata, problems)
    _common(resource, metadata, problems)


def update(resource: AnyResource, metadata: Tree, old: Tree, *, problems: Problems) -> None:
    """Check an object's metadata against its predecessor's."""
    for field in (
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ):
        # A client need not send what only the server sets.
        if field in ("name", "namespace") or field in metadata:
            problems.unchanged(metadata, old, field, "metadata")
    _namespace(resource, metadata, problems)
    if "deletionTimestamp" in old:
        added = [name for name in metadata.get("finalizers", ()) if name not in old.get("finalizers", ())]
        if added:
            listed = ", ".join(f'"{name}"' for name in added)
            problems.forbidden(
                "metadata.finalizers",
                f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}",
            )
    _common(resource, metadata, problems)


def labels(tree: Tree, path: str, problems: Problems) -> None:
    """Check a map of labels."""
    for key, value in tree.items():
        problems.each(path, key, names.qualified(key))
        problems.each(path, value, names.label_value(value))


def annotations(tree: Tree, path: str, problems: Problems) -> None:
    """Check a map of annotations; keys may be upper case."""
    size = 0
    for key, value in tree.items():
        problems.each(path, key, names.qualified(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_LIMIT:
        problems.too_long(path, ANNOTATIONS_LIMIT)


def finalizer(name: str, path: str, problems: Problems) -> None:
    """Check a finalizer's name."""
    problems.each(path, name, names.qualified(name))
    if "/" not in name and name not in _FINALIZERS:
        problems.invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified")


def _name(resource: AnyResource, metadata: Tree, problems: Problems) -> None:
    rule = _NAMES.get((resource.group, resource.kind), names.subdomain)
    name, prefix = metadata.get("name", ""), metadata.get("generateName", "")
    if prefix:
        problems.each("metadata.generateName", prefix, names.as_prefix(rule, prefix))
    if name:
        problems.each("metadata.name", name, rule(name))
    else:
        problems.required("metadata.name", "name or generateName is required")


def _namespace(resource: AnyResource, metadata: Tree, problems: Problems) -> None:
    namespace = metadata.get("namespace", "")
    if not resource.namespaced:
        if namespace:
            problems.forbidden("metadata.namespace", "not allowed on this type")
    elif not namespace:
        problems.required("metadata.namespace")
    else:
        problems.each("metadata.namespace", namespace, names.label(namespace))


def _common(resource: AnyResource, metadata: Tree, problems: Problems) -> None:
    labels(metadata.get("labels", {}), "metadata.labels", problems)
    annotations(metadata.get("annotations", {}), "metadata.annotations", problems)
    problems.at_least(metadata, "generation", "metadata")
    _owners(metadata.get("ownerReferences", ()), problems)
    given = metadata.get("finalizers", ())
    for index, name in enumerate(given):
        path = f"metadata.finalizers[{index}]"
        if resource.custom is not None or resource.group in _ANY_FINALIZER:
            problems.each(path, name, names.qualified(name))
        else:
            finalizer(name, path, problems)
    if "orphan" in given and "foregroundDeletion" in given:
        problems.invalid(
            "metadata.finalizers", given, "finalizers orphan and foregroundDeletion cannot be both set"
        )


def _owners(owners: list[Tree], problems: Problems) -> None:
    controllers = []
    for index, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{index}]"
        if not owner.get("apiVersion", "").rpartition("/")[2]:
            problems.invalid(f"{path}.apiVersion", owner.get("apiVersion", ""), "version must not be empty")
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                problems.invalid(f"{path}.{field}", owner.get(field, ""), "must not be empty")
        if owner.get("controller"):
            controllers.append(owner.get("name", ""))
    if len(controllers) > 1:
        problems.invalid(
            "metadata.ownerReferences",
            owners,
            'Only one reference can have Controller set to true. Found "true" in references for '
            f"{controllers[0]} and {controllers[1]}",
        )
