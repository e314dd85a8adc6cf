"""Removing the data of volumes that are released: level by level, however often it was interrupted."""

import asyncio
import logging
import shutil
from pathlib import Path

from edgekube.api.types import core_v1
from edgekube.control.mirror import Mirror, Reporter
from edgekube.control.volumes import claims_of, going

log = logging.getLogger(__name__)

RETRY = 30.0


def directory_of(volume: core_v1.PersistentVolume) -> Path | None:
    """Return the directory to remove: ours only, which has the volume's name in its own."""
    path = Path(volume.spec.host_path.path) if volume.spec.host_path else None
    if path is None or not path.is_absolute() or not path.name.startswith(f"{volume.metadata.name}_"):
        return None
    return path


class Reclaimer:
    """Removes what released volumes leave on this node, and says so."""

    def __init__(self, mirror: Mirror, reporter: Reporter) -> None:
        self._mirror, self._reporter = mirror, reporter
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        self._mirror.volumes.subscribe(lambda _old, _new: self._wake.set())
        self._mirror.pods.subscribe(lambda _old, _new: self._wake.set())
        await self._mirror.pods.synced.wait()
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            for volume in tuple(self._mirror.volumes):
                if going(volume) and not self._used(volume):
                    await self._remove(volume)

    def _used(self, volume: core_v1.PersistentVolume) -> bool:
        ref = volume.spec.claim_ref
        return ref is not None and any(
            (key.namespace, key.name) == (ref.namespace, ref.name)
            for pod in self._mirror.pods
            for key, _ in claims_of(pod)
        )

    async def _remove(self, volume: core_v1.PersistentVolume) -> None:
        path = directory_of(volume)
        try:
            if path is not None and path.is_dir() and not path.is_symlink():
                await asyncio.to_thread(shutil.rmtree, path)
        except OSError as error:
            log.warning("volume %s: cannot remove %s: %s", volume.metadata.name, path, error)
            asyncio.get_running_loop().call_later(RETRY, self._wake.set)
            return
        log.info("volume %s: data removed", volume.metadata.name)
        self._reporter.volume_gone(volume.metadata.name, volume.metadata.uid)
