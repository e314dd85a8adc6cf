"""A pod's status from its containers: phase, conditions, container states. Pure (kubelet_pods.go, pod/types.go)."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgekube.api.types import core_v1
from edgekube.network.base import Attachment
from edgekube.node import labels
from edgekube.node.clock import stamp
from edgekube.node.pod import backoff, resize
from edgekube.node.pod.allocation import NOTHING
from edgekube.node.pod.spec import full_name, qos_class
from edgekube.node.pod.state import Failure
from edgekube.node.pod.view import Role, Scene, View
from edgekube.runtime.base import ContainerInfo, Phase

FRESH = 3.0
"""Seconds for which a failure shows its own reason before its back-off's."""
MESSAGES = 12 * 1024
"""Characters that the termination messages of a pod's containers may have in all."""
LOST_MESSAGE = "The container ended when the node restarted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pod ended: Succeeded or Failed, and why."""

    phase: str
    reason: str = ""
    message: str = ""


def pod_status(seen: Scene, *, outcome: Outcome | None = None) -> core_v1.PodStatus:
    """Return the status; with an `outcome` the pod has ended so."""
    pod, memory, node_ip = seen.pod, seen.memory, seen.observed.node_ip
    before = memory.status or pod.status
    phase = outcome.phase if outcome else _phase(seen)
    address = memory.attachment.address if memory.attachment else before.pod_ip
    if pod.spec.host_network:
        address = node_ip
    ended = outcome is not None
    return core_v1.PodStatus(
        phase=phase,
        reason=outcome.reason if outcome else "",
        message=outcome.message if outcome else "",
        conditions=_conditions(seen, before, phase),
        init_container_statuses=tuple(
            _container(seen, row, ended=ended) for row in seen.of(Role.INIT, Role.SIDECAR)
        ),
        container_statuses=tuple(_container(seen, row, ended=ended) for row in seen.of(Role.MAIN)),
        ephemeral_container_statuses=tuple(
            _container(seen, row, ended=ended) for row in seen.of(Role.VISITOR)
        ),
        host_ip=node_ip,
        host_ips=tuple(core_v1.HostIP(ip=item) for item in (node_ip, seen.observed.node_ip6) if item),
        pod_ip=address,
        pod_ips=_addresses(address, memory.attachment, before),
        start_time=before.start_time or stamp(_begun(seen)),
        qos_class=pod.status.qos_class or qos_class(pod),
        observed_generation=pod.metadata.generation,
    )


def _addresses(
    address: str, attachment: Attachment | None, before: core_v1.PodStatus
) -> tuple[core_v1.PodIP, ...]:
    """Return all of the pod's addresses, of which `address` is the main one."""
    if attachment is not None and attachment.address == address:
        return tuple(core_v1.PodIP(ip=item) for item in attachment.addresses)
    if before.pod_ips and before.pod_ips[0].ip == address:
        return before.pod_ips
    return (core_v1.PodIP(ip=address),) if address else ()


def _begun(seen: Scene) -> float:
    return min((info.created_at for info in seen.observed.containers if info.created_at), default=seen.now)


def _phase(seen: Scene) -> str:
    mains = seen.of(Role.MAIN)
    begun = any(row.current is not None for row in mains)
    if not begun and not all(_initialized(row) for row in seen.of(Role.INIT, Role.SIDECAR)):
        return "Pending"
    never_ran = [
        row
        for row in mains
        if row.previous is None and (row.current is None or row.current.phase is Phase.CREATED)
    ]
    return "Pending" if never_ran else "Running"


def _initialized(row: View) -> bool:
    return row.started if row.role is Role.SIDECAR else row.succeeded


# --- conditions -------------------------------------------------------------------------------


