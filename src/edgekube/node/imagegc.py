"""
Removing images nobody needs when the disk fills (kubelet's images/image_gc_manager.go).

Only what came from a registry may go, for only that can come again: an image loaded from an
archive, or that was on the board before, stays. Which were pulled is kept on disk; what is not
known to be pulled counts as loaded.
"""

import asyncio
import fnmatch
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.board.base import Board
from edgekube.control.mirror import NodeEvent
from edgekube.lib.errors import EdgekubeError
from edgekube.node.clock import Clock
from edgekube.node.config import ImageGcSettings
from edgekube.node.eviction.plan import Observation
from edgekube.node.eviction.signals import observations
from edgekube.node.host import Host
from edgekube.node.pod.spec import every_container
from edgekube.runtime.base import ImageInfo, NoSuchImage, RuntimeFailure

log = logging.getLogger(__name__)

PERIOD = 300.0


@dataclass(frozen=True, slots=True)
class Seen:
    """When an image was first noticed, and last used."""

    first: float
    used: float = 0.0


class GcFailed(EdgekubeError):
    """Not enough could be freed; the message is the kubelet's."""


class PulledImages:
    """The ids of images that came from a registry, over restarts; a full disk only makes it forget."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._ids: dict[str, float] | None = None

    def __contains__(self, image: str) -> bool:
        return image in self._known()

    def at(self, image: str) -> float | None:
        """Return when an image was pulled; None when it was not."""
        return self._known().get(image)

    def add(self, image: str) -> None:
        """Note an image."""
        image = image.removeprefix("sha256:")
        if image not in self._known():
            self._known()[image] = float(int(self._clock()))
            self._write()

    def keep(self, images: Iterable[str]) -> None:
        """Forget all that are not among `images`."""
        here = set(images)
        gone = [image for image in self._known() if image not in here]
        for image in gone:
            del self._known()[image]
        if gone:
            self._write()

    def _known(self) -> dict[str, float]:
        if self._ids is None:
            try:
                self._ids = msgspec.json.decode(self._path.read_bytes(), type=dict[str, float])
            except (OSError, msgspec.DecodeError):
                self._ids = {}
        return self._ids

    def _write(self) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.encode(self._known()))
            fresh.rename(self._path)
        except OSError as error:
            log.warning("%s: %s", self._path, error.strerror)


def in_use(images: Iterable[ImageInfo], ids: set[str], names: set[str]) -> set[str]:
    """Return the ids of images that a container was made of or a pod names."""
    full = {_full(name) for name in names}
    return {
        image.id for image in images
        if image.id in ids or any(_full(name) in full for name in (*image.names, *image.digests)) or image.id in names
    }  # fmt: skip


def _full(name: str) -> str:
    """Return a name with what is left out: the registry, the tag."""
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}"
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def to_free(disk: Observation, settings: ImageGcSettings) -> int:
    """Return how many bytes must go; 0 while there is enough."""
    if disk.capacity <= 0 or settings.high >= 100:
        return 0
    used = 100 - disk.available * 100 // disk.capacity
    if used < settings.high:
        return 0
    return max(0, disk.capacity * (100 - settings.low) // 100 - disk.available)


def candidates(
    images: Sequence[ImageInfo], seen: Mapping[str, Seen], used: set[str], settings: ImageGcSettings,
    *, pulled: Callable[[str], bool], now: float,
) -> list[ImageInfo]:  # fmt: skip
    """Return the images that may go, the longest unused first."""
    free = [
        image for image in images
        if image.id not in used and pulled(image.id) and not _pinned(image, settings.pinned)
        and now - seen.get(image.id, Seen(now)).first >= settings.min_age
    ]  # fmt: skip
    return sorted(free, key=lambda image: (seen[image.id].used, seen[image.id].first, image.id))


def too_old(
    images: Sequence[ImageInfo], seen: Mapping[str, Seen], settings: ImageGcSettings, now: float
) -> list[ImageInfo]:
    """Return those of the candidates that have been unused for longer than they may."""
    if not settings.max_age:
        return []
    return [i for i in images if now - max(seen[i.id].used, seen[i.id].first) > settings.max_age]


def _pinned(image: ImageInfo, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in image.names for pattern in patterns)


class ImageCollector:
    """Runs the garbage collection; `pods()` are all pods of the node, begun or not."""

    def __init__(
        self, host: Host, board: Board, pods: Callable[[], Iterable[core_v1.Pod]], pulled: PulledImages
    ) -> None:
        self._host, self._board, self._pods, self._pulled = host, board, pods, pulled
        self._settings = host.config.image_gc
        self._seen: dict[str, Seen] = {}
        self._failed = False
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        """Collect every five minutes, until cancelled."""
        while True:
            try:
                await self.collect()
                self._failed = False
            except EdgekubeError as error:
                log.warning("image garbage collection: %s", error)
                if self._failed:
                    self._tell("ImageGCFailed", str(error))
                self._failed = True
            await asyncio.sleep(PERIOD)

    async def collect(self) -> None:
        """Remove images if the disk is too full; raises GcFailed, RuntimeFailure."""
        async with self._busy:
            found = await self._candidates()
            now = self._host.clock()
            old = too_old(found, self._seen, self._settings, now)
            for image in old:
                await self._remove(image)
            usage = observations(self._board.usage(), memory=self._host.facts.memory)
            wanted = to_free(usage["imagefs.available"], self._settings)
            if wanted <= 0:
                return
            log.warning("disk usage is over %d %%: freeing %d bytes", self._settings.high, wanted)
            freed = await self._free([image for image in found if image not in old], wanted)
        if freed < wanted:
            text = (
                f"Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, "
                f"but only found {freed} bytes eligible to free."
            )
            self._tell("FreeDiskSpaceFailed", text)
            raise GcFailed(text)

    async def delete_unused(self) -> None:
        """Remove every image that may go: the disk is short; raises RuntimeFailure."""
        async with self._busy:
            await self._free(await self._candidates(), math.inf)

    async def _candidates(self) -> list[ImageInfo]:
        now = self._host.clock()
        images = await self._host.runtime.images.list()
        ids = {info.image_id.removeprefix("sha256:") for info in self._host.containers.all()}
        names = {container.image for pod in self._pods() for container in every_container(pod)}
        names |= {v.image.reference for pod in self._pods() for v in pod.spec.volumes if v.image is not None}
        names |= self._host.images.preloaded
        used = in_use(images, ids, names)
        before = self._seen
        self._seen = {}
        for image in images:
            pulled = self._pulled.at(image.id)
            known = before.get(image.id, Seen(now if pulled is None else min(pulled, now)))
            self._seen[image.id] = Seen(known.first, now if image.id in used else known.used)
        self._pulled.keep(image.id for image in images)
        return candidates(images, self._seen, used, self._settings, pulled=self._pulled.__contains__, now=now)

    async def _free(self, images: Iterable[ImageInfo], wanted: float) -> int:
        freed = 0
        for image in images:
            if freed >= wanted:
                break
            freed += await self._remove(image)
        return freed

    async def _remove(self, image: ImageInfo) -> int:
        """Remove one; return the bytes it had, 0 when it stays."""
        log.info("removing image %s", ", ".join(image.names) or image.id)
        remaining = self._host.runtime.images
        try:
            for name in image.names or (image.id,):
                await remaining.remove(name)
            await remaining.inspect(image.id)
        except NoSuchImage:
            return image.size
        except RuntimeFailure as error:
            log.warning("image %s: %s", image.id, error)
            return 0
        try:
            await remaining.remove(image.id)
        except RuntimeFailure as error:
            log.warning("image %s: %s", image.id, error)
            return 0
        return image.size

    def _tell(self, reason: str, text: str) -> None:
        name = self._host.config.node_name
        self._host.reporter.event(
            NodeEvent(
                path="v1/nodes", key=Key("", name), uid=name, type="Warning", reason=reason, message=text
            )
        )
