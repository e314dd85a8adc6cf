"""How containers end: preStop hooks, turns, grace, and a grace that is cut short."""

import asyncio
import contextlib
from collections.abc import Sequence

from edgekube.api.types import core_v1
from edgekube.node.aio import unless
from edgekube.node.host import Host
from edgekube.node.pod.hooks import run_hook
from edgekube.node.pod.spec import container_named
from edgekube.node.pod.state import Memory, StopContainers, Stopping
from edgekube.node.probes.check import Target
from edgekube.runtime.base import NoSuchContainer

LEAST_GRACE = 2.0
"""Seconds a container has after its preStop hook used up the grace period."""


class Endings:
    """Stops the containers of one pod."""

    def __init__(self, host: Host, memory: Memory) -> None:
        self._host, self._memory = host, memory
        self.hurry = asyncio.Event()
        """Set when the grace period of a stop that is under way was cut short."""

    async def stop(self, pod: core_v1.Pod, step: StopContainers) -> bool:
        """Stop them all, those of a later turn after the others; at once when `hurry` is set meanwhile."""
        self.hurry.clear()
        _, ended = await unless(self.hurry, self._stop_all(pod, step))
        if not ended:
            await asyncio.gather(*(self._kill(target) for target in step.targets))
        return True

    async def _stop_all(self, pod: core_v1.Pod, step: StopContainers) -> None:
        ended = {target.id: asyncio.Event() for target in step.targets}

        async def one(target: Stopping) -> None:
            before = [ended[other.id] for other in step.targets if other.turn < target.turn]
            try:
                await self.stop_one(pod, target, before)
            finally:
                ended[target.id].set()

        await asyncio.gather(*(one(target) for target in step.targets))

    async def _kill(self, target: Stopping) -> None:
        with contextlib.suppress(NoSuchContainer):
            await self._host.runtime.containers.stop(target.id, grace=1.0)
        await self._host.containers.refresh(target.id)

    async def stop_one(
        self, pod: core_v1.Pod, target: Stopping, before: Sequence[asyncio.Event] = ()
    ) -> None:
        """Stop one container within its grace, its preStop hook and what ends `before` it included."""
        host, loop = self._host, asyncio.get_running_loop()
        host.event(pod, "Killing", target.message, container=target.container)
        begun = loop.time()
        container = container_named(pod, target.container)
        lifecycle = container.lifecycle if container else None
        if container is not None and lifecycle is not None and lifecycle.pre_stop is not None:
            await self._pre_stop(pod, container, target, lifecycle.pre_stop)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(begun + target.grace):
                for event in before:
                    await event.wait()
        left = target.grace - (loop.time() - begun)
        if left < target.grace:
            left = max(left, min(LEAST_GRACE, target.grace))
        with contextlib.suppress(NoSuchContainer):
            await host.runtime.containers.stop(target.id, grace=left)
        if target.replace:
            self._memory.replace.add(target.id)
        await host.containers.refresh(target.id)

    async def _pre_stop(
        self, pod: core_v1.Pod, container: core_v1.Container, target: Stopping, hook: core_v1.LifecycleHandler
    ) -> None:
        try:
            async with asyncio.timeout(target.grace):
                answer = await run_hook(hook, self.target(container, target.id), self._host.runtime.sessions)
        except TimeoutError:
            return
        if not answer.success:
            text = f"PreStopHook failed: {answer.output}"
            self._host.event(pod, "FailedPreStopHook", text, warning=True, container=container.name)

    def target(self, container: core_v1.Container, identity: str) -> Target:
        """Return where a container's probes and hooks go."""
        attachment = self._memory.attachment
        address = self._host.config.node_ip if attachment is None else attachment.address
        return Target(container=container, id=identity, address=address)
