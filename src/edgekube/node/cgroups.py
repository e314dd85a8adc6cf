"""Removing what a pod's containers leave in the cgroup tree (cgroups(7)); both hierarchies."""

import errno
import shutil
from pathlib import Path

QUALITIES = ("", "burstable", "besteffort")


def remove_cgroup(mount: Path, path: str) -> bool:
    """Remove the cgroup `path` and those below it, in every hierarchy; False when some are still in use."""
    if not path.strip("/"):
        return True
    relative = path.strip("/")
    tops = [top for top in (mount / relative, *mount.glob(f"*/{relative}")) if top.is_dir()]
    for top in tops:
        _prune(top)
    return not any(top.is_dir() for top in tops)


def pod_cgroups(mount: Path, root: str) -> dict[str, str]:
    """Return the cgroups of pods below `root` that exist: path → pod uid."""
    found: dict[str, str] = {}
    if not root.strip("/"):
        return found
    for quality in QUALITIES:
        below = "/".join(part for part in (root.strip("/"), quality, "pod*") if part)
        for folder in (*mount.glob(below), *mount.glob(f"*/{below}")):
            path = f"{root}/{quality}/{folder.name}".replace("//", "/")
            found[path] = folder.name.removeprefix("pod")
    return found


def _prune(top: Path) -> None:
    for below in top.iterdir():
        if below.is_dir() and not below.is_symlink():
            _prune(below)
    try:
        top.rmdir()
    except OSError as error:
        # EBUSY: a monitor of the runtime lingers in it for some seconds. ENOTEMPTY never comes from a
        # cgroup: it is a plain folder that a runtime wrote where a hierarchy had been unmounted.
        if error.errno == errno.ENOTEMPTY:
            shutil.rmtree(top, ignore_errors=True)
