"""The pods of a Job: how one is made, and questions about one."""

import msgspec

from edgekube.api.types import batch_v1, core_v1, meta_v1
from edgekube.control.clock import seconds
from edgekube.controllers.job.indexes import COMPLETION_INDEX
from edgekube.controllers.ownership import owned_by

TRACKING = "batch.kubernetes.io/job-tracking"
"""The finalizer that keeps a pod until it is counted (KEP-2307)."""
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"
_ENV = "JOB_COMPLETION_INDEX"
INDEXED = "Indexed"


def indexed(job: batch_v1.Job) -> bool:
    """Whether every pod has an index to complete."""
    return job.spec.completion_mode == INDEXED


def per_index(job: batch_v1.Job) -> bool:
    """Whether failures are limited index by index."""
    return job.spec.backoff_limit_per_index is not None


def tracked(pod: core_v1.Pod) -> bool:
    """Whether the pod still waits to be counted."""
    return TRACKING in pod.metadata.finalizers


def failures_of(pod: core_v1.Pod) -> int:
    """Return how many pods of the same index failed before this one."""
    text = pod.metadata.annotations.get(FAILURES, "")
    return int(text) if text.isdecimal() else 0


def finished_at(pod: core_v1.Pod) -> float:
    """Return when the pod's last container ended; its deletion or start when nothing tells (Unix seconds)."""
    ends = [
        seconds(status.state.terminated.finished_at)
        for status in pod.status.container_statuses
        if status.state and status.state.terminated and status.state.terminated.finished_at
    ]
    if ends:
        return max(ends)
    meta = pod.metadata
    return seconds(meta.deletion_timestamp or pod.status.start_time or meta.creation_timestamp)


def new_pod(job: batch_v1.Job, index: int | None, *, failures: int = 0) -> core_v1.Pod:
    """Return a pod made after the template; `failures` of its index came before it."""
    template = job.spec.template
    meta, spec, name = template.metadata or meta_v1.ObjectMeta(), template.spec, job.metadata.name
    annotations, labels, prefix = dict(meta.annotations), dict(meta.labels), f"{name}-"
    if index is not None:
        annotations[COMPLETION_INDEX] = labels[COMPLETION_INDEX] = str(index)
        prefix = f"{name}-{index}-"
        spec = msgspec.structs.replace(
            spec,
            hostname=spec.hostname or f"{name}-{index}",
            containers=tuple(map(_with_index, spec.containers)),
            init_containers=tuple(map(_with_index, spec.init_containers)),
        )
    if per_index(job):
        annotations[FAILURES] = str(failures)
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(
            generate_name=prefix, namespace=job.metadata.namespace, labels=labels, annotations=annotations,
            finalizers=(*meta.finalizers, TRACKING), owner_references=(owned_by(job),),
        ),
        spec=spec,
    )  # fmt: skip


def _with_index(container: core_v1.Container) -> core_v1.Container:
    if any(variable.name == _ENV for variable in container.env):
        return container
    field = core_v1.ObjectFieldSelector(field_path=f"metadata.labels['{COMPLETION_INDEX}']")
    variable = core_v1.EnvVar(name=_ENV, value_from=core_v1.EnvVarSource(field_ref=field))
    return msgspec.structs.replace(container, env=(*container.env, variable))
