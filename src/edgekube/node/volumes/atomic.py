"""
Write a folder of files so that readers see all old or all new ones (kubelet's AtomicWriter).

Files live in a hidden folder named after the time; the symlink `..data` points to it and is
swapped by one rename; each visible name is a symlink into `..data`.
"""

import os
import shutil
import tempfile
from pathlib import Path

from edgekube.node.volumes.base import Content, Files, VolumeError

DATA, NEXT = "..data", "..data_tmp"


def write_files(folder: Path, files: Files, *, group: int | None = None) -> bool:
    """Make `folder` hold exactly `files`; tell whether anything changed."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        if path.startswith(("/", "..")) or ".." in Path(path).parts:
            raise VolumeError(f"invalid path {path}")
    files = {path: _for_group(content, group) for path, content in files.items()}
    names = {path.split("/", 1)[0] for path in files}
    if (folder / DATA).is_symlink() and _read(folder / DATA) == files:
        # Whoever swapped the link may have died right afterwards.
        _link(folder, names)
        _clean(folder, keep=(folder / DATA).readlink().name)
        return False
    fresh = Path(tempfile.mkdtemp(dir=folder, prefix="..20"))
    fresh.chmod(0o755)
    for path, content in files.items():
        _write(fresh, path, content, group=group)
    (folder / NEXT).unlink(missing_ok=True)
    (folder / NEXT).symlink_to(fresh.name)
    (folder / NEXT).rename(folder / DATA)
    _link(folder, names)
    _clean(folder, keep=fresh.name)
    return True


def _write(fresh: Path, path: str, content: Content, *, group: int | None) -> None:
    target = fresh / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.data)
    target.chmod(content.mode)
    if group is not None:
        os.chown(target, -1, group)


def _for_group(content: Content, group: int | None) -> Content:
    """What the owner may read or run, a volume's group may too."""
    mode = content.mode
    return content if group is None else Content(content.data, mode | 0o040 | (0o010 if mode & 0o100 else 0))


def _read(folder: Path) -> dict[str, Content]:
    found: dict[str, Content] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            found[str(path.relative_to(folder))] = Content(path.read_bytes(), path.stat().st_mode & 0o7777)
    return found


def _link(folder: Path, names: set[str]) -> None:
    for name in names:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{DATA}/{name}")


def _clean(folder: Path, *, keep: str) -> None:
    for entry in folder.iterdir():
        if entry.is_symlink():
            if entry.name != DATA and not entry.exists():
                entry.unlink()
        elif entry.is_dir() and entry.name.startswith("..") and entry.name != keep:
            shutil.rmtree(entry, ignore_errors=True)
