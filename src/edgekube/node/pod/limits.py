"""Resources and security contexts as the runtime wants them. Pure (kubelet's cm/helpers_linux, securitycontext)."""

from pathlib import Path

from edgekube.api import quantity
from edgekube.api.types import core_v1
from edgekube.node.env.environment import ConfigError
from edgekube.node.pod.spec import is_sidecar, qos_class
from edgekube.runtime.base import ImageInfo, Limits, Security

MIN_SHARES, SHARES_PER_CPU = 2, 1024
MIN_QUOTA = 1000
PERIOD = 100_000
NODE_CRITICAL = 2_000_000_000
"""Priority of pods without which a node does not work (scheduling.SystemCriticalPriority)."""
OOM_SCORE = {"Guaranteed": -997, "BestEffort": 1000}


def limits_of(pod: core_v1.Pod, container: core_v1.Container, *, node_memory: int) -> Limits:
    """Return the cgroup limits; `node_memory` in bytes weighs the OOM score of Burstable pods."""
    resources = container.resources or core_v1.ResourceRequirements()
    cpu = quantity.milli(resources.limits["cpu"]) if "cpu" in resources.limits else 0
    memory = quantity.value(resources.limits["memory"]) if "memory" in resources.limits else 0
    wanted = quantity.milli(resources.requests["cpu"]) if "cpu" in resources.requests else cpu
    return Limits(
        memory=memory or None,
        cpu_shares=max(wanted * SHARES_PER_CPU // 1000, MIN_SHARES),
        cpu_quota=max(cpu * PERIOD // 1000, MIN_QUOTA) if cpu else None,
        cpu_period=PERIOD,
        oom_score_adj=_oom_score(pod, container, node_memory),
    )


def _oom_score(pod: core_v1.Pod, container: core_v1.Container, node_memory: int) -> int:
    """Return the score: a sidecar is never killed before the containers it is there for (kubelet's qos policy)."""
    quality = qos_class(pod)
    if (pod.spec.priority or 0) >= NODE_CRITICAL:
        return OOM_SCORE["Guaranteed"]
    if quality in OOM_SCORE:
        return OOM_SCORE[quality]
    score = _burstable(container, node_memory)
    if is_sidecar(container):
        return min(score, *(_burstable(main, node_memory) for main in pod.spec.containers))
    return score


def _burstable(container: core_v1.Container, node_memory: int) -> int:
    resources = container.resources or core_v1.ResourceRequirements()
    text = resources.requests.get("memory") or resources.limits.get("memory") or "0"
    share = 1000 * quantity.value(text) // max(node_memory, 1)
    return min(max(1000 - share, 3), 999)


def security_of(
    pod: core_v1.Pod, container: core_v1.Container, image: ImageInfo, *, profiles: Path
) -> Security:
    """
    Return who runs the container and what it may do; `profiles` holds localhost seccomp profiles.

    Raises ConfigError for what this node cannot give, and when it must not run as root but would.
    """
    if pod.spec.host_users is False:
        raise ConfigError("the runtime does not support user namespaces (spec.hostUsers is false)")
    general = pod.spec.security_context or core_v1.PodSecurityContext()
    own = container.security_context or core_v1.SecurityContext()
    user = general.run_as_user if own.run_as_user is None else own.run_as_user
    group = general.run_as_group if own.run_as_group is None else own.run_as_group
    non_root = general.run_as_non_root if own.run_as_non_root is None else own.run_as_non_root
    if non_root:
        _check_non_root(container.name, image, user)
    capabilities = own.capabilities or core_v1.Capabilities()
    groups = (*general.supplemental_groups, *((general.fs_group,) if general.fs_group is not None else ()))
    if general.supplemental_groups_policy == "Strict" and group is None:
        # With a group given the runtime adds none of those that the image's /etc/group names.
        group = _group_of(image)
    return Security(
        user=_user(user, group, image),
        groups=groups,
        privileged=bool(own.privileged),
        read_only_root=bool(own.read_only_root_filesystem),
        no_new_privileges=own.allow_privilege_escalation is False and not own.privileged,
        cap_add=capabilities.add,
        cap_drop=capabilities.drop,
        seccomp=_seccomp(own.seccomp_profile or general.seccomp_profile, profiles),
        apparmor=_apparmor(own.app_armor_profile or general.app_armor_profile),
        # Those of the network are set when the pod's namespace is made.
        sysctls={
            name: s.value
            for s in general.sysctls
            if not (name := s.name.replace("/", ".")).startswith("net.")
        },
        mask_proc=own.proc_mount != "Unmasked",
    )


def _user(user: int | None, group: int | None, image: ImageInfo) -> str:
    if user is None and group is None:
        return ""
    name = image.user.partition(":")[0] or "0" if user is None else str(user)
    return name if group is None else f"{name}:{group}"


def _group_of(image: ImageInfo) -> int:
    """Return the group an image's user has by number; 0, as for a user that the image does not know."""
    text = image.user.partition(":")[2]
    return int(text) if text.isdecimal() else 0


def _apparmor(profile: core_v1.AppArmorProfile | None) -> str:
    if profile is None or profile.type == "RuntimeDefault":
        return ""
    return profile.localhost_profile if profile.type == "Localhost" else "unconfined"


def _seccomp(profile: core_v1.SeccompProfile | None, profiles: Path) -> str:
    """Containers without a profile run unconfined, as the kubelet does unless told otherwise."""
    if profile is None or profile.type == "Unconfined":
        return "unconfined"
    return str(profiles / profile.localhost_profile) if profile.type == "Localhost" else ""


def _check_non_root(name: str, image: ImageInfo, user: int | None) -> None:
    if user is not None:
        if user == 0:
            raise ConfigError(f'container\'s runAsUser breaks non-root policy (container: "{name}")')
        return
    own = image.user.partition(":")[0]
    if own in ("", "0", "root"):
        raise ConfigError(f'container has runAsNonRoot and image will run as root (container: "{name}")')
    if not own.isdecimal():
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({own}), cannot verify user is non-root "
            f'(container: "{name}")'
        )
