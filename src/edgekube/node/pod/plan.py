"""
What to do next for one pod. Pure: the same input gives the same plan.

The order is the kubelet's: network, volumes, init containers one after another, containers in
the spec's order. Everything is derived from what is there, so a crash between two steps needs no
repair: the next plan goes on from what it finds.
"""

import math
from dataclasses import dataclass, field

import msgspec

from edgekube.api.types import core_v1
from edgekube.node import labels
from edgekube.node.clock import parse_stamp
from edgekube.node.pod import backoff, resize
from edgekube.node.pod.spec import full_name, grace_of
from edgekube.node.pod.state import (
    AttachNetwork,
    CreateContainer,
    DetachNetwork,
    EnsureImage,
    Failure,
    Finish,
    GrantResources,
    MakeVolumes,
    Memory,
    Notice,
    Observed,
    Plan,
    RemoveContainer,
    RemoveVolumes,
    ResizeContainer,
    RunContainer,
    Step,
    StopContainers,
    Stopping,
)
from edgekube.node.pod.status import FRESH, Outcome, pod_status
from edgekube.node.pod.view import Role, Scene, View, scene
from edgekube.runtime.base import Phase

DEADLINE = Outcome(
    "Failed", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
)
TERMINAL_PHASES = ("Succeeded", "Failed")


@dataclass(slots=True)
class _Draft:
    """A plan being made; `due` collects the times at which to look again."""

    scene: Scene
    steps: list[Step] = field(default_factory=list)
    due: list[float] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def at(self, moment: float) -> None:
        if self.scene.now < moment != math.inf:
            self.due.append(moment)

    def finish(self, status: core_v1.PodStatus, *, final: bool = False) -> Plan:
        again = max(0.0, min(self.due) - self.scene.now) if self.due else None
        return Plan(
            steps=tuple(self.steps), status=status, again=again, notices=tuple(self.notices), final=final
        )


def plan(pod: core_v1.Pod, observed: Observed, memory: Memory, now: float) -> Plan:
    """Return the next steps, the status to report, and when to look again."""
    seen = scene(pod, observed, memory, now)
    draft = _Draft(seen)
    if seen.ending:
        return _end(draft)
    outcome = outcome_of(seen)
    if outcome is not None:
        return _rest(draft, outcome)
    _sync(draft)
    return draft.finish(pod_status(seen))


def outcome_of(seen: Scene) -> Outcome | None:
    """Return how the pod has ended, or None while it has not."""
    for status in (seen.pod.status, seen.memory.status):
        if status is not None and status.phase in TERMINAL_PHASES:
            return Outcome(status.phase, status.reason, status.message)
    if seen.memory.doom is not None:
        return Outcome("Failed", seen.memory.doom.reason, seen.memory.doom.message)
    if _deadline(seen) <= seen.now:
        return DEADLINE
    if any(row.exited and not row.succeeded and not seen.restarts(row) for row in seen.of(Role.INIT)):
        return Outcome("Failed")
    mains = seen.of(Role.MAIN)
    if mains and all(row.exited and not seen.restarts(row) for row in mains):
        return Outcome("Succeeded" if all(row.succeeded for row in mains) else "Failed")
    return None


def _deadline(seen: Scene) -> float:
    seconds = seen.pod.spec.active_deadline_seconds
    known = seen.pod.status.start_time or (seen.memory.status.start_time if seen.memory.status else "")
    return parse_stamp(known) + seconds if seconds is not None and known else math.inf


# --- a pod that is to run ---------------------------------------------------------------------


def _sync(draft: _Draft) -> None:
    seen = draft.scene
    draft.at(_deadline(seen))
    if not _sandbox(draft):
        return
    if resize.is_wished(seen):
        waiting = resize.pending(seen)
        if waiting is None:
            draft.steps.append(GrantResources())
            return
        draft.notices.append(resize.notice(seen.pod, waiting))
        if waiting.reason == "Deferred":
            draft.at(seen.now + resize.RETRY)
    stops = tuple(stop for row in seen.rows if (stop := _unfit(row, seen)) is not None)
    if stops:
        draft.steps.append(StopContainers(stops))
        return
    _resize(draft)
    # Before all others: they may be there to find out why those do not start.
    busy = [_run(draft, row) for row in seen.of(Role.VISITOR)]
    if any(busy):
        return
    begun = any(row.current is not None for row in seen.of(Role.MAIN))
    if not begun and not _run_inits(draft):
        return
    for row in seen.of(Role.SIDECAR, Role.MAIN):
        if _run(draft, row):
            return


