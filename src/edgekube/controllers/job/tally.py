"""
Counting a Job's pods so that none is lost and none counts twice (KEP-2307).

A finished pod keeps a finalizer until it is counted: its uid is first written to
`uncountedTerminatedPods`, then the finalizer goes, then the counters rise and the uid is dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgekube.api.types import batch_v1, core_v1
from edgekube.controllers.job import policy
from edgekube.controllers.job.indexes import index_of, parse
from edgekube.controllers.job.pods import failures_of, finished_at, indexed, per_index, tracked

NONE = batch_v1.UncountedTerminatedPods()


@dataclass(slots=True)
class Tally:
    """How a Job's pods stand, after this pass's counting."""

    succeeded: int = 0
    """Pods that succeeded, counted (without the uncounted ones)."""
    failed: int = 0
    waiting: dict[str, bool] = field(default_factory=dict)
    """The uncounted: uid → whether it succeeded."""
    completed: set[int] = field(default_factory=set)
    failed_indexes: set[int] = field(default_factory=set)
    active: list[core_v1.Pod] = field(default_factory=list)
    terminating: list[core_v1.Pod] = field(default_factory=list)
    ended: list[core_v1.Pod] = field(default_factory=list)
    """Finished pods that are still tracked."""
    failed_pods: list[core_v1.Pod] = field(default_factory=list)
    """Failed pods, counted or not."""
    last_success: float = 0.0
    """When the last pod that succeeded did (Unix seconds)."""
    verdict: str = ""
    """Why the pod failure policy ends the Job."""

    @property
    def successes(self) -> int:
        """All pods that succeeded."""
        return self.succeeded + sum(self.waiting.values())

    @property
    def failures(self) -> int:
        """All pods that failed."""
        return self.failed + len(self.waiting) - sum(self.waiting.values())


def replaces_failed_only(job: batch_v1.Job) -> bool:
    """Whether a terminating pod is replaced only once it has failed (KEP-3939)."""
    return job.spec.pod_replacement_policy == "Failed"


def count(job: batch_v1.Job, pods: Sequence[core_v1.Pod], *, ending: bool) -> Tally:
    """Count; `ending` says that what still runs was stopped with the Job and so has failed."""
    status, completions = job.status, job.spec.completions or 0
    tally = Tally(
        succeeded=status.succeeded or 0,
        failed=status.failed or 0,
        completed=parse(status.completed_indexes, completions),
        failed_indexes=parse(status.failed_indexes, completions),
    )
    held = {pod.metadata.uid for pod in pods if tracked(pod)}
    before = status.uncounted_terminated_pods or NONE
    for uid in before.succeeded:
        _settle(tally, uid, held, success=True)
    for uid in before.failed:
        _settle(tally, uid, held, success=False)
    for pod in pods:
        _sort(job, tally, pod, ending=ending)
    if indexed(job):
        # One success an index, however many pods did it.
        tally.succeeded = len(tally.completed)
    return tally


def _settle(tally: Tally, uid: str, held: set[str], *, success: bool) -> None:
    if uid in held:
        tally.waiting[uid] = success
    elif success:
        tally.succeeded += 1
    else:
        tally.failed += 1


def _sort(job: batch_v1.Job, tally: Tally, pod: core_v1.Pod, *, ending: bool) -> None:
    phase, going = pod.status.phase, bool(pod.metadata.deletion_timestamp)
    if phase == "Succeeded":
        _succeeded(job, tally, pod)
    elif phase == "Failed" or (going and tracked(pod) and (ending or not replaces_failed_only(job))):
        if going and phase != "Failed":
            tally.terminating.append(pod)
        _failed(job, tally, pod)
    elif going:
        tally.terminating.append(pod)
    else:
        tally.active.append(pod)


def _succeeded(job: batch_v1.Job, tally: Tally, pod: core_v1.Pod) -> None:
    tally.last_success = max(tally.last_success, finished_at(pod))
    if not tracked(pod):
        return
    tally.ended.append(pod)
    if not indexed(job):
        tally.waiting[pod.metadata.uid] = True
    elif 0 <= (index := index_of(pod)) < (job.spec.completions or 0):
        # The index says it all: nothing needs to be remembered of the pod.
        tally.completed.add(index)


def _failed(job: batch_v1.Job, tally: Tally, pod: core_v1.Pod) -> None:
    tally.failed_pods.append(pod)
    if not tracked(pod):
        return
    tally.ended.append(pod)
    said = policy.judge(job, pod)
    if said.action == policy.FAIL_JOB and not tally.verdict:
        tally.verdict = said.message
    limit = job.spec.backoff_limit_per_index
    spent = limit is not None and failures_of(pod) >= limit and said.action != policy.IGNORE
    if per_index(job) and (said.action == policy.FAIL_INDEX or spent):
        tally.failed_indexes.add(index_of(pod))
    if said.action != policy.IGNORE:
        tally.waiting[pod.metadata.uid] = False
