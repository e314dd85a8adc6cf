"""What a failed pod means to its Job (KEP-3329), and when an indexed Job has succeeded (KEP-3998)."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from edgekube.api.types import batch_v1, core_v1
from edgekube.controllers.job.indexes import parse

COUNT, IGNORE, FAIL_JOB, FAIL_INDEX = "Count", "Ignore", "FailJob", "FailIndex"


class Judgement(NamedTuple):
    """An action, and why."""

    action: str
    message: str = ""


def judge(job: batch_v1.Job, pod: core_v1.Pod) -> Judgement:
    """Return what the first matching rule of the podFailurePolicy says of a failed pod."""
    policy = job.spec.pod_failure_policy
    if policy is None or pod.status.phase != "Failed":
        return Judgement(COUNT)
    for number, rule in enumerate(policy.rules):
        why = _why(rule, pod)
        if why:
            return Judgement(rule.action, f"{why} matching {rule.action} rule at index {number}")
    return Judgement(COUNT)


def _why(rule: batch_v1.PodFailurePolicyRule, pod: core_v1.Pod) -> str:
    which = f"{pod.metadata.namespace}/{pod.metadata.name}"
    if codes := rule.on_exit_codes:
        for status in _terminated(pod):
            state = status.state.terminated if status.state else None
            if codes.container_name not in {"", status.name} or state is None or not state.exit_code:
                continue
            if (state.exit_code in codes.values) == (codes.operator == "In"):
                return f"Container {status.name} for pod {which} failed with exit code {state.exit_code}"
        return ""
    for pattern in rule.on_pod_conditions:
        for condition in pod.status.conditions:
            if condition.type == pattern.type and condition.status == (pattern.status or "True"):
                return f"Pod {which} has condition {condition.type}"
    return ""


def _terminated(pod: core_v1.Pod) -> Iterator[core_v1.ContainerStatus]:
    yield from pod.status.container_statuses
    yield from pod.status.init_container_statuses


def met(job: batch_v1.Job, completed: AbstractSet[int]) -> str:
    """Return which rule of the successPolicy the completed indexes satisfy, in words; "" for none."""
    policy = job.spec.success_policy
    for number, rule in enumerate(policy.rules if policy else ()):
        counted = completed
        if rule.succeeded_indexes:
            wanted = parse(rule.succeeded_indexes, job.spec.completions or 0)
            counted = completed & wanted
            if rule.succeeded_count is None and counted != wanted:
                continue
        if rule.succeeded_count is not None and len(counted) < rule.succeeded_count:
            continue
        return f"Matched rules at index {number}"
    return ""