def _conditions(seen: Scene, before: core_v1.PodStatus, phase: str) -> tuple[core_v1.PodCondition, ...]:
    pod, rows, memory = seen.pod, seen.rows, seen.memory
    # Containers that run have their sandbox, though a restarted agent has not looked at it yet.
    sandbox = memory.attachment is not None or memory.volumes_ready or any(row.current for row in rows)
    ready = _containers_ready(rows, phase)
    verdicts = {
        "PodReadyToStartContainers": (sandbox and not memory.detached, "", ""),
        "Initialized": _init_condition(rows, phase),
        "Ready": _gates(pod) if ready[0] else ready,
        "ContainersReady": ready,
    }
    if memory.doom is not None and memory.doom.disrupted:
        verdicts["DisruptionTarget"] = (True, "TerminationByKubelet", memory.doom.message)
    if phase not in ("Succeeded", "Failed"):
        verdicts |= resize.conditions(seen)
    old = {condition.type: condition for condition in before.conditions}
    # Conditions of others (PodScheduled, readiness gates) are theirs to keep.
    return tuple(
        _condition(kind, verdict, old.get(kind), now=seen.now, generation=pod.metadata.generation)
        for kind, verdict in verdicts.items()
    )


def _condition(
    kind: str,
    verdict: tuple[bool, str, str],
    old: core_v1.PodCondition | None,
    *,
    now: float,
    generation: int | None,
) -> core_v1.PodCondition:
    value, reason, message = verdict
    status = "True" if value else "False"
    since = old.last_transition_time if old is not None and old.status == status else ""
    return core_v1.PodCondition(
        type=kind, status=status, reason=reason, message=message,
        last_transition_time=since or stamp(now), observed_generation=generation,
    )  # fmt: skip


def _init_condition(rows: Sequence[View], phase: str) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    if any(row.role is Role.MAIN and row.current for row in rows):
        return True, "", ""
    missing = [row.name for row in rows if row.role in (Role.INIT, Role.SIDECAR) and not _initialized(row)]
    if missing:
        return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(missing)}]"
    return True, "", ""


def _containers_ready(rows: Sequence[View], phase: str) -> tuple[bool, str, str]:
    if phase in ("Succeeded", "Failed"):
        return False, "PodCompleted" if phase == "Succeeded" else "PodFailed", ""
    unready = [row.name for row in rows if row.role in (Role.MAIN, Role.SIDECAR) and not row.ready]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _gates(pod: core_v1.Pod) -> tuple[bool, str, str]:
    """Return the Ready verdict of a pod whose containers are ready: its readiness gates decide."""
    conditions = {c.type: c.status for c in pod.status.conditions}
    for gate in pod.spec.readiness_gates:
        status = conditions.get(gate.condition_type)
        if status is None:
            return (
                False, "ReadinessGatesNotReady",
                f'corresponding condition of pod readiness gate "{gate.condition_type}" does not exist.',
            )  # fmt: skip
        if status != "True":
            return (
                False, "ReadinessGatesNotReady",
                f'the status of pod readiness gate "{gate.condition_type}" is not "True", but {status}',
            )  # fmt: skip
    return True, "", ""


# --- containers -------------------------------------------------------------------------------


def _container(seen: Scene, row: View, *, ended: bool) -> core_v1.ContainerStatus:
    current, previous = row.current, row.previous
    last: ContainerInfo | None
    shown: ContainerInfo | None
    waiting = None if ended and row.exited else _waiting(seen, row)
    if current is not None and row.running:
        running = core_v1.ContainerStateRunning(started_at=stamp(current.started_at))
        state, last, shown = core_v1.ContainerState(running=running), previous, current
    elif current is not None and row.exited and waiting is None:
        terminated = _terminated(seen, row, current)
        state, last, shown = core_v1.ContainerState(terminated=terminated), previous, current
    else:
        dead = current if row.exited else previous
        state, last, shown = core_v1.ContainerState(waiting=waiting or _creating(row)), dead, dead
    return core_v1.ContainerStatus(
        name=row.name,
        image=row.container.image,
        image_id=shown.image_id if shown else "",
        container_id=f"podman://{shown.id}" if shown else "",
        restart_count=labels.attempt_of(current.labels) if current else max(row.next_attempt - 1, 0),
        ready=_is_ready(row),
        started=None if row.role is Role.VISITOR else row.started,
        state=state,
        last_state=core_v1.ContainerState(terminated=_terminated(seen, row, last)) if last else None,
        stop_signal=row.container.lifecycle.stop_signal if row.container.lifecycle else "",
        allocated_resources=seen.memory.granted.get(row.name, NOTHING).requests,
        resources=_resources(seen, row),
    )


