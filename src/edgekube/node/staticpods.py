"""
Static pods: those of files on this node (kubelet's config/file.go and pod/mirror_client.go).

They run whether or not there is a master. The master shows a mirror of each, a pod of the same
name with a uid of its own: we ask for it, report the status to it, and make it go when the file
has gone. Deleting the mirror does not end the pod; it is made again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1
from edgekube.control.mirror import Mirror, NodeEvent, Reporter
from edgekube.node.clock import Clock
from edgekube.node.manifest import HASH, LIMIT, MIRROR, BadManifest, is_mirror, read_manifest

log = logging.getLogger(__name__)

LOOK = 5.0
"""Seconds between two looks into the folder."""
ASK_AGAIN = 60.0
"""Seconds until a mirror that has not come is asked for again."""

Mark = tuple[int, int, int]
"""A file's time, size and inode."""
Changed = Callable[[core_v1.Pod | None, core_v1.Pod | None], None]


class StaticPods:
    """
    The pods of a folder's files.

    `changed(old, new)` takes them up; `alive(uid)` tells whether a pod has not ended yet: another of
    its name waits for that.
    """

    def __init__(
        self, folder: Path, node: str, reporter: Reporter, mirror: Mirror, *, clock: Clock,
        changed: Changed, alive: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._folder, self._node, self._clock = folder, node, clock
        self._reporter, self._mirror = reporter, mirror
        self._changed, self._alive = changed, alive
        self._files: dict[Path, tuple[Mark, core_v1.Pod | None]] = {}
        """Path → what stat(2) said, and the pod; None for a file that is no pod."""
        self._twins: set[Path] = set()
        """Files whose pod another file has, too."""
        self._running: dict[Key, core_v1.Pod] = {}
        self._ending: list[core_v1.Pod] = []
        self._asked: dict[Key, float] = {}
        self._wake = asyncio.Event()
        self.loaded = asyncio.Event()
        """Set when the folder has been looked at once."""

    def __iter__(self) -> Iterator[core_v1.Pod]:
        return iter(tuple(self._running.values()))

    def get(self, key: Key) -> core_v1.Pod | None:
        """Return the static pod of a name."""
        return self._running.get(key)

    def look(self) -> None:
        """Look again soon: a pod has ended, or a mirror changed."""
        self._wake.set()

    async def run(self) -> None:
        """Look until cancelled."""
        self._mirror.pods.subscribe(self._mirror_changed)
        while True:
            try:
                files = await asyncio.to_thread(self._stat)
                fresh = [
                    path
                    for path, mark in files.items()
                    if path not in self._files or self._files[path][0] != mark
                ]
                self._take(files, {path: await asyncio.to_thread(_content, path) for path in fresh})
            except OSError as error:
                log.warning("static pods: %s", error)
            else:
                self._apply()
            self.loaded.set()
            self._show()
            self._wake.clear()
            try:
                async with asyncio.timeout(LOOK):
                    await self._wake.wait()
            except TimeoutError:
                pass

    # --- files ---

    def _stat(self) -> dict[Path, Mark]:
        found = {}
        for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if not path.name.startswith(".") and path.is_file():
                about = path.stat()
                found[path] = (about.st_mtime_ns, about.st_size, about.st_ino)
        return found

    def _take(self, files: dict[Path, Mark], contents: dict[Path, bytes]) -> None:
        """Take over what the folder has now."""
        pods = {path: known for path, known in self._files.items() if path in files and path not in contents}
        for path, data in contents.items():
            pods[path] = (files[path], self._pod(path, data))
        names: dict[Key, Path] = {}
        twins = set()
        for path in sorted(pods):
            pod = pods[path][1]
            if pod is not None and (first := names.setdefault(key_of(pod), path)) != path:
                twins.add(path)
                if path not in self._twins or path in contents:
                    self._complain(path, f"{first.name} has a pod of that name")
        self._twins = twins
        self._files = pods

    def _pod(self, path: Path, data: bytes) -> core_v1.Pod | None:
        try:
            return read_manifest(data, path=str(path), node=self._node, now=self._clock())
        except BadManifest as error:
            self._complain(path, str(error))
            return None

    def _complain(self, path: Path, why: str) -> None:
        text = f"Could not process manifest file {path}: {why}"
        log.error("%s", text)
        self._reporter.event(
            NodeEvent(
                path="v1/nodes", key=Key("", self._node), uid=self._node, type="Warning", reason="InvalidManifest",
                message=text,
            )
        )  # fmt: skip

    def _apply(self) -> None:
        """Begin what is new, end what is gone; a changed pod begins when its former self has ended."""
        wanted = {
            key_of(pod): pod
            for path, (_, pod) in self._files.items()
            if pod is not None and path not in self._twins
        }
        for key, old in tuple(self._running.items()):
            new = wanted.get(key)
            if new is None or new.metadata.uid != old.metadata.uid:
                del self._running[key]
                self._ending.append(old)
                self._changed(old, None)
        self._ending = [pod for pod in self._ending if self._alive(pod.metadata.uid)]
        busy = {key_of(pod) for pod in self._ending}
        for key, new in wanted.items():
            if key not in self._running and key not in busy:
                self._running[key] = new
                self._changed(None, new)

    # --- mirrors ---

    def _mirror_changed(self, old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        shown = new or old
        if shown is not None and is_mirror(shown):
            self._asked.pop(key_of(shown), None)
            self.look()

    def _show(self) -> None:
        """Ask for mirrors that are missing, give up those of what is not here."""
        if not self._mirror.pods.synced.is_set():
            return
        now = self._clock()
        for pod in self._mirror.pods:
            if is_mirror(pod) and not self._fits(pod):
                self._reporter.pod_gone(key_of(pod), pod.metadata.uid)
        for key, pod in self._running.items():
            if self._mirror.pods.get(key) is None and now - self._asked.get(key, -ASK_AGAIN) >= ASK_AGAIN:
                self._asked[key] = now
                self._reporter.mirror_pod(pod)

    def _fits(self, mirror: core_v1.Pod) -> bool:
        """Tell whether a mirror shows what runs here and may stay."""
        own = self._running.get(key_of(mirror))
        same = own is not None and mirror.metadata.annotations.get(HASH) == own.metadata.annotations[HASH]
        return same and not mirror.metadata.deletion_timestamp


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LIMIT + 1)


class MirrorReporter:
    """A Reporter that tells of static pods under their mirrors' uids; what has no mirror yet waits for it."""

    def __init__(self, reporter: Reporter, mirror: Mirror) -> None:
        self._reporter, self._mirror = reporter, mirror
        self._static: dict[str, tuple[Key, core_v1.PodStatus | None]] = {}
        """Static pods' uids → names and newest statuses."""
        mirror.pods.subscribe(self._pod_changed)

    def adopt(self, pod: core_v1.Pod) -> None:
        """Take up a static pod."""
        self._static[pod.metadata.uid] = (key_of(pod), None)

    def pod_status(self, key: Key, uid: str, status: core_v1.PodStatus) -> None:
        """Report a pod's status."""
        if uid not in self._static:
            self._reporter.pod_status(key, uid, status)
            return
        self._static[uid] = (key, status)
        mirror = self._mirror.pods.get(key)
        if mirror is not None and mirror.metadata.annotations.get(MIRROR) == uid:
            self._reporter.pod_status(key, mirror.metadata.uid, status)

    def pod_gone(self, key: Key, uid: str) -> None:
        """Report that a pod has ended; of a static one there is nothing to tell, its mirror goes by itself."""
        if uid not in self._static:
            self._reporter.pod_gone(key, uid)

    def volume_gone(self, name: str, uid: str) -> None:
        """Report that the data of a volume are removed."""
        self._reporter.volume_gone(name, uid)

    def mirror_pod(self, pod: core_v1.Pod) -> None:
        """Ask for a mirror of a static pod."""
        self._reporter.mirror_pod(pod)

    def node_status(self, node: core_v1.Node) -> None:
        """Report this node."""
        self._reporter.node_status(node)

    def event(self, event: NodeEvent) -> None:
        """Report an event; one about a static pod has that pod's own uid, as `kubectl describe` expects."""
        self._reporter.event(event)

    def stats(self, summary: bytes) -> None:
        """Report resource usage."""
        self._reporter.stats(summary)

    async def service_account_token(
        self, key: Key, audience: str, seconds: int, pod: core_v1.Pod
    ) -> tuple[str, str]:
        """Return a token."""
        return await self._reporter.service_account_token(key, audience, seconds, pod)

    def forget(self, uid: str) -> None:
        """Drop a static pod that has ended."""
        self._static.pop(uid, None)

    def _pod_changed(self, _old: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
        if new is None or not is_mirror(new):
            return
        key, status = self._static.get(new.metadata.annotations[MIRROR], (None, None))
        if key == key_of(new) and status is not None:
            self._reporter.pod_status(key_of(new), new.metadata.uid, status)
