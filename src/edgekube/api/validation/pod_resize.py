"""What may change through a pod's `resize` subresource (KEP-1287)."""

from typing import Any

from edgekube.api.qos import qos_class
from edgekube.api.validation.pod_spec import pod_spec
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_MIRROR = "kubernetes.io/config.mirror"
_MUTABLE = ("cpu", "memory")
_LISTS = ("containers", "initContainers")


def resize(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check a resize: CPU and memory of containers, and never another class of service."""
    spec, before = tree.get("spec", {}), old.get("spec", {})
    if _MIRROR in old.get("metadata", {}).get("annotations", {}):
        problems.forbidden("", "static pods cannot be resized")
        return
    if (was := qos_class(before)) != qos_class(spec):
        problems.invalid("spec", was, "Pod QOS Class may not change as a result of resizing")
    for field in _LISTS:
        now, had = spec.get(field, ()), before.get(field, ())
        if [one.get("name") for one in now] != [one.get("name") for one in had]:
            problems.forbidden("spec", f"{field} may not be added, removed, renamed or reordered on resize")
            continue
        for index, (one, was_one) in enumerate(zip(now, had, strict=True)):
            _container(
                one, was_one, f"spec.{field}[{index}]", sidecars=field != "containers", problems=problems
            )
    if spec.get("resources") != before.get("resources"):
        _amounts(spec.get("resources", {}), before.get("resources", {}), "spec.resources", problems=problems)
    pod_spec(spec, "spec", problems)


def _container(one: Tree, had: Tree, path: str, *, sidecars: bool, problems: Problems) -> None:
    now, before = one.get("resources", {}), had.get("resources", {})
    if one.get("resizePolicy") != had.get("resizePolicy"):
        problems.forbidden(f"{path}.resizePolicy", "resize policy is immutable")
    if now == before:
        return
    if sidecars and had.get("restartPolicy") != "Always":
        problems.forbidden(f"{path}.resources", "resources for non-sidecar init containers are immutable")
        return
    _amounts(now, before, f"{path}.resources", problems=problems)


def _amounts(now: Tree, before: Tree, path: str, *, problems: Problems) -> None:
    if now.get("claims") != before.get("claims"):
        problems.forbidden("spec", "only cpu and memory resources are mutable")
    for part in ("limits", "requests"):
        amounts, had = now.get(part, {}), before.get(part, {})
        if any(
            amounts.get(name) != had.get(name) for name in amounts.keys() | had.keys() if name not in _MUTABLE
        ):
            problems.forbidden("spec", "only cpu and memory resources are mutable")
        if any(name in had and name not in amounts for name in _MUTABLE):
            problems.forbidden(f"{path}.{part}", f"resource {part} cannot be removed")
