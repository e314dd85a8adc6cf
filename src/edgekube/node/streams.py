"""Serving exec, attach, logs and port-forward over a stream's frames (kubelet's server/remotecommand)."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

import msgspec

from edgekube.api.errors import BadRequest, NotFound, StatusError
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1
from edgekube.node import labels
from edgekube.node.aio import drop
from edgekube.node.clock import parse_stamp
from edgekube.node.folders import PodFolder
from edgekube.node.host import Host
from edgekube.node.log.files import logged
from edgekube.node.log.read import LogOptions, read_log
from edgekube.node.manifest import is_mirror
from edgekube.node.netns import connect_in
from edgekube.node.pod.spec import container_named, every_container
from edgekube.runtime.base import ContainerInfo, Phase, RuntimeFailure, Session
from edgekube.transport.base import ERROR, RESIZE, STDIN, STDOUT, Stream, StreamClosed, StreamRequest

SUCCESS: dict[str, object] = {"metadata": {}, "status": "Success"}
BLOCK = 32 * 1024


class _Size(msgspec.Struct, frozen=True):
    width: int = msgspec.field(name="Width")
    height: int = msgspec.field(name="Height")


def exit_status(code: int) -> dict[str, object]:
    """Return the Status that tells a client a command's exit code."""
    if code == 0:
        return SUCCESS
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


