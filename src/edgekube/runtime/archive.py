"""
Image archives from plain files, made by the standard library alone.

The format is `docker save`'s: a tar with manifest.json, the config and one layer. The same input
gives the same bytes (no clock, no owner), hence the same image id.
(https://github.com/moby/docker-image-spec/blob/main/v1.2.md)
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekube.lib.files import write_atomic

PASSWD = b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
GROUP = b"root:x:0:\nnobody:x:65534:\n"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an image: its bytes; or where a symbolic link points; or, with neither, a folder."""

    data: bytes | None = None
    mode: int = 0o644
    link: str = ""


def write_archive(  # noqa: PLR0913 - an image has that many parts
    path: Path,
    name: str,
    *,
    binary: Path | None = None,
    applets: Sequence[str] = (),
    files: Mapping[str, Entry | bytes] | None = None,
    command: Sequence[str] = (),
    entrypoint: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    user: str = "",
    stop_signal: str = "",
    architecture: str = "amd64",
) -> str:
    """
    Write the image `name` to `path` and return its id (hex).

    `binary` is a static busybox for /bin, with a link for each of `applets`; `files` are further
    files by path without the leading slash; `architecture` is a GOARCH word.
    """
    tree = _busybox(binary, applets) if binary else {}
    tree |= {
        target: entry if isinstance(entry, Entry) else Entry(entry) for target, entry in (files or {}).items()
    }
    config = {
        "Cmd": list(command),
        "Entrypoint": list(entrypoint),
        "Env": [f"{key}={value}" for key, value in sorted(({"PATH": "/bin"} | dict(env or {})).items())],
        "User": user,
        "StopSignal": stop_signal,
    }
    layer = _tar(tree)
    layer_id = hashlib.sha256(layer).hexdigest()
    image = {
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {key: value for key, value in config.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_id}"]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "edgekube"}],
    }
    encoded = json.dumps(image, sort_keys=True).encode()
    image_id = hashlib.sha256(encoded).hexdigest()
    manifest = [{"Config": f"{image_id}.json", "RepoTags": [name], "Layers": [f"{layer_id}.tar"]}]
    content = {
        f"{image_id}.json": Entry(encoded),
        f"{layer_id}.tar": Entry(layer),
        "manifest.json": Entry(json.dumps(manifest).encode()),
    }
    write_atomic(path, _tar(content), mode=0o644)
    return image_id


def read_names(path: Path) -> tuple[str, ...]:
    """Return the image names an archive of `write_archive` holds; raises OSError, ValueError."""
    try:
        with tarfile.open(path) as tar:
            member = tar.extractfile("manifest.json")
            if member is None:
                raise ValueError(f"{path}: manifest.json is not a file")
            manifest = json.load(member)
    except (tarfile.TarError, KeyError) as error:
        raise ValueError(f"{path} is not an image archive: {error}") from error
    return tuple(name for image in manifest for name in image.get("RepoTags") or ())


def _busybox(binary: Path, applets: Sequence[str]) -> dict[str, Entry]:
    tree = {
        "bin/busybox": Entry(binary.read_bytes(), 0o755),
        "tmp": Entry(mode=0o1777),
        "etc/passwd": Entry(PASSWD),
        "etc/group": Entry(GROUP),
    }
    return tree | {f"bin/{applet}": Entry(link="busybox", mode=0o777) for applet in applets}


def _tar(tree: Mapping[str, Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, entry in sorted(tree.items()):
            info = tarfile.TarInfo(path)
            info.mode = entry.mode
            if entry.link:
                info.type, info.linkname = tarfile.SYMTYPE, entry.link
                tar.addfile(info)
            elif entry.data is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(entry.data)
                tar.addfile(info, io.BytesIO(entry.data))
    return buffer.getvalue()
