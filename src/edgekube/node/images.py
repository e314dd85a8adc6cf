"""Images on the node: pull policy, one pull at a time, back-off, credentials, archives dropped on disk."""

import asyncio
import base64
import binascii
import contextlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from edgekube.api.types import core_v1
from edgekube.lib.backoff import Backoff
from edgekube.lib.errors import EdgekubeError
from edgekube.node.env.environment import secret_data
from edgekube.node.reference import flaw
from edgekube.runtime.base import Credentials, ImageInfo, Images, NoSuchImage, PullFailed, RuntimeFailure

log = logging.getLogger(__name__)

ARCHIVES = ("*.tar", "*.tar.gz", "*.tar.zst")
LOOK_PERIOD = 30.0
INVALID_RETRY = 60.0
WARM = 2.0
"""Seconds for which a look at an image is good enough."""
DOCKER_HUB = "https://index.docker.io/v1/"


class ImageMissing(EdgekubeError):
    """The image cannot be had now; `reason` is ErrImagePull, ErrImageNeverPull or InvalidImageName."""

    def __init__(self, reason: str, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.reason, self.retry_after = reason, retry_after


def pull_policy(container: core_v1.Container) -> str:
    """Return Always, IfNotPresent or Never; without one, :latest means Always."""
    if container.image_pull_policy:
        return container.image_pull_policy
    _, _, tag = container.image.rpartition("/")[2].partition(":")
    return "Always" if tag in ("", "latest") and "@" not in container.image else "IfNotPresent"


class ImageKeeper:
    """Has images on the node. `tell(reason, message)` reports Pulling and Pulled."""

    def __init__(self, images: Images, *, pulled: Callable[[str], None] = lambda _image: None) -> None:
        """`pulled` is told the id of each image that came from a registry."""
        self._images, self._pulled = images, pulled
        self._lock = asyncio.Lock()
        self._seen: dict[str, tuple[float, ImageInfo]] = {}
        self._backoff = Backoff[str](first=10.0, limit=300.0)
        self._loaded: dict[Path, tuple[int, int]] = {}
        self._loading = asyncio.Lock()
        self._folder: Path | None = None
        self.archives_loaded = asyncio.Event()
        self.preloaded: set[str] = set()
        """Names that came from archives: they are there to stay."""

    async def ensure(
        self, container: core_v1.Container, logins: Iterable[Credentials], tell: Callable[[str, str], None]
    ) -> ImageInfo:
        """Return the image, pulled if its policy says so; raises ImageMissing, RuntimeUnavailable."""
        image, policy = container.image, pull_policy(container)
        if wrong := flaw(image):
            message = (
                f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": {wrong}'
            )
            raise ImageMissing("InvalidImageName", message, retry_after=INVALID_RETRY)
        if policy != "Always" and (found := await self._look(image)) is not None:
            tell(
                "Pulled",
                f'Container image "{image}" already present on machine and can be accessed by the pod',
            )
            return found
        # What a person just put on the disk need not wait for the next look, nor be sought in a registry.
        if policy != "Always" and await self._load_fresh() and (found := await self._look(image)) is not None:
            return found
        if policy == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            raise ImageMissing("ErrImageNeverPull", message, retry_after=10.0)
        clock, asked = asyncio.get_running_loop().time, asyncio.get_running_loop().time()
        async with self._lock:
            if policy != "Always" and (found := await self._look(image)) is not None:
                return found
            begun = clock()
            tell("Pulling", f'Pulling image "{image}"')
            await self._pull(image, tuple(logins))
        info, took, all_in_all = await self._images.inspect(image), clock() - begun, clock() - asked
        spent = f"in {_duration(took)} ({_duration(all_in_all)} including waiting)"
        tell("Pulled", f'Successfully pulled image "{image}" {spent}. Image size: {info.size} bytes.')
        return info

    async def warm(self, container: core_v1.Container) -> None:
        """Look at an image that will be wanted at once; raises nothing but cancellation."""
        if pull_policy(container) == "Always" or flaw(container.image):
            return
        with contextlib.suppress(RuntimeFailure):
            info = await self._images.inspect(container.image)
            self._seen[container.image] = (asyncio.get_running_loop().time(), info)

    async def _look(self, image: str) -> ImageInfo | None:
        at, seen = self._seen.pop(image, (0.0, None))
        if seen is not None and asyncio.get_running_loop().time() - at < WARM:
            return seen
        try:
            return await self._images.inspect(image)
        except NoSuchImage:
            return None

    async def _pull(self, image: str, logins: tuple[Credentials, ...]) -> None:
        error: PullFailed | None = None
        for login in (*logins, None):
            try:
                identity = await self._images.pull(image, login)
            except PullFailed as failure:
                error = failure
            else:
                self._pulled(identity)
                self._backoff.forget(image)
                return
        assert error is not None
        raise ImageMissing("ErrImagePull", str(error), retry_after=self._backoff.next(image)) from error

    async def watch_archives(self, folder: Path, loaded: Callable[[], None]) -> None:
        """Load archives in `folder` now and when new ones appear; `loaded()` is called afterwards."""
        self._folder = folder
        while True:
            if await self._load_fresh():
                loaded()
            self.archives_loaded.set()
            await asyncio.sleep(LOOK_PERIOD)

    async def _load_fresh(self) -> int:
        """Load what is new in the folder and return how many archives that were."""
        if self._folder is None:
            return 0
        async with self._loading:
            paths = await asyncio.to_thread(self._fresh, self._folder)
            for path in paths:
                await self._load(path)
        return len(paths)

    def _fresh(self, folder: Path) -> list[Path]:
        """Return archives that are new or changed since they were loaded."""
        found: list[Path] = []
        for pattern in ARCHIVES:
            for path in sorted(folder.glob(pattern)):
                try:
                    about = path.stat()
                except OSError:
                    continue
                mark = (about.st_mtime_ns, about.st_size)
                if self._loaded.get(path) != mark:
                    self._loaded[path] = mark
                    found.append(path)
        return found

    async def _load(self, path: Path) -> None:
        try:
            names = await self._images.load(path)
        except RuntimeFailure as error:
            log.warning("image archive %s: %s", path, error)
            self._loaded.pop(path, None)
        else:
            self.preloaded.update(names)
            log.info("image archive %s: %s", path, ", ".join(names))


def _duration(seconds: float) -> str:
    """Return a time as Go writes it, to the millisecond."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"


def logins_for(image: str, secrets: Iterable[core_v1.Secret]) -> list[Credentials]:
    """Return the logins that image pull secrets hold for the image's registry, the most specific first."""
    found: list[tuple[int, Credentials]] = []
    for secret in secrets:
        for registry, login in _registries(secret).items():
            host = registry.removeprefix("https://").removeprefix("http://").rstrip("/")
            if _matches(image, host, registry) and (credentials := _credentials(login)) is not None:
                found.append((len(host), credentials))
    return [credentials for _, credentials in sorted(found, key=lambda pair: -pair[0])]


def _matches(image: str, host: str, registry: str) -> bool:
    first, slash, _ = image.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    if not named:
        return registry.rstrip("/") == DOCKER_HUB.rstrip("/") or host in ("docker.io", "index.docker.io")
    return image == host or image.startswith(host + "/")


def _registries(secret: core_v1.Secret) -> dict[str, dict[str, object]]:
    data = secret_data(secret)
    try:
        if ".dockerconfigjson" in data:
            tree = msgspec.json.decode(data[".dockerconfigjson"]).get("auths", {})
        else:
            tree = msgspec.json.decode(data.get(".dockercfg", b"{}"))
    except (msgspec.DecodeError, AttributeError):
        return {}
    return {str(name): login for name, login in tree.items() if isinstance(login, dict)}


def _credentials(login: dict[str, object]) -> Credentials | None:
    if login.get("username"):
        return Credentials(str(login["username"]), str(login.get("password", "")))
    try:
        user, colon, password = base64.b64decode(str(login.get("auth", ""))).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Credentials(user, password) if colon else None
