"""The life of containers, over podman's REST API."""

import contextlib
import math
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from edgekube.runtime.base import (
    ContainerEvent,
    ContainerInfo,
    ContainerSpec,
    HalfStarted,
    InvalidSpec,
    Limits,
    NoSuchContainer,
    NoSuchImage,
    Phase,
    RuntimeFailure,
    RuntimeUnavailable,
    Usage,
)
from edgekube.runtime.cgroups import Cgroups
from edgekube.runtime.podman.oom import SIGKILLED, OomTracker
from edgekube.runtime.podman.rest import Call, Refused, Rest
from edgekube.runtime.podman.translate import (
    PHASES,
    create_body,
    event_labels,
    inspected,
    listed,
    update_body,
)

POD_LABEL = "edgekube.io/pod-uid"
ACTIONS = {"create": "created", "start": "started", "died": "died", "oom": "oom", "remove": "removed"}
ENDING = 30.0
"""Seconds after the grace that podman may take to clear up."""

CAP_SYS_RESOURCE = 24
REMOVALS = 3
"""How often a removal is asked for when the container ends by itself meanwhile."""

WALK = 120.0
"""Seconds that measuring layers may take."""


class PodmanContainers:
    """Containers of one podman."""

    def __init__(self, rest: Rest, cgroups: Cgroups, ooms: OomTracker) -> None:
        self._rest = rest
        self._cgroups = cgroups
        self._ooms = ooms
        self._paths: dict[str, str] = {}
        """Cgroup by container id, for those that run."""
        self._handler = ""
        self._floor = _score_floor()
        self._fresh: dict[str, str] = {}
        """Cgroup by id of containers we made and have not started yet: nobody else does."""
        self._told: dict[str, bool] = {}
        """Whether podman itself calls a dead container killed for want of memory."""

    async def create(self, spec: ContainerSpec) -> str:
        """Create; podman pulls nothing here."""
        await self._check_handler(spec.handler)
        spec = _affordable(await self._joining(spec), self._floor)
        try:
            body = create_body(spec)
        except (ValueError, KeyError) as error:
            raise InvalidSpec(str(error)) from error
        try:
            return await self._create(body)
        except Refused as error:
            if "already in use" not in f"{error} {error.cause}":
                _explain(error, spec.image)
            other = await self.inspect(spec.name)
            if other.phase is not Phase.CREATED:
                raise InvalidSpec(str(error)) from error
        await self.remove(other.id)
        try:
            return await self._create(body)
        except Refused as error:
            _explain(error, spec.image)

    async def start(self, container: str) -> None:
        """Start, watching for its death by the out-of-memory killer from the first instruction on."""
        identity, path = container, self._fresh.pop(container, "")
        begun = False
        if not path:
            item = await self._refused(Call("GET", f"/containers/{container}/json"))
            if PHASES.get(item["State"]["Status"]) is Phase.RUNNING:
                return
            identity, path = item["Id"], self._cgroup(item)
            # An agent that died before us may have come this far.
            begun = item["State"]["Status"] == "initialized"
        try:
            if self._ooms.needs_init and not begun:
                await self._post(identity, "init")
            self._paths[identity] = path
            self._ooms.arm(identity, path)
            await self._post(identity, "start")
        except HalfStarted:
            # The OCI runtime knows of a process that podman knows nothing of: nobody else would end it.
            for pid in self._cgroups.processes(path):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise

    async def stop(self, container: str, *, grace: float) -> None:
        """Stop; podman counts whole seconds, so a fraction of one becomes one."""
        seconds = math.ceil(grace)
        info = await self.inspect(container)
        if info.phase not in {Phase.RUNNING, Phase.PAUSED}:
            return
        self._ooms.stopping(info.id)
        await self._post(info.id, "stop", query={"timeout": seconds}, patience=seconds + ENDING)

    async def remove(self, container: str) -> None:
        """Remove with its anonymous volumes."""
        query = {"force": "true", "v": "true", "timeout": "0", "ignore": "true"}
        call = Call("DELETE", f"/containers/{container}", query)
        for left in reversed(range(REMOVALS)):
            try:
                await self._rest.json(call, patience=ENDING)
                break
            except Refused as error:
                if error.status == 404:
                    break
                # It ended between podman's look and podman's signal: the next look finds it ended.
                if error.cause != "container state improper" or not left:
                    raise
        self._forget(container)

    async def update(self, container: str, limits: Limits) -> None:
        """Let the OCI runtime write the cgroup; podman itself remembers nothing of it."""
        try:
            await self._rest.send(Call("POST", f"/containers/{container}/update", body=update_body(limits)))
        except Refused as error:
            _explain(error, container)

    async def list(self) -> Sequence[ContainerInfo]:
        """Return those with a pod's label, by one call."""
        filters = msgspec.json.encode({"label": [POD_LABEL]}).decode()
        call = Call("GET", "/containers/json", {"all": "true", "filters": filters})
        items: Sequence[dict[str, Any]] = await self._refused(call) or ()
        found = [await self._info(item) for item in items]
        self._prune({info.id for info in found if info.phase is Phase.RUNNING})
        return found

    async def inspect(self, container: str) -> ContainerInfo:
        """Return one."""
        item = await self._refused(Call("GET", f"/containers/{container}/json"))
        info = inspected(item, oom_killed=False)
        if info.phase is Phase.EXITED and await self._ooms.killed(info.id, info.exit_code):
            info = inspected(item, oom_killed=True)
        return info

    async def events(self) -> AsyncIterator[ContainerEvent]:
        """Yield what podman tells; "oom" is said before the "died" it caused."""
        filters = msgspec.json.encode({"type": ["container"]}).decode()
        call = Call("GET", "/events", {"stream": "true", "filters": filters})
        async for line in self._rest.lines(call):
            item = msgspec.json.decode(line)
            action = ACTIONS.get(item.get("Action", ""))
            if action is None:
                continue
            container = item["Actor"]["ID"]
            attributes = item["Actor"]["Attributes"]
            labels = event_labels(attributes)
            code = int(attributes.get("containerExitCode") or 0)
            if action == "died" and await self._ooms.killed(container, code):
                yield ContainerEvent(container, "oom", labels)
            if action == "removed":
                self._forget(container)
            yield ContainerEvent(container, action, labels)
        raise RuntimeUnavailable("podman ended its event stream")

    async def usage(self) -> Sequence[Usage]:
        """Read the cgroups' own files."""
        running = [info for info in await self.list() if info.phase is Phase.RUNNING]
        found = [(info.id, await self._path(info.id)) for info in running]
        return [u for i, path in found if path and (u := self._cgroups.usage(i, path)) is not None]

    async def sizes(self) -> Mapping[str, int]:
        """Return the sizes of the containers' own layers; podman walks them."""
        filters = msgspec.json.encode({"label": [POD_LABEL]}).decode()
        call = Call("GET", "/containers/json", {"all": "true", "size": "true", "filters": filters})
        items: Sequence[dict[str, Any]] = await self._refused(call, patience=WALK) or ()
        return {item["Id"]: int((item.get("Size") or {}).get("rwSize") or 0) for item in items}

    async def _check_handler(self, handler: str) -> None:
        """Refuse any OCI runtime but podman's own: its API cannot choose another for one container."""
        if not handler:
            return
        if not self._handler:
            about = await self._refused(Call("GET", "/info"))
            self._handler = about["host"]["ociRuntime"]["name"]
        if handler != self._handler:
            raise InvalidSpec(f'no runtime for "{handler}" is configured')

    async def _joining(self, spec: ContainerSpec) -> ContainerSpec:
        """Return the spec with the namespaces of other containers as paths; raises InvalidSpec when they do not run."""
        pid, ipc = await self._namespace(spec.pid_of, "pid"), await self._namespace(spec.ipc_of, "ipc")
        return spec if (pid, ipc) == (spec.pid_of, spec.ipc_of) else replace(spec, pid_of=pid, ipc_of=ipc)

    async def _namespace(self, other: str, kind: str) -> str:
        """Return the path of a container's namespace; "" and "host" as they are."""
        if other in {"", "host"}:
            return other
        info = await self.inspect(other)
        if not info.pid:
            raise InvalidSpec(f"container {other}, whose {kind} namespace is wanted, does not run")
        return f"/proc/{info.pid}/ns/{kind}"

    async def _create(self, body: dict[str, Any]) -> str:
        answer = await self._rest.json(Call("POST", "/containers/create", body=body), patience=ENDING)
        identity = str(answer["Id"])
        self._fresh[identity] = _path(str(body.get("cgroup_parent", "")), identity)
        return identity

    async def _info(self, item: dict[str, Any]) -> ContainerInfo:
        info = listed(item, oom_killed=False)
        if info.phase is Phase.RUNNING and not self._ooms.watches(info.id):
            # Found running after our own restart: watch it from now on.
            path = await self._path(info.id)
            if path:
                self._ooms.arm(info.id, path)
        if info.phase is Phase.EXITED and await self._killed(info):
            info = listed(item, oom_killed=True)
        return info

    async def _killed(self, info: ContainerInfo) -> bool:
        if await self._ooms.killed(info.id, info.exit_code):
            return True
        if info.exit_code != SIGKILLED:
            return False
        if info.id not in self._told:
            try:
                self._told[info.id] = (await self.inspect(info.id)).oom_killed
            except NoSuchContainer:
                return False
        return self._told[info.id]

    async def _path(self, container: str) -> str:
        """Return the cgroup of a container that runs or is initialised; "" when it is neither any more."""
        if container not in self._paths:
            try:
                item = await self._refused(Call("GET", f"/containers/{container}/json"))
            except NoSuchContainer:
                return ""
            return self._cgroup(item)
        return self._paths[container]

    def _cgroup(self, item: dict[str, Any]) -> str:
        # Podman tells the path of running containers only; before, it follows from the parent's.
        path = str(item["State"].get("CgroupPath") or _path(item["HostConfig"]["CgroupParent"], item["Id"]))
        self._paths[item["Id"]] = path
        return path

    async def _post(
        self,
        container: str,
        verb: str,
        *,
        query: dict[str, str | int] | None = None,
        patience: float = ENDING,
    ) -> None:
        try:
            await self._rest.send(Call("POST", f"/containers/{container}/{verb}", query), patience=patience)
        except Refused as error:
            _explain(error, container)

    async def _refused(self, call: Call, *, patience: float = 0.0) -> Any:
        try:
            return await self._rest.json(call, patience=patience)
        except Refused as error:
            _explain(error, call.path)

    def _prune(self, running: set[str]) -> None:
        for container in [container for container in self._paths if container not in running]:
            del self._paths[container]

    def _forget(self, container: str) -> None:
        self._paths.pop(container, None)
        self._fresh.pop(container, None)
        self._told.pop(container, None)
        self._ooms.forget(container)


