"""Labels on containers: what a restarted agent needs to take up what runs."""

from collections.abc import Mapping

from edgekube.api.types import core_v1

POD_UID = "edgekube.io/pod-uid"
POD_NAME = "edgekube.io/pod-name"
POD_NAMESPACE = "edgekube.io/pod-namespace"
CONTAINER_NAME = "edgekube.io/container-name"
ATTEMPT = "edgekube.io/attempt"
BOOT_ID = "edgekube.io/boot-id"
IMAGE = "edgekube.io/image"
LOG_PATH = "edgekube.io/log-path"
RESOURCES = "edgekube.io/resources"
"""What the container was made with, as JSON."""


def container_labels(
    pod: core_v1.Pod, container: core_v1.Container, *, attempt: int, boot_id: str, log_path: str
) -> dict[str, str]:
    """Return the labels of one attempt at running a container."""
    return {
        POD_UID: pod.metadata.uid,
        POD_NAME: pod.metadata.name,
        POD_NAMESPACE: pod.metadata.namespace,
        CONTAINER_NAME: container.name,
        ATTEMPT: str(attempt),
        BOOT_ID: boot_id,
        IMAGE: container.image,
        LOG_PATH: log_path,
    }


def runtime_name(pod: core_v1.Pod, container: str, *, attempt: int) -> str:
    """Return the name the runtime knows an attempt by, unique on the node."""
    meta = pod.metadata
    return f"k8s_{container}_{meta.name}_{meta.namespace}_{meta.uid}_{attempt}"


def attempt_of(labels: Mapping[str, str]) -> int:
    """Return which attempt a container is, 0 the first."""
    text = labels.get(ATTEMPT, "0")
    return int(text) if text.isdecimal() else 0
