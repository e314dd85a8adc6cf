"""
The status a pod had, over a restart of the agent: times of conditions, and what probes had found.

The mirror does not say it (the master sends no status back). Written without sync: what a power cut
loses here is only when things began.
"""

import logging
from pathlib import Path

import msgspec

from edgekube.api.types import core_v1

log = logging.getLogger(__name__)


class Recall:
    """One small file a pod, by uid."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, uid: str) -> core_v1.PodStatus | None:
        """Return the status last kept; None when there is none."""
        try:
            return msgspec.json.decode(self._path(uid).read_bytes(), type=core_v1.PodStatus)
        except (OSError, msgspec.DecodeError):
            return None

    def keep(self, uid: str, status: core_v1.PodStatus) -> None:
        """Remember a status."""
        path = self._path(uid)
        fresh = path.with_suffix(".new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.encode(status))
            fresh.rename(path)
        except OSError as error:
            log.warning("pod status not kept: %s", error)

    def forget(self, uid: str) -> None:
        """Forget a pod; harmless when it is not known."""
        self._path(uid).unlink(missing_ok=True)

    def uids(self) -> list[str]:
        """Return the pods remembered."""
        return [path.stem for path in self._folder.glob("*.json")]

    def _path(self, uid: str) -> Path:
        return self._folder / f"{uid}.json"
