"""Removing what a pod's containers leave in the cgroup tree (cgroups(7)); both hierarchies."""

import contextlib
from pathlib import Path


def remove_cgroup(mount: Path, path: str) -> None:
    """Remove the cgroup `path` and those below it, in every hierarchy; what is still in use stays."""
    if not path.strip("/"):
        return
    relative = path.lstrip("/")
    for top in (mount / relative, *mount.glob(f"*/{relative}")):
        if top.is_dir():
            _prune(top)


def _prune(top: Path) -> None:
    for below in top.iterdir():
        if below.is_dir() and not below.is_symlink():
            _prune(below)
    # Busy: a process is just ending in it; the next pod's end or the agent's next start retries.
    with contextlib.suppress(OSError):
        top.rmdir()
