"""A pod's volumes: make and refresh them, say how containers mount them, remove them."""

import asyncio
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from edgekube.api.types import core_v1
from edgekube.control.mirror import Mirror
from edgekube.node.clock import Clock
from edgekube.node.config import KubeletConfig
from edgekube.node.env.downward import Place
from edgekube.node.env.envfile import LIMIT
from edgekube.node.env.environment import ConfigError
from edgekube.node.env.expand import expand, missing
from edgekube.node.folders import PodFolder
from edgekube.node.mounts import mount_tmpfs, unmount
from edgekube.node.pod.spec import shares_memory
from edgekube.node.volumes import claim, etc
from edgekube.node.volumes.base import TokenSource, VolumeContext, VolumeError
from edgekube.node.volumes.table import KINDS, READ_ONLY, kind_of
from edgekube.runtime.base import Device, Mount

SHARED = ".shm"
"""No volume's name: those begin with a letter or a digit."""
SHARED_SIZE = 64 << 20
"""Bytes of a pod's shared memory, as containerd has it."""
PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}


class Volumes:
    """Volumes of all pods of this node."""

    def __init__(self, config: KubeletConfig, mirror: Mirror, *, clock: Clock, tmpfs: bool) -> None:
        self._config, self._mirror = config, mirror
        self._clock, self._tmpfs = clock, tmpfs

    async def make(
        self, pod: core_v1.Pod, place: Place, token: TokenSource, *, resumed: bool = False
    ) -> float:
        """Make or refresh all; return when to do so again. `resumed`: the pod ran here before. Raises VolumeError."""
        folder = PodFolder.of(self._config.pods_dir, pod)
        context = VolumeContext(
            pod=pod, folder=folder.root, mirror=self._mirror, config_map=self._mirror.config_maps.get, secret=self._mirror.secrets.get,
            place=place, token=token, now=self._clock(), resumed=resumed, tmpfs=self._tmpfs,
        )  # fmt: skip
        refresh_at = math.inf
        for volume in pod.spec.volumes:
            try:
                made = await KINDS[kind_of(volume)](context, volume, folder.volume(volume.name))
            except VolumeError as error:
                raise VolumeError(f'MountVolume.SetUp failed for volume "{volume.name}" : {error}') from error
            refresh_at = min(refresh_at, made.refresh_at)
        self._write_etc(pod, folder, place.pod_ips or place.pod_ip)
        if self._tmpfs and shares_memory(pod):
            _share(folder.volume(SHARED))
        return refresh_at

    def _write_etc(self, pod: core_v1.Pod, folder: PodFolder, address: str) -> None:
        node_hosts = _read(Path("/etc/hosts")) if pod.spec.host_network else ""
        texts = {
            "hosts": etc.hosts(pod, address, self._config, node_hosts=node_hosts),
            "hostname": etc.pod_hostname(pod, self._config.node_name) + "\n",
            "resolv.conf": etc.resolv_conf(pod, self._config, _read(self._config.resolv_conf)),
        }
        for name, text in texts.items():
            path = folder.etc(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            # In place: containers hold a bind mount of this very file.
            if _read(path) != text:
                path.write_text(text)

    def mounts(
        self, pod: core_v1.Pod, container: core_v1.Container, env: Mapping[str, str], *, attempt: int
    ) -> tuple[Mount, ...]:
        """Return a container's mounts; makes sub-paths. Raises ConfigError."""
        folder = PodFolder.of(self._config.pods_dir, pod)
        volumes = {volume.name: volume for volume in pod.spec.volumes}
        found = {mount.mount_path: self._mount(pod, volumes, mount, env) for mount in container.volume_mounts}
        for name in ("hosts", "hostname", "resolv.conf"):
            found.setdefault(f"/etc/{name}", Mount(source=str(folder.etc(name)), target=f"/etc/{name}"))
        if shares_memory(pod) and (shared := folder.volume(SHARED)).is_mount():
            found.setdefault("/dev/shm", Mount(source=str(shared), target="/dev/shm"))  # noqa: S108 - the container's
        message = folder.termination(container.name, attempt)
        message.parent.mkdir(parents=True, exist_ok=True)
        message.touch()
        message.chmod(0o666)
        target = container.termination_message_path or "/dev/termination-log"
        found.setdefault(target, Mount(source=str(message), target=target))
        return tuple(found.values())

    def _mount(
        self, pod: core_v1.Pod, volumes: Mapping[str, core_v1.Volume], mount: core_v1.VolumeMount, env: Mapping[str, str]
    ) -> Mount:  # fmt: skip
        volume = volumes.get(mount.name)
        if volume is None:
            raise ConfigError(f'volume mount "{mount.name}" names no volume of the pod')
        kind = kind_of(volume)
        source = self._source(pod, volume)
        if mount.recursive_read_only == "Enabled":
            raise ConfigError(
                f'volume mount "{mount.name}": recursive read-only mounts are not supported by the runtime'
            )
        sub_path = mount.sub_path
        if mount.sub_path_expr:
            if unknown := missing(mount.sub_path_expr, env):
                raise ConfigError(f'missing value for "{unknown}"')
            sub_path = expand(mount.sub_path_expr, env)
        if volume.image is not None:
            if sub_path:
                raise ConfigError(
                    f'volume mount "{mount.name}": subPath of an image volume is not supported by the runtime'
                )
            return Mount(source=volume.image.reference, target=mount.mount_path, read_only=True, image=True)
        if sub_path:
            source = _sub_path(source, sub_path, read_only=kind in READ_ONLY)
        return Mount(
            source=str(source),
            target=mount.mount_path,
            read_only=bool(mount.read_only) or kind in READ_ONLY or _read_only(volume),
            propagation=PROPAGATION.get(mount.mount_propagation, "private"),
        )

    def devices(self, pod: core_v1.Pod, container: core_v1.Container) -> tuple[Device, ...]:
        """Return the block devices of a container's claims; raises VolumeError."""
        volumes = {volume.name: volume for volume in pod.spec.volumes}
        found = []
        for wish in container.volume_devices:
            path = claim.path_of(self._mirror, pod, volumes[wish.name])
            if not path.is_block_device():
                raise VolumeError(f'volume "{wish.name}": {path} is not a block device')
            found.append(Device(source=str(path), target=wish.device_path))
        return tuple(found)

    def text(self, pod: core_v1.Pod, name: str, path: str) -> str | None:
        """Return what a file in an emptyDir volume says; None when it is not there. Raises ConfigError."""
        volume = next((item for item in pod.spec.volumes if item.name == name), None)
        if volume is None or volume.empty_dir is None:
            raise ConfigError(f'cannot find the emptyDir volume "{name}" of the pod')
        root = self._source(pod, volume).resolve()
        file = (root / path.lstrip("/")).resolve()
        if not file.is_relative_to(root):
            raise ConfigError(f'path "{path}" leaves the volume "{name}"')
        try:
            with file.open("rb") as content:
                return content.read(LIMIT).decode()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f'couldn\'t read file "{path}" in volume "{name}": {error}') from error

    def _source(self, pod: core_v1.Pod, volume: core_v1.Volume) -> Path:
        """Return where a volume's data are on the node."""
        if volume.host_path is not None:
            return Path(volume.host_path.path)
        if volume.persistent_volume_claim is None and volume.ephemeral is None:
            return PodFolder.of(self._config.pods_dir, pod).volume(volume.name)
        try:
            return claim.path_of(self._mirror, pod, volume)
        except VolumeError as error:
            raise ConfigError(str(error)) from error

    async def remove(self, folder: PodFolder, *, everything: bool) -> None:
        """Unmount and delete the volumes; with `everything` the whole folder, logs too. Raises VolumeError."""
        try:
            await asyncio.to_thread(_remove, folder, everything=everything)
        except OSError as error:
            raise VolumeError(f"cannot remove {folder.root}: {error}") from error