def _sandbox(draft: _Draft) -> bool:
    """Plan network and volumes; True when they are there."""
    seen, memory = draft.scene, draft.scene.memory
    attached = memory.attachment is not None or bool(seen.pod.spec.host_network)
    if not attached and not seen.observed.network_ready:
        return False
    failure = memory.sandbox
    if failure is not None and seen.now < failure.retry_at:
        draft.at(failure.retry_at)
        return attached and memory.volumes_ready
    if not attached:
        draft.steps.append(AttachNetwork())
        return False
    if not memory.volumes_ready or memory.volumes_stale or memory.volumes_refresh_at <= seen.now:
        draft.steps.append(MakeVolumes())
        return False
    draft.at(memory.volumes_refresh_at)
    return True


def _unfit(row: View, seen: Scene) -> Stopping | None:
    """Return how to stop a running container that must be started anew."""
    if not row.running or row.current is None:
        return None
    grace = grace_of(seen.pod)
    if row.health.alive is False:
        return Stopping(row.name, row.current.id, _probe_grace(row, grace), row.health.message, replace=True)
    if row.current.labels.get(labels.IMAGE, row.container.image) != row.container.image:
        message = f"Container {row.name} definition changed, will be restarted"
        return Stopping(row.name, row.current.id, grace, message, replace=True)
    if row in resize.outdated(seen) and resize.needs_restart(row, seen):
        message = f"Container {row.name} resize requires restart"
        return Stopping(row.name, row.current.id, grace, message, replace=True)
    return None


def _resize(draft: _Draft) -> None:
    """Plan what changes the running containers' cgroups."""
    seen, error = draft.scene, draft.scene.memory.resize
    changes = resize.outdated(seen)
    if changes and error is not None and seen.now < error.retry_at:
        draft.at(error.retry_at)
        return
    draft.steps += [ResizeContainer(row.name, row.current.id) for row in changes if row.current is not None]


def _probe_grace(row: View, grace: float) -> float:
    starting = row.container.startup_probe is not None and row.health.started is None
    probe = row.container.startup_probe if starting else row.container.liveness_probe
    own = probe.termination_grace_period_seconds if probe else None
    return grace if own is None else float(own)


def _run_inits(draft: _Draft) -> bool:
    """Plan the first init container that is not done; True when all are."""
    for row in draft.scene.of(Role.INIT, Role.SIDECAR):
        done = row.started if row.role is Role.SIDECAR else row.succeeded
        if not done or (row.exited and draft.scene.restarts(row)):
            _run(draft, row)
            return False
    return True


def _run(draft: _Draft, row: View) -> bool:
    """Plan what one container needs; True when that is steps now."""
    current = row.current
    if row.running or (row.exited and not draft.scene.restarts(row)):
        return False
    if current is not None and current.phase is Phase.CREATED:
        draft.steps.append(RunContainer(row.name, current.id))
        return True
    if _must_wait(draft, row):
        return False
    spent = (*row.older, row.previous) if row.previous is not None else row.older
    draft.steps += [RemoveContainer(info.id, log=True) for info in spent]
    draft.steps += [EnsureImage(row.name), CreateContainer(row.name, row.next_attempt)]
    return True


def _must_wait(draft: _Draft, row: View) -> bool:
    seen = draft.scene
    failure = seen.memory.failures.get(row.name)
    if failure is not None and seen.now < failure.retry_at:
        draft.at(failure.at + FRESH)
        draft.at(failure.retry_at)
        if failure.reason == "ErrImagePull" and seen.now >= failure.at + FRESH:
            draft.notices += _pull_back_off(row, failure)
        return True
    if row.current is None:
        return False
    if row.start_error is not None:
        draft.at(row.start_error.at + FRESH)
    until = backoff.retry_at(seen.memory.restarts.get(row.name), row.current.finished_at)
    if until <= seen.now:
        return False
    draft.at(until)
    message = f"Back-off restarting failed container {row.name} in pod {full_name(seen.pod)}"
    draft.notices.append(Notice("Warning", "BackOff", message, row.name, row.current.id))
    return True


