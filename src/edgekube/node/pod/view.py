"""One row a container: what its spec says beside what the runtime has of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from edgekube.api.types import core_v1
from edgekube.node import labels
from edgekube.node.clock import parse_stamp
from edgekube.node.pod.spec import is_sidecar, visitors
from edgekube.node.pod.state import Failure, Memory, Observed
from edgekube.node.probes.state import UNKNOWN, Health
from edgekube.runtime.base import ContainerInfo, Phase

LOST_EXIT = 137
"""Exit code of a container that a reboot ended, as the kubelet's ContainerStatusUnknown has it."""
START_ERROR_EXIT = 128


class Role(Enum):
    """What a container is in its pod."""

    INIT = "init"
    SIDECAR = "sidecar"
    MAIN = "main"
    VISITOR = "visitor"
    """An ephemeral container: starts whenever it can, and never again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A container: the newest attempt, the one before, and what is remembered."""

    container: core_v1.Container
    role: Role
    current: ContainerInfo | None = None
    previous: ContainerInfo | None = None
    older: tuple[ContainerInfo, ...] = ()
    """Attempts nobody needs."""
    next_attempt: int = 0
    start_error: Failure | None = None
    lost: bool = False
    """The newest attempt was ended by a reboot."""
    health: Health = UNKNOWN

    @property
    def name(self) -> str:
        """The container's name in the pod."""
        return self.container.name

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.current is not None and self.current.phase in (Phase.RUNNING, Phase.PAUSED)

    @property
    def exited(self) -> bool:
        """Whether the newest attempt has ended."""
        return self.current is not None and self.current.phase is Phase.EXITED

    @property
    def succeeded(self) -> bool:
        """Whether the newest attempt ended with 0."""
        return self.current is not None and self.exited and self.current.exit_code == 0

    @property
    def started(self) -> bool:
        """Whether it runs and its startup probe (if any) has succeeded."""
        return self.running and (self.container.startup_probe is None or self.health.started is True)

    @property
    def ready(self) -> bool:
        """Whether it is started and its readiness probe (if any) says so."""
        return self.started and (self.container.readiness_probe is None or self.health.ready is True)


def views(pod: core_v1.Pod, observed: Observed, memory: Memory) -> tuple[View, ...]:
    """Return a view of each init container, container and ephemeral container, in the spec's order."""
    by_name: dict[str, list[ContainerInfo]] = {}
    for info in observed.containers:
        by_name.setdefault(info.labels.get(labels.CONTAINER_NAME, ""), []).append(info)
    known = {status.name: status for status in _statuses(pod)}
    rows = [(c, Role.SIDECAR if is_sidecar(c) else Role.INIT) for c in pod.spec.init_containers]
    rows += [(c, Role.MAIN) for c in pod.spec.containers]
    rows += [(c, Role.VISITOR) for c in visitors(pod)]
    return tuple(
        _view(container, role, by_name.get(container.name, ()), known.get(container.name), observed, memory)
        for container, role in rows
    )


def _statuses(pod: core_v1.Pod) -> tuple[core_v1.ContainerStatus, ...]:
    status = pod.status
    return (
        *status.init_container_statuses, *status.container_statuses, *status.ephemeral_container_statuses
    )  # fmt: skip


def _view(
    container: core_v1.Container,
    role: Role,
    infos: Sequence[ContainerInfo],
    reported: core_v1.ContainerStatus | None,
    observed: Observed,
    memory: Memory,
) -> View:
    ordered = sorted(infos, key=lambda info: labels.attempt_of(info.labels), reverse=True)
    attempt = max(
        labels.attempt_of(ordered[0].labels) if ordered else -1, memory.attempts.get(container.name, -1)
    )
    if not ordered and reported is not None and (reported.container_id or reported.restart_count):
        attempt = max(attempt, reported.restart_count)
    view = View(
        container=container,
        role=role,
        previous=_ended(ordered[1]) if len(ordered) > 1 else None,
        older=tuple(ordered[2:]),
        next_attempt=attempt + 1,
    )
    if not ordered:
        return view
    current = ordered[0]
    error = memory.start_errors.get(current.id)
    if error is not None and current.phase is not Phase.RUNNING:
        current = replace(
            current, phase=Phase.EXITED, exit_code=START_ERROR_EXIT, finished_at=error.at, error=error.message
        )
        return replace(view, current=current, start_error=error)
    lost = _is_lost(current, observed)
    if lost:
        current = _lost(current, pod_seen=_last_seen(reported))
    health = memory.health.get(current.id, UNKNOWN)
    return replace(view, current=current, lost=lost, health=health)


def _is_lost(info: ContainerInfo, observed: Observed) -> bool:
    """Tell whether a reboot ended it: the runtime then shows it as never started."""
    booted = info.labels.get(labels.BOOT_ID, observed.boot_id)
    return info.phase in (Phase.CREATED, Phase.UNKNOWN) and booted != observed.boot_id


def _lost(info: ContainerInfo, *, pod_seen: float) -> ContainerInfo:
    ended = info.finished_at or pod_seen or info.created_at
    return replace(info, phase=Phase.EXITED, exit_code=LOST_EXIT, finished_at=ended)


def _last_seen(reported: core_v1.ContainerStatus | None) -> float:
    state = reported.state if reported else None
    return parse_stamp(state.running.started_at) if state and state.running else 0.0


def _ended(info: ContainerInfo) -> ContainerInfo:
    """An attempt that was followed by another has ended, whatever the runtime still says of it."""
    return (
        info
        if info.phase is Phase.EXITED
        else replace(info, phase=Phase.EXITED, exit_code=info.exit_code or LOST_EXIT)
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """All a plan may look at."""

    pod: core_v1.Pod
    rows: tuple[View, ...]
    observed: Observed
    memory: Memory
    now: float
    """Seconds since the epoch."""

    @property
    def ending(self) -> bool:
        """Whether the pod is to go."""
        return self.memory.removed or bool(self.pod.metadata.deletion_timestamp)

    @property
    def policy(self) -> str:
        """The pod's restartPolicy."""
        return self.pod.spec.restart_policy or "Always"

    def of(self, *roles: Role) -> list[View]:
        """Return the containers of some roles, in order."""
        return [row for row in self.rows if row.role in roles]

    def restarts(self, row: View) -> bool:
        """Tell whether an ended container is to run again (as long as the pod itself is to)."""
        assert row.current is not None
        if row.role is Role.SIDECAR:
            return True
        if row.role is Role.VISITOR:
            return False
        if any(rule_matches(rule, row.current.exit_code) for rule in row.container.restart_policy_rules):
            return True
        policy = row.container.restart_policy or self.policy
        if policy == "Never":
            return False
        if row.current.id in self.memory.replace:
            return True
        return row.current.exit_code != 0 or (policy == "Always" and row.role is Role.MAIN)


def rule_matches(rule: core_v1.ContainerRestartRule, code: int) -> bool:
    """Tell whether a rule says that a container that ended with `code` is to run again (KEP-5307)."""
    codes = rule.exit_codes
    if rule.action != "Restart" or codes is None:
        return False
    return (code in codes.values) is (codes.operator == "In")


def scene(pod: core_v1.Pod, observed: Observed, memory: Memory, now: float) -> Scene:
    """Put together what there is to look at."""
    return Scene(pod, views(pod, observed, memory), observed, memory, now)