def _share(folder: Path) -> None:
    """Mount what all containers of the pod have as /dev/shm (shm_overview(7))."""
    if folder.is_mount():
        return
    try:
        mount_tmpfs(folder, size=SHARED_SIZE)
        folder.chmod(0o1777)
    except OSError as error:
        raise VolumeError(f"shared memory: {error}") from error


def _read_only(volume: core_v1.Volume) -> bool:
    return volume.persistent_volume_claim is not None and bool(volume.persistent_volume_claim.read_only)


def _sub_path(source: Path, sub_path: str, *, read_only: bool) -> Path:
    if sub_path.startswith("/") or ".." in Path(sub_path).parts:
        raise ConfigError(f"subPath {sub_path!r} must not leave its volume")
    target = source / sub_path
    resolved, root = target.resolve(), source.resolve()
    if not resolved.is_relative_to(root):
        raise ConfigError(f"subPath {sub_path!r} leaves its volume through a symbolic link")
    if not resolved.exists():
        if read_only:
            raise ConfigError(
                f"failed to prepare subPath for volumeMount: {sub_path}: no such file or directory"
            )
        resolved.mkdir(parents=True)
        _like(resolved, root)
    return resolved


def _like(folder: Path, root: Path) -> None:
    """Give new folders the owner and mode of their volume."""
    about = root.stat()
    while folder != root:
        os.chown(folder, about.st_uid, about.st_gid)
        folder.chmod(about.st_mode & 0o7777)
        folder = folder.parent


def _remove(folder: PodFolder, *, everything: bool) -> None:
    if folder.volumes.is_dir():
        for volume in folder.volumes.iterdir():
            unmount(volume)
    target = folder.root if everything else folder.volumes
    _retry(lambda: shutil.rmtree(target), target)


def _retry(remove: Callable[[], None], target: Path) -> None:
    """A log writer that is just ending may add a file while the tree is being removed."""
    for left in (2, 1, 0):
        if not target.exists():
            return
        try:
            remove()
        except FileNotFoundError:
            continue
        except OSError:
            if not left:
                raise


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
