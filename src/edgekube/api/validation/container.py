"""Containers, init containers and ephemeral containers."""

from collections.abc import Callable
from typing import Any

from edgekube.api.validation import names, security
from edgekube.api.validation.container_extras import extras
from edgekube.api.validation.probes import probes
from edgekube.api.validation.problems import Problems
from edgekube.api.validation.references import field_reference, resource_reference
from edgekube.api.validation.resources import requirements
from edgekube.api.validation.service import PROTOCOLS
from edgekube.api.validation.volumes import relative_path

Tree = dict[str, Any]
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_SOURCES = ("configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef", "secretKeyRef")
_ONE_SOURCE = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
_NOT_EPHEMERAL = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle")


def container(tree: Tree, path: str, problems: Problems, *, volumes: frozenset[str]) -> None:
    """Check one container; `volumes` are those of its pod."""
    if problems.given(tree, "name", path):
        problems.each(f"{path}.name", tree["name"], names.label(tree["name"]))
    image = tree.get("image", "")
    if not image:
        problems.required(f"{path}.image")
    elif image != image.strip():
        problems.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    problems.one_of(tree, "imagePullPolicy", path, supported=_PULL_POLICIES)
    problems.one_of(tree, "terminationMessagePolicy", path, supported=("FallbackToLogsOnError", "File"))
    ports(tree.get("ports", ()), f"{path}.ports", problems)
    _environment(tree, path, problems)
    probes(tree, path, problems)
    requirements(tree.get("resources", {}), f"{path}.resources", problems)
    _mounts(tree.get("volumeMounts", ()), f"{path}.volumeMounts", problems, volumes=volumes)
    security.container(tree, f"{path}.securityContext", problems)
    extras(tree, path, problems, volumes=volumes)


def init_container(tree: Tree, path: str, problems: Problems, *, volumes: frozenset[str]) -> None:
    """Check one init container; only one that goes on running (restartPolicy Always) has probes and hooks."""
    container(tree, path, problems, volumes=volumes)
    policy = tree.get("restartPolicy")
    if policy is not None and policy != "Always":
        problems.unsupported(f"{path}.restartPolicy", policy, ("Always",))
    if policy != "Always":
        for name in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
            if name in tree:
                problems.forbidden(
                    f"{path}.{name}", "may not be set for init containers without restartPolicy=Always"
                )


def ephemeral_container(tree: Tree, path: str, problems: Problems, *, volumes: frozenset[str]) -> None:
    """Check one ephemeral container: a visitor without ports, probes or resources."""
    container(tree, path, problems, volumes=volumes)
    for name in (*_NOT_EPHEMERAL, "resources"):
        if tree.get(name):
            problems.forbidden(f"{path}.{name}", "cannot be set for an Ephemeral Container")


def ports(given: list[Tree], path: str, problems: Problems) -> None:
    """Check a container's ports."""
    seen: set[str] = set()
    for index, port in enumerate(given):
        here = f"{path}[{index}]"
        name = port.get("name", "")
        if name:
            problems.each(f"{here}.name", name, names.port_name(name))
            if name in seen:
                problems.duplicate(f"{here}.name", name)
            seen.add(name)
        if not port.get("containerPort"):
            problems.required(f"{here}.containerPort")
        else:
            problems.each(
                f"{here}.containerPort", port["containerPort"], names.port_number(port["containerPort"])
            )
        if port.get("hostPort"):
            problems.each(f"{here}.hostPort", port["hostPort"], names.port_number(port["hostPort"]))
        problems.one_of(port, "protocol", here, supported=PROTOCOLS)


def _environment(tree: Tree, path: str, problems: Problems) -> None:
    for index, variable in enumerate(tree.get("env", ())):
        here = f"{path}.env[{index}]"
        if problems.given(variable, "name", here):
            problems.each(f"{here}.name", variable["name"], names.variable(variable["name"]))
        if "valueFrom" in variable:
            _value_from(variable, f"{here}.valueFrom", problems)
    for index, source in enumerate(tree.get("envFrom", ())):
        here = f"{path}.envFrom[{index}]"
        found = [name for name in ("configMapRef", "secretRef") if name in source]
        if not found:
            problems.invalid(here, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(found) > 1:
            problems.invalid(here, "", "may not have more than one field specified at a time")
        for name in found:
            problems.given(source[name], "name", f"{here}.{name}")


def _value_from(variable: Tree, path: str, problems: Problems) -> None:
    source = variable["valueFrom"]
    found = [name for name in _SOURCES if name in source]
    if not found:
        problems.invalid(path, "", _ONE_SOURCE)
    elif variable.get("value"):
        problems.invalid(path, "", "may not be specified when `value` is not empty")
    elif len(found) > 1:
        problems.invalid(path, "", "may not have more than one field specified at a time")
    for name in found:
        _CHECKS[name](source[name], f"{path}.{name}", problems)


def _key_reference(tree: Tree, path: str, problems: Problems) -> None:
    problems.given(tree, "name", path)
    if problems.given(tree, "key", path):
        problems.each(f"{path}.key", tree["key"], names.config_key(tree["key"]))


def _file_reference(tree: Tree, path: str, problems: Problems) -> None:
    for field in ("volumeName", "path", "key"):
        problems.given(tree, field, path)


_CHECKS: dict[str, Callable[[Tree, str, Problems], None]] = {
    "configMapKeyRef": _key_reference,
    "secretKeyRef": _key_reference,
    "fileKeyRef": _file_reference,
    "fieldRef": lambda tree, path, problems: field_reference(tree, path, problems, in_volume=False),
    "resourceFieldRef": resource_reference,
}


def _mounts(mounts: list[Tree], path: str, problems: Problems, *, volumes: frozenset[str]) -> None:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        here = f"{path}[{index}]"
        if problems.given(mount, "name", here) and mount["name"] not in volumes:
            problems.not_found(f"{here}.name", mount["name"])
        if problems.given(mount, "mountPath", here):
            if mount["mountPath"] in seen:
                problems.invalid(f"{here}.mountPath", mount["mountPath"], "must be unique")
            seen.add(mount["mountPath"])
        for field in ("subPath", "subPathExpr"):
            if mount.get(field):
                relative_path(mount[field], f"{here}.{field}", problems)
        if mount.get("subPath") and mount.get("subPathExpr"):
            problems.invalid(
                f"{here}.subPathExpr", mount["subPathExpr"], "subPathExpr and subPath are mutually exclusive"
            )
