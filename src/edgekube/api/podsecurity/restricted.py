"""The checks that level restricted adds: hardened pods."""

from edgekube.api.podsecurity.baseline import beyond
from edgekube.api.podsecurity.words import Pod, Violation, containers, many, quoted, setters

VOLUMES = frozenset({
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
})  # fmt: skip
ADDED = frozenset({"NET_BIND_SERVICE"})
WINDOWS_SINCE = 25
"""Since this minor version, what Windows does not have is not asked of its pods."""


def _spared(pod: Pod) -> bool:
    return pod.windows and pod.minor >= WINDOWS_SINCE


def escalation(pod: Pod) -> Violation | None:
    """No gaining of privileges."""
    bad = [] if _spared(pod) else pod.named(lambda s: s.get("allowPrivilegeEscalation") is not False)
    if not bad:
        return None
    detail = f"{containers(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Violation("allowPrivilegeEscalation != false", detail)


def capabilities(pod: Pod) -> Violation | None:
    """All dropped; only NET_BIND_SERVICE may come back."""
    if _spared(pod):
        return None
    kept = pod.named(lambda s: "ALL" not in ((s.get("capabilities") or {}).get("drop") or ()))
    names, added = beyond(pod, ADDED)
    found = [f'{containers(kept)} must set securityContext.capabilities.drop=["ALL"]'] if kept else []
    if names:
        found.append(
            f"{containers(names)} must not include {quoted(added)} in securityContext.capabilities.add"
        )
    return Violation("unrestricted capabilities", "; ".join(found)) if found else None


def volumes(pod: Pod) -> Violation | None:
    """Only volumes that show nothing of the node."""
    names, types = [], set()
    for volume in pod.spec.get("volumes") or ():
        kinds = volume.keys() - {"name"}
        if kinds and not kinds <= VOLUMES:
            names.append(volume["name"])
            types |= kinds - VOLUMES
    if not names:
        return None
    verb = "uses" if len(names) == 1 else "use"
    said = f"{verb} restricted volume {many('type', list(types))} {quoted(sorted(types))}"
    return Violation("restricted volume types", f"{many('volume', names)} {quoted(names)} {said}")


def run_as_non_root(pod: Pod) -> Violation | None:
    """Said by the pod or by every container."""
    whole = pod.security.get("runAsNonRoot")
    denied = pod.named(lambda s: s.get("runAsNonRoot") is False)
    silent = [] if whole else pod.named(lambda s: s.get("runAsNonRoot") is None)
    if whole is False or denied:
        detail = f"{setters(whole is False, denied)} must not set securityContext.runAsNonRoot=false"
    elif silent:
        detail = f"pod or {containers(silent)} must set securityContext.runAsNonRoot=true"
    else:
        return None
    return Violation("runAsNonRoot != true", detail)


def run_as_user(pod: Pod) -> Violation | None:
    """Not root by number."""
    bad = pod.named(lambda s: s.get("runAsUser") == 0)
    pod_sets = pod.security.get("runAsUser") == 0
    if not (bad or pod_sets):
        return None
    return Violation("runAsUser=0", f"{setters(pod_sets, bad)} must not set runAsUser=0")


def seccomp(pod: Pod) -> Violation | None:
    """A profile, the pod's or every container's own."""
    if _spared(pod):
        return None
    whole = (pod.security.get("seccompProfile") or {}).get("type")
    own = [(c["name"], (s.get("seccompProfile") or {}).get("type")) for c, s in pod.containers()]
    wrong = [(name, kind) for name, kind in own if kind == "Unconfined"]
    if whole == "Unconfined" or wrong:
        who = setters(whole == "Unconfined", [name for name, _ in wrong])
        return Violation(
            "seccompProfile", f'{who} must not set securityContext.seccompProfile.type to "Unconfined"'
        )
    silent = [] if whole else [name for name, kind in own if not kind]
    if not silent:
        return None
    profiles = '"RuntimeDefault" or "Localhost"'
    detail = f"pod or {containers(silent)} must set securityContext.seccompProfile.type to {profiles}"
    return Violation("seccompProfile", detail)
