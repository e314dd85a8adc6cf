"""The podman runtime: the port's three faces over one socket."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from edgekube.runtime.base import RuntimeInfo
from edgekube.runtime.cgroups import Cgroups
from edgekube.runtime.podman.containers import PodmanContainers
from edgekube.runtime.podman.images import PodmanImages
from edgekube.runtime.podman.oom import OomTracker
from edgekube.runtime.podman.rest import Call, Rest
from edgekube.runtime.podman.sessions import PodmanSessions


class PodmanRuntime:
    """Speaks to the podman service at `socket`; remembers out-of-memory kills in `state` (best on a tmpfs)."""

    def __init__(
        self,
        socket: Path,
        *,
        state: Path | None = None,
        timeout: float = 30.0,
        insecure: tuple[str, ...] = (),
    ) -> None:
        self._rest = Rest(socket, timeout=timeout)
        self._info: RuntimeInfo | None = None
        cgroups = Cgroups()
        self._ooms = OomTracker(state or socket.parent / "oom", cgroups)
        self.containers = PodmanContainers(self._rest, cgroups, self._ooms)
        self.sessions = PodmanSessions(self._rest)
        self.images = PodmanImages(self._rest, insecure=insecure)

    async def info(self) -> RuntimeInfo:
        """
        Return podman's version.

        Asked anew only when podman was away: to answer, it runs several programs (270 ms), and whether
        it is there can be had for 1 ms.
        """
        if self._info is not None:
            known, self._info = self._info, None
            await self._rest.send(Call("GET", "/_ping"))
            self._info = known
            return known
        version = await self._rest.json(Call("GET", "/info"))
        cgroups = 2 if version["host"]["cgroupVersion"] == "v2" else 1
        self._info = RuntimeInfo("podman", version["version"]["Version"], cgroups)
        return self._info

    async def close(self) -> None:
        """Let go of the descriptors."""
        self._ooms.close()


def open_runtime(url: str) -> PodmanRuntime:
    """Open `podman:///path/to/podman.sock[?state=/folder&timeout=30&insecure=host:port]`."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    state = query.get("state")
    return PodmanRuntime(
        Path(parts.path),
        state=Path(state[0]) if state else None,
        timeout=float(query.get("timeout", ["30"])[0]),
        insecure=tuple(query.get("insecure", ())),
    )
