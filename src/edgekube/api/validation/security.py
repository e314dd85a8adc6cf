"""Security contexts of pods and containers."""

from typing import Any

from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_ID = "must be between 0 and 2147483647, inclusive"
_SECCOMP = ("Localhost", "RuntimeDefault", "Unconfined")
_PROPAGATION = ("Bidirectional", "HostToContainer", "None")


def pod(context: Tree, path: str, problems: Problems) -> None:
    """Check a PodSecurityContext."""
    _ids(context, ("fsGroup", "runAsUser", "runAsGroup"), path, problems=problems)
    for index, group in enumerate(context.get("supplementalGroups", ())):
        if not 0 <= group < 2**31:
            problems.invalid(f"{path}.supplementalGroups[{index}]", group, _ID)
    if context.get("fsGroupChangePolicy"):
        problems.one_of(context, "fsGroupChangePolicy", path, supported=("Always", "OnRootMismatch"))
    _seccomp(context, path, problems)
    seen: set[str] = set()
    for index, setting in enumerate(context.get("sysctls", ())):
        here = f"{path}.sysctls[{index}]"
        name = setting.get("name", "")
        if problems.given(setting, "name", here) and name in seen:
            problems.duplicate(f"{here}.name", name)
        seen.add(name)


def container(tree: Tree, path: str, problems: Problems) -> None:
    """Check a container's SecurityContext and what depends on it."""
    context = tree.get("securityContext", {})
    _ids(context, ("runAsUser", "runAsGroup"), path, problems=problems)
    _seccomp(context, path, problems)
    if context.get("privileged") and context.get("allowPrivilegeEscalation") is False:
        problems.invalid(
            path, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        )
    for index, mount in enumerate(tree.get("volumeMounts", ())):
        where = f"{path.removesuffix('.securityContext')}.volumeMounts[{index}]"
        if not mount.get("mountPropagation"):
            continue
        problems.one_of(mount, "mountPropagation", where, supported=_PROPAGATION)
        if mount["mountPropagation"] == "Bidirectional" and not context.get("privileged"):
            problems.forbidden(
                f"{where}.mountPropagation",
                "Bidirectional mount propagation is available only to privileged containers",
            )


def _ids(context: Tree, fields: tuple[str, ...], path: str, *, problems: Problems) -> None:
    for field in fields:
        value = context.get(field)
        if value is not None and not 0 <= value < 2**31:
            problems.invalid(f"{path}.{field}", value, _ID)


def _seccomp(context: Tree, path: str, problems: Problems) -> None:
    if "seccompProfile" not in context:
        return
    profile, here = context["seccompProfile"], f"{path}.seccompProfile"
    problems.one_of(profile, "type", here, supported=_SECCOMP)
    if profile.get("type") == "Localhost":
        if not profile.get("localhostProfile"):
            problems.required(f"{here}.localhostProfile", "must be set when seccomp type is Localhost")
    elif "localhostProfile" in profile:
        problems.invalid(
            f"{here}.localhostProfile",
            profile["localhostProfile"],
            "can only be set when seccomp type is Localhost",
        )
