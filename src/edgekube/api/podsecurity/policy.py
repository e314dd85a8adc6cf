"""Levels and versions: which checks a Namespace's labels ask for, and what they find."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekube.api.podsecurity import baseline, restricted
from edgekube.api.podsecurity.words import Check, Pod, Tree, Violation

PREFIX = "pod-security.kubernetes.io/"
LEVELS = ("privileged", "baseline", "restricted")
LATEST = "latest"
NEWEST = 37
"""The minor version whose checks `latest` means."""
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]{0,4})")

BASELINE: Sequence[tuple[str, int, Check]] = (
    ("appArmorProfile", 0, baseline.apparmor),
    ("capabilities", 0, baseline.capabilities),
    ("hostNamespaces", 0, baseline.host_namespaces),
    ("hostPathVolumes", 0, baseline.host_paths),
    ("hostPorts", 0, baseline.host_ports),
    ("hostProbesAndHostLifecycle", 34, baseline.probe_hosts),
    ("privileged", 0, baseline.privileged),
    ("procMount", 0, baseline.proc_mount),
    ("seLinuxOptions", 0, baseline.selinux),
    ("seccompProfile", 19, baseline.seccomp),
    ("sysctls", 0, baseline.sysctls),
    ("windowsHostProcess", 0, baseline.host_process),
)
"""Name, first minor version, check."""
RESTRICTED: Sequence[tuple[str, int, Check, str]] = (
    ("allowPrivilegeEscalation", 8, restricted.escalation, ""),
    ("capabilities", 22, restricted.capabilities, "capabilities"),
    ("restrictedVolumes", 0, restricted.volumes, "hostPathVolumes"),
    ("runAsNonRoot", 0, restricted.run_as_non_root, ""),
    ("runAsUser", 23, restricted.run_as_user, ""),
    ("seccompProfile", 19, restricted.seccomp, "seccompProfile"),
)
"""The same, and which baseline check it makes superfluous."""


@dataclass(frozen=True, slots=True)
class Standard:
    """A level as of a version, as labels say it: `restricted:latest`."""

    level: str = "privileged"
    version: str = LATEST

    @property
    def minor(self) -> int:
        """The minor version whose checks count."""
        match = _VERSION.fullmatch(self.version)
        return min(int(match[1]), NEWEST) if match else NEWEST

    def __str__(self) -> str:
        return f"{self.level}:{self.version}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a Namespace asks for."""

    enforce: Standard = Standard()
    audit: Standard = Standard()
    warn: Standard = Standard()

    @property
    def idle(self) -> bool:
        """Whether nothing is asked for."""
        return all(s.level == "privileged" for s in (self.enforce, self.audit, self.warn))


def policy_of(labels: Mapping[str, str], default: Policy = Policy()) -> Policy:
    """Read a Namespace's labels; what cannot be read is taken for the strictest."""

    def read(mode: str, fallback: Standard) -> Standard:
        level, version = labels.get(PREFIX + mode), labels.get(f"{PREFIX}{mode}-version")
        if level is None and version is None:
            return fallback
        chosen = fallback.level if level is None else level if level in LEVELS else LEVELS[-1]
        readable = version is not None and (version == LATEST or _VERSION.fullmatch(version))
        return Standard(chosen, version if version and readable else LATEST)

    return Policy(read("enforce", default.enforce), read("audit", default.audit), read("warn", default.warn))


def label_problems(labels: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return (label, value, message) of the labels that cannot be read."""
    found = []
    for mode in ("enforce", "audit", "warn"):
        level, version = labels.get(PREFIX + mode), labels.get(f"{PREFIX}{mode}-version")
        if level is not None and level not in LEVELS:
            found.append((PREFIX + mode, level, f"must be one of {', '.join(LEVELS)}"))
        if version is not None and version != LATEST and not _VERSION.fullmatch(version):
            found.append((f"{PREFIX}{mode}-version", version, 'must be "latest" or "v1.x"'))
    return found


def violations(standard: Standard, metadata: Tree, spec: Tree) -> list[Violation]:
    """Return what a pod (or a template) does that the standard does not allow."""
    if standard.level == "privileged":
        return []
    pod = Pod(metadata=metadata, spec=spec, minor=standard.minor)
    hardened = [c for c in RESTRICTED if standard.level == "restricted" and pod.minor >= c[1]]
    covered = {replaced for *_, replaced in hardened}
    checks = [check for name, since, check in BASELINE if pod.minor >= since and name not in covered]
    checks += [check for _, _, check, _ in hardened]
    return [found for check in checks if (found := check(pod)) is not None]


def sentence(standard: Standard, found: Sequence[Violation]) -> str:
    """Return `violates PodSecurity "restricted:latest": …`."""
    return f'violate PodSecurity "{standard}": {", ".join(map(str, found))}'
