"""Log files on disk: `<attempt>.log`, and what rotation put aside: `<attempt>.log.<time>`, oldest first by name."""

import contextlib
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from edgekube.node import labels
from edgekube.runtime.base import ContainerInfo, Phase, RuntimeFailure, Sessions

log = logging.getLogger(__name__)


def generations(path: Path) -> list[Path]:
    """Return a log's files that exist, oldest first, the live one last."""
    rotated = sorted(path.parent.glob(f"{path.name}.*")) if path.parent.is_dir() else []
    return [*rotated, *((path,) if path.exists() else ())]


def logged(folder: Path) -> list[int]:
    """Return the attempts of a container that have logs in its folder, oldest first."""
    return sorted(int(path.stem) for path in folder.glob("*.log") if path.stem.isdecimal())


def remove_logs(path: Path) -> None:
    """Remove a log and what was rotated away from it."""
    for file in generations(path):
        file.unlink(missing_ok=True)


class Rotation:
    """Renames logs over `max_bytes`, keeping `max_files` in all (kubelet's containerLogMaxSize and -MaxFiles)."""

    def __init__(self, sessions: Sessions, *, max_bytes: int, max_files: int) -> None:
        self._sessions = sessions
        self._max_bytes, self._max_files = max_bytes, max_files

    async def sweep(self, containers: Iterable[ContainerInfo], now: float) -> None:
        """Rotate the logs of running containers that have grown too large."""
        for info in containers:
            path = Path(info.labels.get(labels.LOG_PATH, ""))
            if info.phase is Phase.RUNNING and size_of(path) > self._max_bytes:
                try:
                    await self._rotate(info.id, path, now)
                except (RuntimeFailure, OSError) as error:
                    log.warning("rotating %s: %s", path, error)

    async def _rotate(self, container: str, path: Path, now: float) -> None:
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S.%f")
        aside = path.with_name(f"{path.name}.{stamp}")
        _rename(path, aside)
        try:
            await self._sessions.reopen_log(container)
        except RuntimeFailure:
            # The writer still has the old file open: give it its name back rather than lose lines.
            _rename_back(aside, path)
            raise
        for old in generations(path)[: -self._max_files]:
            old.unlink(missing_ok=True)


def _rename(path: Path, aside: Path) -> None:
    path.rename(aside)


def _rename_back(aside: Path, path: Path) -> None:
    with contextlib.suppress(OSError):
        if not path.exists():
            aside.rename(path)


def size_of(path: Path) -> int:
    """Return a file's size in bytes; 0 when it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
