"""Removing dead containers that nobody will ask about (kubelet's kuberuntime_gc.go). The logs of a pod that has ended stay."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from edgekube.lib.errors import EdgekubeError
from edgekube.node import labels
from edgekube.node.host import Host
from edgekube.node.log.files import remove_logs
from edgekube.runtime.base import ContainerInfo, Phase

log = logging.getLogger(__name__)

PERIOD = 60.0
KEEP = 1
"""Dead attempts kept besides the newest attempt: what `kubectl logs --previous` shows."""


def superfluous(
    containers: Iterable[ContainerInfo], *, keep: int = KEEP, over: Callable[[str], bool] = lambda _uid: False
) -> Sequence[ContainerInfo]:
    """
    Return the dead attempts that may go: all but `keep` of each container, and the newest.

    That stays whatever `keep` is, for it says that the container has run; only if its pod is
    `over(uid)` it counts like the others.
    """
    attempts: dict[tuple[str, str], list[ContainerInfo]] = {}
    for info in containers:
        key = (info.labels.get(labels.POD_UID, ""), info.labels.get(labels.CONTAINER_NAME, ""))
        attempts.setdefault(key, []).append(info)
    found: list[ContainerInfo] = []
    for (uid, _), infos in attempts.items():
        infos.sort(key=lambda info: labels.attempt_of(info.labels), reverse=True)
        older = infos if over(uid) else infos[1:]
        found += [info for info in older if info.phase is Phase.EXITED][keep:]
    return found


class DeadContainers:
    """Sweeps every minute. `over(uid)` tells that a pod has ended for good."""

    def __init__(self, host: Host, over: Callable[[str], bool]) -> None:
        self._host, self._over = host, over

    async def run(self) -> None:
        """Sweep until cancelled."""
        await self._host.containers.synced.wait()
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self._remove(superfluous(self._host.containers.all(), over=self._over))
            except EdgekubeError as error:
                log.warning("dead containers: %s", error)

    async def delete_unused(self) -> None:
        """Remove every dead container that may go: the disk is short; raises RuntimeFailure."""
        await self._remove(superfluous(self._host.containers.all(), keep=0, over=self._over))

    async def _remove(self, infos: Iterable[ContainerInfo]) -> None:
        for info in infos:
            log.info("removing dead container %s", info.name)
            await self._host.runtime.containers.remove(info.id)
            await self._host.containers.refresh(info.id)
            if not self._over(info.labels.get(labels.POD_UID, "")):
                remove_logs(Path(info.labels.get(labels.LOG_PATH, "")))