def _resources(seen: Scene, row: View) -> core_v1.ResourceRequirements | None:
    """Return what a running container has, in its cgroup."""
    if not row.running or row.role not in (Role.MAIN, Role.SIDECAR):
        return None
    found = resize.has(row, seen)
    return None if found == NOTHING else found


def _is_ready(row: View) -> bool:
    """Tell what `ready` says: of an init container that it is done, of an ephemeral one nothing."""
    if row.role is Role.INIT:
        return row.succeeded
    return row.role is not Role.VISITOR and row.ready


def _creating(row: View) -> core_v1.ContainerStateWaiting:
    return core_v1.ContainerStateWaiting(
        reason="PodInitializing" if row.role is Role.INIT else "ContainerCreating"
    )


def _waiting(seen: Scene, row: View) -> core_v1.ContainerStateWaiting | None:
    """Return why the container does not run although it should; None when it does or need not."""
    if row.running or (row.exited and (seen.ending or not seen.restarts(row))):
        return None
    failure = seen.memory.failures.get(row.name)
    if failure is not None:
        return _failed(row, failure, seen.now)
    if row.start_error is not None and seen.now < row.start_error.at + FRESH:
        return core_v1.ContainerStateWaiting(reason="RunContainerError", message=row.start_error.message)
    if row.exited and row.current is not None:
        return _crash_loop(seen, row, row.current)
    if row.role is Role.MAIN and seen.of(Role.INIT, Role.SIDECAR):
        return core_v1.ContainerStateWaiting(reason="PodInitializing")
    return _creating(row)


def _crash_loop(seen: Scene, row: View, exited: ContainerInfo) -> core_v1.ContainerStateWaiting | None:
    restart = seen.memory.restarts.get(row.name)
    if restart is None or backoff.retry_at(restart, exited.finished_at) <= seen.now:
        return None
    text = f"back-off {_go_duration(restart.delay)} restarting failed container={row.name} pod={full_name(seen.pod)}"
    return core_v1.ContainerStateWaiting(reason="CrashLoopBackOff", message=text)


def _failed(row: View, failure: Failure, now: float) -> core_v1.ContainerStateWaiting:
    if failure.reason == "ErrImagePull" and now >= failure.at + FRESH:
        text = f'Back-off pulling image "{row.container.image}": ErrImagePull: {failure.message}'
        return core_v1.ContainerStateWaiting(reason="ImagePullBackOff", message=text)
    return core_v1.ContainerStateWaiting(reason=failure.reason, message=failure.message)


def _terminated(seen: Scene, row: View, info: ContainerInfo) -> core_v1.ContainerStateTerminated:
    room = MESSAGES // max(len(seen.rows), 1)
    message = (seen.memory.messages.get(info.id, "") or info.error)[:room]
    return core_v1.ContainerStateTerminated(
        container_id=f"podman://{info.id}",
        exit_code=info.exit_code,
        reason=_reason(info, row),
        message=message or (LOST_MESSAGE if _is_lost(info, row) else ""),
        started_at=stamp(info.started_at),
        finished_at=stamp(info.finished_at),
    )


def _is_lost(info: ContainerInfo, row: View) -> bool:
    return row.lost and row.current is not None and info.id == row.current.id


def _reason(info: ContainerInfo, row: View) -> str:
    if _is_lost(info, row):
        return "ContainerStatusUnknown"
    if row.start_error is not None and row.current is not None and info.id == row.current.id:
        return "StartError"
    if info.oom_killed:
        return "OOMKilled"
    return "Completed" if info.exit_code == 0 else "Error"


def _go_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