def _pull_back_off(row: View, failure: Failure) -> list[Notice]:
    text, once = f'Back-off pulling image "{row.container.image}"', f"{row.name} {failure.at}"
    return [
        Notice("Normal", "BackOff", text, row.name, once),
        Notice("Warning", "Failed", "Error: ImagePullBackOff", row.name, once),
    ]


# --- a pod that has ended, and one that is to go ----------------------------------------------


def _rest(draft: _Draft, outcome: Outcome) -> Plan:
    """Stop what still runs, give back network and volumes; dead containers stay for their logs."""
    seen = draft.scene
    if outcome is DEADLINE:
        draft.notices.append(Notice("Normal", outcome.reason, outcome.message, "", seen.pod.metadata.uid))
    stopping = _stops(seen)
    if stopping:
        draft.steps.append(stopping)
        return draft.finish(_doomed(seen, pod_status(seen)))
    _release(draft, everything=False)
    if seen.memory.final and seen.memory.status is not None:
        return draft.finish(seen.memory.status, final=True)
    if not seen.observed.containers and seen.pod.status.phase in TERMINAL_PHASES:
        return draft.finish(seen.pod.status, final=True)
    return draft.finish(pod_status(seen, outcome=outcome), final=True)


def _doomed(seen: Scene, status: core_v1.PodStatus) -> core_v1.PodStatus:
    """Say why the node is ending the pod before it has ended, for people and for the next agent."""
    doom = seen.memory.doom
    if doom is None:
        return status
    return msgspec.structs.replace(status, reason=doom.reason, message=doom.message)


def _end(draft: _Draft) -> Plan:
    """Stop everything, tell the final status, leave nothing behind."""
    seen = draft.scene
    stopping = _stops(seen)
    if stopping:
        draft.steps.append(stopping)
        return draft.finish(pod_status(seen))
    known = seen.memory.status if seen.memory.final else None
    if known is None and not seen.observed.containers and seen.memory.status is None:
        # Nothing was ever seen of it here, or all is gone already: there is nothing to tell.
        known = seen.pod.status
    status = known or pod_status(seen, outcome=_last_word(seen))
    draft.steps += [RemoveContainer(info.id) for info in seen.observed.containers]
    _release(draft, everything=True)
    draft.steps.append(Finish())
    return draft.finish(status, final=True)


def _last_word(seen: Scene) -> Outcome | None:
    """Return the phase of a deleted pod whose containers have ended; None when it never ran."""
    if seen.pod.status.phase in TERMINAL_PHASES:
        return Outcome(seen.pod.status.phase, seen.pod.status.reason, seen.pod.status.message)
    if seen.memory.doom is not None:
        return Outcome("Failed", seen.memory.doom.reason, seen.memory.doom.message)
    ended = [row for row in seen.of(Role.MAIN) if row.exited]
    if not ended:
        return None
    return Outcome("Succeeded" if all(row.succeeded for row in ended) else "Failed")


def _stops(seen: Scene) -> StopContainers | None:
    """Return the stop of what runs: sidecars after all others, the last to start first (KEP-753)."""
    turns = {row.name: turn for turn, row in enumerate(reversed(seen.of(Role.SIDECAR)), 1)}
    grace, doom = grace_of(seen.pod), seen.memory.doom
    if doom is not None and doom.grace is not None:
        grace = max(1.0, min(grace, doom.grace))
    targets = tuple(
        Stopping(
            row.name, row.current.id, grace, f"Stopping container {row.name}", turn=turns.get(row.name, 0)
        )
        for row in seen.rows
        if row.running and row.current is not None
    )
    return StopContainers(targets) if targets else None


def _release(draft: _Draft, *, everything: bool) -> None:
    memory = draft.scene.memory
    # Volumes first: on a full disk their space may be what the rest needs.
    if not memory.volumes_removed or everything:
        draft.steps.append(RemoveVolumes(everything))
    if not memory.detached and not draft.scene.pod.spec.host_network:
        draft.steps.append(DetachNetwork())
