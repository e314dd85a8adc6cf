"""How a Job ends: the first word (FailureTarget, SuccessCriteriaMet), and the last once its pods are gone."""

from dataclasses import dataclass

import msgspec

from edgekube.api.types import batch_v1
from edgekube.control.clock import stamp
from edgekube.controllers.job import policy
from edgekube.controllers.job.pods import per_index
from edgekube.controllers.job.tally import Tally

COMPLETE, FAILED = "Complete", "Failed"
TARGET, CRITERIA = "FailureTarget", "SuccessCriteriaMet"
DEFAULT_BACKOFF_LIMIT = 6


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the Job succeeded, and why."""

    success: bool
    reason: str
    message: str

    def announce(self, status: batch_v1.JobStatus, now: float) -> batch_v1.JobStatus:
        """Say how it will end."""
        return _with(status, self, CRITERIA if self.success else TARGET, now)

    def conclude(self, status: batch_v1.JobStatus, now: float) -> batch_v1.JobStatus:
        """Say that it has ended."""
        status = _with(status, self, COMPLETE if self.success else FAILED, now)
        return msgspec.structs.replace(status, completion_time=stamp(now)) if self.success else status


def ended(status: batch_v1.JobStatus) -> bool:
    """Whether the Job is Complete or Failed."""
    return any(c.type in {COMPLETE, FAILED} and c.status == "True" for c in status.conditions)


def verdict(
    job: batch_v1.Job, tally: Tally, now: float, *, started: float, restarts: int = 0, old_only: bool = False
) -> Verdict | None:
    """Return how the Job ends, None while it goes on; `started` in Unix seconds, `restarts` of running pods."""
    for condition in job.status.conditions:
        if condition.type in {TARGET, CRITERIA} and condition.status == "True":
            return Verdict(condition.type == CRITERIA, condition.reason, condition.message)
    if old_only:
        return None
    if tally.verdict:
        return Verdict(success=False, reason="PodFailurePolicy", message=tally.verdict)
    return _failed(job, tally, now, started, restarts) or _succeeded(job, tally)


def _failed(job: batch_v1.Job, tally: Tally, now: float, started: float, restarts: int) -> Verdict | None:
    spec = job.spec
    limit = DEFAULT_BACKOFF_LIMIT if spec.backoff_limit is None else spec.backoff_limit
    again = spec.template.spec.restart_policy == "OnFailure" and restarts > 0 and restarts >= limit
    if tally.failures > limit or again:
        return Verdict(
            success=False,
            reason="BackoffLimitExceeded",
            message="Job has reached the specified backoff limit",
        )
    deadline = spec.active_deadline_seconds
    if deadline is not None and started and not spec.suspend and now >= started + deadline:
        return Verdict(
            success=False, reason="DeadlineExceeded", message="Job was active longer than specified deadline"
        )
    if spec.max_failed_indexes is not None and len(tally.failed_indexes) > spec.max_failed_indexes:
        return Verdict(
            success=False,
            reason="MaxFailedIndexesExceeded",
            message="Job has exceeded the specified maximal number of failed indexes",
        )
    return None


def _succeeded(job: batch_v1.Job, tally: Tally) -> Verdict | None:
    if rule := policy.met(job, tally.completed):
        return Verdict(success=True, reason="SuccessPolicy", message=rule)
    done = Verdict(
        success=True, reason="CompletionsReached", message="Reached expected number of succeeded pods"
    )
    if job.spec.completions is None:
        return done if tally.successes and not tally.active else None
    if per_index(job) and tally.failed_indexes:
        over = len(tally.completed | tally.failed_indexes) >= job.spec.completions
        return (
            Verdict(success=False, reason="FailedIndexes", message="Job has failed indexes") if over else None
        )
    return done if tally.successes >= job.spec.completions else None


def _with(status: batch_v1.JobStatus, said: Verdict, kind: str, now: float) -> batch_v1.JobStatus:
    if any(c.type == kind and c.status == "True" for c in status.conditions):
        return status
    new = batch_v1.JobCondition(
        type=kind, status="True", reason=said.reason, message=said.message,
        last_probe_time=stamp(now), last_transition_time=stamp(now),
    )  # fmt: skip
    return msgspec.structs.replace(status, conditions=(*status.conditions, new))
