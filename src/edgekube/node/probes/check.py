"""One question to a container: exec, HTTP, TCP, gRPC (kubelet's prober and k8s.io/kubernetes/pkg/probe)."""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from edgekube.api.types import core_v1
from edgekube.node.pod.spec import port_number
from edgekube.node.probes import grpc
from edgekube.runtime.base import RuntimeFailure, Sessions

OUTPUT_LIMIT = 10 * 1024
REDIRECT = frozenset((301, 302, 303, 307, 308))
REDIRECTIONS, HEADERS = 10, 100
"""Followed at most, and lines of an answer read at most."""
USER_AGENT = "kube-probe/1.37"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of it; `output` is for people."""

    success: bool
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom to ask: a running container, and the address its pod listens on."""

    container: core_v1.Container
    id: str
    address: str


class Handler(Protocol):
    """The part that probes and lifecycle hooks share."""

    @property
    def exec(self) -> core_v1.ExecAction | None:
        """Run a command."""
        ...

    @property
    def http_get(self) -> core_v1.HTTPGetAction | None:
        """Ask an HTTP server."""
        ...

    @property
    def tcp_socket(self) -> core_v1.TCPSocketAction | None:
        """Connect."""
        ...


async def check(probe: core_v1.Probe, target: Target, sessions: Sessions) -> Answer:
    """Ask once, within the probe's timeout."""
    seconds = float(probe.timeout_seconds or 1)
    try:
        async with asyncio.timeout(seconds):
            if probe.grpc is not None:
                return await _grpc(probe.grpc, target)
            return await ask(probe, target, sessions)
    except TimeoutError:
        return Answer(success=False, output=_late(probe, target, seconds))


async def ask(handler: Handler, target: Target, sessions: Sessions) -> Answer:
    """Run a handler's one action, without a limit in time."""
    if handler.exec is not None:
        return await run_command(handler.exec.command, target.id, sessions)
    if handler.http_get is not None:
        return await _http(handler.http_get, target)
    if handler.tcp_socket is not None:
        return await _tcp(handler.tcp_socket, target)
    return Answer(success=True)


async def run_command(command: tuple[str, ...], container: str, sessions: Sessions) -> Answer:
    """Exec and judge the exit code."""
    output = bytearray()
    try:
        session = await sessions.exec(container, command, stdin=False, tty=False)
        try:
            while (piece := await session.read()) is not None:
                output += piece[1][: OUTPUT_LIMIT - len(output)]
            code = await session.wait()
        finally:
            await session.close()
    except RuntimeFailure as error:
        return Answer(success=False, output=str(error))
    text = output.decode(errors="replace")
    return Answer(
        success=code == 0,
        output=text if code == 0 or text else f"command {' '.join(command)} exited with {code}",
    )


async def _tcp(action: core_v1.TCPSocketAction, target: Target) -> Answer:
    host, port = action.host or target.address, port_number(target.container, action.port)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except (OSError, UnicodeError, OverflowError) as error:
        return Answer(success=False, output=f"dial tcp {host}:{port}: {_reason(error)}")
    writer.close()
    return Answer(success=True)


async def _http(action: core_v1.HTTPGetAction, target: Target) -> Answer:
    """Ask; a redirection is followed on the same host, and elsewhere it is an answer as good as any."""
    url, _ = _url(action, target)
    for _ in range(REDIRECTIONS):
        found = await _get(action, url)
        if isinstance(found, Answer):
            return found
        status, location = found
        if not 200 <= status < 400:
            return Answer(success=False, output=f"HTTP probe failed with statuscode: {status}")
        after = urljoin(url, location)
        if status not in REDIRECT or not location or urlsplit(after).hostname != urlsplit(url).hostname:
            return Answer(success=True)
        url = after
    return Answer(success=False, output=f'Get "{url}": stopped after {REDIRECTIONS} redirects')


async def _get(action: core_v1.HTTPGetAction, url: str) -> tuple[int, str] | Answer:
    """Return the status and where it points to; an Answer when there is none."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        reader, writer = await asyncio.open_connection(
            host, port, ssl=_tls() if parts.scheme == "https" else None
        )
    except (OSError, ValueError, OverflowError) as error:
        return Answer(success=False, output=f'Get "{url}": dial tcp {parts.netloc}: {_reason(error)}')
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    try:
        writer.write(_request(action, path, f"{host}:{port}"))
        await writer.drain()
        line = await reader.readline()
        status = _status(line)
        location = await _location(reader) if status in REDIRECT else ""
    except (OSError, ValueError) as error:
        return Answer(success=False, output=f'Get "{url}": {error}')
    finally:
        writer.close()
    if status is None:
        return Answer(success=False, output=f'Get "{url}": malformed HTTP response {line[:60]!r}')
    return status, location


async def _location(reader: asyncio.StreamReader) -> str:
    """Return the Location header; "" when there is none."""
    for _ in range(HEADERS):
        name, _, value = (await reader.readline()).decode(errors="replace").strip().partition(":")
        if not name:
            break
        if name.lower() == "location":
            return value.strip()
    return ""


def _url(action: core_v1.HTTPGetAction, target: Target) -> tuple[str, str]:
    """Return the URL, and the path in it."""
    host, port = action.host or target.address, port_number(target.container, action.port)
    path = action.path if action.path.startswith("/") else f"/{action.path}"
    return f"{(action.scheme or 'HTTP').lower()}://{host}:{port}{path}", path


def _request(action: core_v1.HTTPGetAction, path: str, host: str) -> bytes:
    headers = {"Host": host, "User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
    own = {header.name.title(): header.value for header in action.http_headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in {**headers, **own}.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _status(line: bytes) -> int | None:
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return None
    return int(words[1])


def _tls() -> ssl.SSLContext:
    """Probes take any certificate, as the kubelet's do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _grpc(action: core_v1.GRPCAction, target: Target) -> Answer:
    host, port = target.address, action.port
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except (OSError, UnicodeError, OverflowError) as error:
        return Answer(success=False, output=f"dial tcp {host}:{port}: {_reason(error)}")
    try:
        status = await grpc.health(
            reader, writer, action.service, authority=f"{host}:{port}", agent=USER_AGENT
        )
    except (grpc.Refused, OSError) as error:
        return Answer(success=False, output=f"error: health rpc failed: {error}")
    finally:
        writer.close()
    if status == grpc.SERVING:
        return Answer(success=True, output="service healthy")
    return Answer(success=False, output=f'service unhealthy (responded with "{status}")')


def _late(probe: core_v1.Probe, target: Target, seconds: float) -> str:
    if probe.exec is not None:
        return f'command timed out: "{" ".join(probe.exec.command)}" timed out after {seconds:g}s'
    if probe.http_get is not None:
        url, _ = _url(probe.http_get, target)
        return f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    if probe.grpc is not None:
        return f"timeout: health rpc did not complete within {probe.timeout_seconds or 1}s"
    action = probe.tcp_socket
    port = port_number(target.container, action.port) if action else 0
    return f"dial tcp {(action.host if action else '') or target.address}:{port}: i/o timeout"


def _reason(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    if isinstance(error, ConnectionRefusedError):
        return "connect: connection refused"
    return f"connect: {os.strerror(error.errno) if error.errno else error}"


Checker = Callable[[core_v1.Probe, Target], Awaitable[Answer]]
