"""Questions about pods that several controllers ask."""

from edgekube.api.types import core_v1
from edgekube.control.clock import seconds

ENDED = ("Succeeded", "Failed")


def active(pod: core_v1.Pod) -> bool:
    """Whether the pod runs or will run."""
    return pod.status.phase not in ENDED and not pod.metadata.deletion_timestamp


def ready_since(pod: core_v1.Pod) -> float | None:
    """Return since when (Unix seconds) the pod is ready, None when it is not."""
    for condition in pod.status.conditions:
        if condition.type == "Ready":
            return seconds(condition.last_transition_time) if condition.status == "True" else None
    return None


def available_at(pod: core_v1.Pod, min_ready_seconds: int) -> float | None:
    """Return when (Unix seconds) the pod has been ready long enough, None while it is not ready."""
    since = ready_since(pod)
    return None if since is None else since + min_ready_seconds if min_ready_seconds else 0.0


def restarts(pod: core_v1.Pod) -> int:
    """Return the most restarts of any of its containers."""
    return max((status.restart_count for status in pod.status.container_statuses), default=0)
