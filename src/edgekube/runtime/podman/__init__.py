"""Containers by podman, over the REST API of its unix socket."""

from edgekube.runtime.podman.runtime import PodmanRuntime, open_runtime
from edgekube.runtime.podman.service import PodmanService, ServicePaths

__all__ = ["PodmanRuntime", "PodmanService", "ServicePaths", "open_runtime"]
