"""Rules of containers that stand for themselves: resize policies, block devices, profiles (pkg/apis/core/validation)."""

from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.pod_extras import apparmor
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_HUGE = "hugepages-"


def extras(tree: Tree, path: str, problems: Problems, *, volumes: frozenset[str]) -> None:
    """Check the small things of a container; `volumes` are those of its pod."""
    _resize_policies(tree.get("resizePolicy", ()), f"{path}.resizePolicy", problems)
    _devices(tree, path, problems, volumes=volumes)
    _huge_pages(tree.get("resources", {}), f"{path}.resources", problems)
    for index, mount in enumerate(tree.get("volumeMounts", ())):
        _mount(mount, f"{path}.volumeMounts[{index}]", problems)
    for index, source in enumerate(tree.get("envFrom", ())):
        if prefix := source.get("prefix"):
            problems.each(f"{path}.envFrom[{index}].prefix", prefix, names.variable(prefix))
    context, here = tree.get("securityContext", {}), f"{path}.securityContext"
    apparmor(context, here, problems)
    if context.get("procMount"):
        problems.one_of(context, "procMount", here, supported=("Default", "Unmasked"))
    added = (context.get("capabilities") or {}).get("add", ())
    if context.get("allowPrivilegeEscalation") is False and any(
        c in ("CAP_SYS_ADMIN", "SYS_ADMIN") for c in added
    ):
        problems.invalid(
            here,
            context,
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        )


def targets(spec: Tree, path: str, problems: Problems) -> None:
    """Check that ephemeral containers look at containers that exist and mount no part of a volume."""
    known = {one.get("name") for field in ("containers", "initContainers") for one in spec.get(field, ())}
    for index, one in enumerate(spec.get("ephemeralContainers", ())):
        here = f"{path}.ephemeralContainers[{index}]"
        target = one.get("targetContainerName")
        if target and target not in known:
            problems.not_found(f"{here}.targetContainerName", target)
        for number, mount in enumerate(one.get("volumeMounts", ())):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    problems.forbidden(
                        f"{here}.volumeMounts[{number}].{field}", "cannot be set for an Ephemeral Container"
                    )


def _resize_policies(policies: list[Tree], path: str, problems: Problems) -> None:
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        name = policy.get("resourceName", "")
        if name in seen:
            problems.duplicate(f"{path}[{index}]", name)
        seen.add(name)
        problems.one_of(policy, "resourceName", f"{path}[{index}]", supported=("cpu", "memory"))
        problems.one_of(
            policy, "restartPolicy", f"{path}[{index}]", supported=("NotRequired", "RestartContainer")
        )


def _devices(tree: Tree, path: str, problems: Problems, *, volumes: frozenset[str]) -> None:
    mounted = {mount.get("name") for mount in tree.get("volumeMounts", ())}
    seen: set[str] = set()
    for index, device in enumerate(tree.get("volumeDevices", ())):
        here = f"{path}.volumeDevices[{index}]"
        if problems.given(device, "name", here):
            name = device["name"]
            if name not in volumes:
                problems.not_found(f"{here}.name", name)
            if name in mounted:
                problems.invalid(f"{here}.name", name, "must not already exist in volumeMounts")
        if problems.given(device, "devicePath", here):
            where = device["devicePath"]
            if where in seen:
                problems.invalid(f"{here}.devicePath", where, "must be unique")
            if ".." in where.split("/"):
                problems.invalid(f"{here}.devicePath", where, "must not contain '..'")
            seen.add(where)


def _huge_pages(resources: Tree, path: str, problems: Problems) -> None:
    asked = resources.get("limits", {}).keys() | resources.get("requests", {}).keys()
    if any(name.startswith(_HUGE) for name in asked) and not asked & {"cpu", "memory"}:
        problems.forbidden(path, "HugePages require cpu or memory")


def _mount(mount: Tree, path: str, problems: Problems) -> None:
    recursive = mount.get("recursiveReadOnly")
    if recursive is None:
        return
    problems.one_of(mount, "recursiveReadOnly", path, supported=("Disabled", "Enabled", "IfPossible"))
    if recursive != "Disabled" and not mount.get("readOnly"):
        problems.forbidden(f"{path}.recursiveReadOnly", "may only be specified when readOnly is true")
    elif recursive != "Disabled" and mount.get("mountPropagation", "None") != "None":
        problems.forbidden(
            f"{path}.recursiveReadOnly",
            "may only be specified when mountPropagation is None or not specified",
        )