class Streams:
    """The node's side of streams."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._kinds: dict[str, Callable[[StreamRequest, Stream, core_v1.Pod], Awaitable[None]]] = {
            "exec": self._exec,
            "attach": self._attach,
            "logs": self._logs,
            "log": self._logs,
            "portforward": self._forward,
        }

    async def serve(self, request: StreamRequest, stream: Stream) -> None:
        """Serve one stream to its end; a StatusError goes to the other side as a Status on ERROR."""
        try:
            kind = self._kinds.get(request.kind)
            if kind is None:
                raise BadRequest(f"unknown stream {request.kind}")
            await kind(request, stream, self._pod(request))
        except StatusError as error:
            await stream.send(ERROR, msgspec.json.encode(error.tree()))
        except RuntimeFailure as error:
            await stream.send(ERROR, msgspec.json.encode(StatusError(str(error)).tree()))
        await stream.close()

    # --- finding ---

    def _pod(self, request: StreamRequest) -> core_v1.Pod:
        pod = self._host.mirror.pods.get(Key(request.namespace, request.pod))
        if pod is None or (request.uid and pod.metadata.uid != request.uid):
            raise NotFound(f'pods "{request.pod}" not found', kind="pods", name=request.pod)
        if is_mirror(pod):
            return self._host.static_pod(key_of(pod)) or pod
        return pod

    def _name(self, request: StreamRequest, pod: core_v1.Pod) -> str:
        name = request.container or pod.spec.containers[0].name
        if container_named(pod, name) is None:
            known = ", ".join(container.name for container in every_container(pod))
            raise BadRequest(f"container {name} is not valid for pod {request.pod}; it has {known}")
        return name

    def _attempts(self, pod: core_v1.Pod, name: str) -> list[ContainerInfo]:
        infos = self._host.containers.of_pod(pod.metadata.uid)
        own = [info for info in infos if info.labels.get(labels.CONTAINER_NAME) == name]
        return sorted(own, key=lambda info: labels.attempt_of(info.labels), reverse=True)

    def _running(self, request: StreamRequest, pod: core_v1.Pod) -> tuple[str, core_v1.Container]:
        name = self._name(request, pod)
        for info in self._attempts(pod, name):
            if info.phase is Phase.RUNNING:
                container = container_named(pod, name)
                assert container is not None
                return info.id, container
        raise BadRequest(f'container not found ("{name}"): it is not running')

    # --- exec and attach ---

    async def _exec(self, request: StreamRequest, stream: Stream, pod: core_v1.Pod) -> None:
        identity, _ = self._running(request, pod)
        sessions = self._host.runtime.sessions
        session = await sessions.exec(identity, request.command, stdin=request.stdin, tty=request.tty)
        code = await _carry(session, stream, request)
        await stream.send(ERROR, msgspec.json.encode(exit_status(code)))

    async def _attach(self, request: StreamRequest, stream: Stream, pod: core_v1.Pod) -> None:
        identity, container = self._running(request, pod)
        stdin = request.stdin and bool(container.stdin)
        session = await self._host.runtime.sessions.attach(identity, stdin=stdin, tty=bool(container.tty))
        code = await _carry(session, stream, request)
        await stream.send(ERROR, msgspec.json.encode(exit_status(code)))

    # --- logs ---

    async def _logs(self, request: StreamRequest, stream: Stream, pod: core_v1.Pod) -> None:
        name = self._name(request, pod)
        attempt = self._attempt(request, pod, name)
        path = PodFolder.of(self._host.config.pods_dir, pod).log(name, attempt)
        since = parse_stamp(request.since_time)
        if request.since_seconds is not None:
            since = self._host.clock() - request.since_seconds
        options = LogOptions(
            follow=request.follow and not request.previous,
            timestamps=request.timestamps,
            tail_lines=request.tail_lines,
            since=since,
            limit_bytes=request.limit_bytes,
        )
        lines = read_log(path, options, lambda: self._ended(pod, name, attempt))
        await _while_open(stream, _send_lines(stream, lines))

    def _attempt(self, request: StreamRequest, pod: core_v1.Pod, name: str) -> int:
        begun = [info for info in self._attempts(pod, name) if info.phase is not Phase.CREATED]
        if request.previous:
            if len(begun) < 2 and not (
                begun and begun[0].phase is Phase.EXITED and labels.attempt_of(begun[0].labels)
            ):
                raise BadRequest(f'previous terminated container "{name}" in pod "{request.pod}" not found')
            return (
                labels.attempt_of(begun[1].labels)
                if len(begun) > 1
                else labels.attempt_of(begun[0].labels) - 1
            )
        if not begun and (known := logged(PodFolder.of(self._host.config.pods_dir, pod).root / name)):
            return known[-1]  # Its container was removed to make room.
        if not begun:
            raise BadRequest(
                f'container "{name}" in pod "{request.pod}" is waiting to start: {self._why(pod, name)}'
            )
        return labels.attempt_of(begun[0].labels)

    def _why(self, pod: core_v1.Pod, name: str) -> str:
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
            if status.name == name and status.state and status.state.waiting:
                return status.state.waiting.reason or "ContainerCreating"
        return "ContainerCreating"

    def _ended(self, pod: core_v1.Pod, name: str, attempt: int) -> bool:
        for info in self._attempts(pod, name):
            if labels.attempt_of(info.labels) == attempt:
                return info.phase is not Phase.RUNNING
        return True

    # --- port-forward ---

    async def _forward(self, request: StreamRequest, stream: Stream, pod: core_v1.Pod) -> None:
        netns = await self._netns(pod)
        try:
            reader, writer = await connect_in(netns, "127.0.0.1", request.port)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise StatusError(
                f"failed to connect to localhost:{request.port} inside namespace: {why}"
            ) from error
        try:
            async with asyncio.TaskGroup() as group:
                incoming = group.create_task(_to_socket(stream, writer))
                while data := await reader.read(BLOCK):
                    await stream.send(STDOUT, data)
                await stream.send(STDOUT, b"")
                if not writer.is_closing():
                    incoming.cancel()
        finally:
            writer.close()

    async def _netns(self, pod: core_v1.Pod) -> str:
        if pod.spec.host_network:
            return ""
        network = self._host.network
        found = () if network is None else await network.list()
        for attachment in found:
            if attachment.uid == pod.metadata.uid:
                return attachment.netns
        raise BadRequest(f"pod {pod.metadata.name} has no network")


async def _send_lines(stream: Stream, lines: AsyncIterator[tuple[int, bytes]]) -> None:
    """Send log lines, several to a frame where they are there at once."""
    async for _, data in lines:
        for start in range(0, len(data), BLOCK):
            await stream.send(STDOUT, data[start : start + BLOCK])


async def _to_socket(stream: Stream, writer: asyncio.StreamWriter) -> None:
    while (frame := await stream.receive()) is not None:
        channel, data = frame
        if channel != STDIN:
            continue
        if not data:
            if writer.can_write_eof():
                writer.write_eof()
            continue
        writer.write(data)
        await writer.drain()
    writer.close()


async def _carry(session: Session, stream: Stream, request: StreamRequest) -> int:
    """Carry frames both ways until the process's output ends; return its exit code."""
    incoming = asyncio.ensure_future(_to_session(session, stream))
    outgoing = asyncio.ensure_future(_from_session(session, stream, request))
    try:
        await asyncio.wait((incoming, outgoing), return_when=asyncio.FIRST_COMPLETED)
        if incoming.done() and not outgoing.done() and incoming.exception() is not None:
            # The client went away.
            outgoing.cancel()
            incoming.result()
        await outgoing
        return await session.wait()
    finally:
        await drop(incoming, outgoing)
        await session.close()


async def _to_session(session: Session, stream: Stream) -> None:
    while (frame := await stream.receive()) is not None:
        channel, data = frame
        if channel == STDIN:
            await session.write(data)
        elif channel == RESIZE and data:
            size = msgspec.json.decode(data, type=_Size)
            await session.resize(size.width, size.height)


async def _from_session(session: Session, stream: Stream, request: StreamRequest) -> None:
    wanted = {1: request.stdout, 2: request.stderr}
    while (piece := await session.read()) is not None:
        channel, data = piece
        if data and wanted.get(channel, True):
            await stream.send(channel, data)


async def _while_open(stream: Stream, work: Coroutine[object, object, None]) -> None:
    """Do `work`, but not beyond the moment at which the other side goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(stream))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        await drop(task, gone)


async def _gone(stream: Stream) -> None:
    with contextlib.suppress(StreamClosed):
        while await stream.receive() is not None:
            pass