def _affordable(spec: ContainerSpec, floor: int) -> ContainerSpec:
    """Raise an OOM score that we may not give."""
    wish = spec.limits.oom_score_adj
    if wish is None or wish >= floor:
        return spec
    return replace(spec, limits=replace(spec.limits, oom_score_adj=floor))


def _score_floor() -> int:
    """Return the lowest OOM score we may give: without CAP_SYS_RESOURCE none below our own (proc(5))."""
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.partition("CapEff:")[2].split()[0], 16)
    if capabilities >> CAP_SYS_RESOURCE & 1:
        return -1000
    return int(Path("/proc/self/oom_score_adj").read_text())


def _path(parent: str, container: str) -> str:
    return f"{parent or '/libpod_parent'}/libpod-{container}"


def _explain(error: Refused, what: str) -> NoReturn:
    """Raise the port's error for podman's."""
    text = f"{error} {error.cause}"
    if "no such container" in text or "no container with" in text:
        raise NoSuchContainer(f"no container {what}") from error
    if "already exists: OCI runtime error" in text:
        raise HalfStarted(str(error)) from error
    if "image not known" in text or "no such image" in text:
        raise NoSuchImage(str(error)) from error
    if error.status in {400, 500} and what and "internal libpod" not in text:
        raise InvalidSpec(str(error)) from error
    raise RuntimeFailure(str(error)) from error
