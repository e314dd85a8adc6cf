"""Doing a resize: what was granted, into the cgroups of the pod and its containers (KEP-1287)."""

from edgekube.api.types import core_v1
from edgekube.lib.backoff import Backoff
from edgekube.node.host import Host
from edgekube.node.labels import CONTAINER_NAME
from edgekube.node.pod.allocation import granted, made_with, wished
from edgekube.node.pod.build import pod_cgroup
from edgekube.node.pod.limits import limits_of
from edgekube.node.pod.resize import report
from edgekube.node.pod.spec import container_named
from edgekube.node.pod.state import Failure, GrantResources, Memory, ResizeContainer
from edgekube.node.podcgroups import share_of
from edgekube.runtime.base import Limits, Phase, RuntimeFailure, RuntimeUnavailable


class Resizer:
    """The steps of one pod's resizes, and its own cgroup."""

    def __init__(self, host: Host, memory: Memory) -> None:
        self._host, self._memory = host, memory
        self._backoff = Backoff[str](first=10.0, limit=300.0)

    async def grant(self, pod: core_v1.Pod, _step: GrantResources) -> bool:
        """Let the pod have what it asks for; raises OSError when that cannot be written down."""
        grant = wished(pod)
        self._host.allocations.keep(pod, grant)
        self._memory.granted = grant
        self._memory.resize = None
        # Files of the downward API may tell of resources.
        self._memory.volumes_stale = True
        self._backoff.forget("resize")
        self.fit(pod)
        self._host.event(pod, "ResizeStarted", f"Pod resize started: {report(pod)}")
        return True

    async def resize(self, pod: core_v1.Pod, step: ResizeContainer) -> bool:
        """Change one container's cgroup; raises RuntimeUnavailable."""
        host, memory = self._host, self._memory
        allowed = granted(pod, memory.granted)
        container = container_named(allowed, step.container)
        assert container is not None
        limits = limits_of(allowed, container, node_memory=host.facts.memory)
        try:
            if wrong := await self._wrong(step, limits):
                self._failed(pod, wrong)
                return False
            await host.runtime.containers.update(step.id, limits)
        except RuntimeUnavailable:
            raise
        except RuntimeFailure as error:
            self._failed(pod, str(error))
            return False
        memory.applied[step.id] = memory.granted[step.container]
        self.fit(pod)
        return True

    def fit(self, pod: core_v1.Pod) -> None:
        """Let the pod's cgroup have room for what its containers have, and for what they are to have."""
        memory, has = self._memory, dict(self._memory.granted)
        for info in self._host.containers.of_pod(pod.metadata.uid):
            known = memory.applied.get(info.id) or made_with(info)
            if info.phase is Phase.RUNNING and known is not None:
                has[info.labels.get(CONTAINER_NAME, "")] = known
        share = share_of(granted(pod, memory.granted)).or_more(share_of(granted(pod, has)))
        self._host.cgroups.fit(pod, pod_cgroup(self._host.config, pod), share)

    async def _wrong(self, step: ResizeContainer, limits: Limits) -> str:
        """Return why memory must not be lowered; "" when it may."""
        if limits.memory is None:
            return ""
        usage = await self._host.runtime.containers.usage()
        used = next((item.memory_bytes for item in usage if item.id == step.id), 0)
        if used <= limits.memory:
            return ""
        return f"attempting to set container memory limit ({limits.memory}) below current usage ({used})"

    def _failed(self, pod: core_v1.Pod, message: str) -> None:
        now, known = self._host.clock(), self._memory.resize
        self._memory.resize = Failure(
            reason="Error", message=message, at=now, retry_at=now + self._backoff.next("resize")
        )
        if known is None or known.message != message:
            text = f"Pod resize error: {report(pod, error=message)}"
            self._host.event(pod, "ResizeError", text, warning=True)
