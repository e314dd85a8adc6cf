"""`edgekube logs` and `edgekube exec`: streams through the API server to the node."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec

from edgekube.api.errors import from_tree
from edgekube.cli.session import Session, UsageError, open_session
from edgekube.client.base import Unreachable
from edgekube.client.https import error_of

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
"""Channels of v5.channel.k8s.io (KEP-4006)."""


def add_logs(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `logs`."""
    parser.add_argument("pod", metavar="POD | TYPE/NAME")
    parser.add_argument("-c", "--container", default="")
    parser.add_argument("-f", "--follow", action="store_true", help="stay and print what comes")
    parser.add_argument(
        "-p", "--previous", action="store_true", help="of the instance before the last restart"
    )
    parser.add_argument("--tail", type=int, default=-1, metavar="LINES")
    parser.add_argument("--since", default="", metavar="DURATION", help="e.g. 90s, 5m, 2h")
    parser.add_argument("--timestamps", action="store_true")


def add_exec(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `exec`."""
    parser.add_argument("pod", metavar="POD | TYPE/NAME")
    parser.add_argument("-c", "--container", default="")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass standard input")
    parser.add_argument("-t", "--tty", action="store_true", help="with a terminal")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")


async def pod_of(session: Session, word: str) -> str:
    """Return a pod's name for `pod`, `pod/x`, `deployment/x`, `service/x` …: the first its selector finds."""
    if "/" not in word:
        return word
    (target,) = await session.targets([word])
    if target.resource.kind == "Pod":
        return target.name
    spec = (await session.get(session.path(target))).get("spec", {})
    selector: Any = spec.get("selector") or {}
    labels = selector.get("matchLabels", selector) if isinstance(selector, dict) else {}
    if not labels:
        raise UsageError(f"{word} selects no pods")
    pods = await session.resolve("pods")
    query = ",".join(f"{name}={value}" for name, value in labels.items())
    items = (await session.get(pods.path(session.namespace), labelSelector=query))["items"]
    if not items:
        raise UsageError(f"{word} has no pods")
    return str(items[0]["metadata"]["name"])


UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(duration: str) -> int:
    """Return the seconds of Go-like durations such as 90s, 5m or 1h30m."""
    total, number = 0, ""
    for char in duration:
        if char.isdigit():
            number += char
        elif char in UNITS and number:
            total, number = total + int(number) * UNITS[char], ""
        else:
            raise UsageError(f"{duration!r} is no duration; 90s, 5m and 1h30m are")
    if number:
        raise UsageError(f"{duration!r} needs a unit: s, m or h")
    return total


async def run_logs(options: argparse.Namespace) -> int:
    """Print a container's log."""
    async with open_session(options) as session:
        name = await pod_of(session, options.pod)
        pairs = {
            "container": options.container,
            "follow": "true" if options.follow else "",
            "previous": "true" if options.previous else "",
            "timestamps": "true" if options.timestamps else "",
            "tailLines": str(options.tail) if options.tail >= 0 else "",
            "sinceSeconds": str(seconds_of(options.since)) if options.since else "",
        }
        pods = await session.resolve("pods")
        url = session.carrier.access.server + pods.path(session.namespace, name, "log")
        query = {key: value for key, value in pairs.items() if value}
        unlimited = aiohttp.ClientTimeout(total=None, connect=10)
        try:
            async with session.carrier.session.get(url, params=query, timeout=unlimited) as answer:
                if answer.status >= 400:
                    raise error_of(answer.status, await answer.read())
                async for chunk in answer.content.iter_any():
                    sys.stdout.buffer.write(chunk)
                    sys.stdout.buffer.flush()
        except aiohttp.ClientError as error:
            raise Unreachable(str(error)) from error
    return 0


async def run_exec(options: argparse.Namespace) -> int:
    """Run a command in a container; the exit code is the command's."""
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise UsageError("say what to run: edgekube exec POD -- COMMAND …")
    async with open_session(options) as session:
        name = await pod_of(session, options.pod)
        pods = await session.resolve("pods")
        flags = {"stdin": options.stdin, "stdout": True, "stderr": not options.tty, "tty": options.tty}
        query = [(key, "true") for key, value in flags.items() if value]
        query += [("command", word) for word in command]
        query += [("container", options.container)] if options.container else []
        url = session.carrier.access.server + pods.path(session.namespace, name, "exec")
        try:
            async with session.carrier.session.ws_connect(
                url, params=query, protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"), max_msg_size=0
            ) as socket:
                with _raw_terminal(wanted=options.tty and sys.stdin.isatty()):
                    return await _pump(socket, stdin=options.stdin, tty=options.tty)
        except aiohttp.WSServerHandshakeError as error:
            # The handshake's answer has no body here; ask plainly to learn the reason.
            await session.carrier.raw("GET", pods.path(session.namespace, name, "exec"), query)
            raise Unreachable(str(error)) from error
        except aiohttp.ClientError as error:
            raise Unreachable(str(error)) from error


async def _pump(socket: aiohttp.ClientWebSocketResponse, *, stdin: bool, tty: bool) -> int:
    loop = asyncio.get_running_loop()
    code = 0
    async with asyncio.TaskGroup() as group:
        tasks = []
        if stdin:
            tasks.append(group.create_task(_feed(socket)))
        if tty and sys.stdout.isatty():
            resized = asyncio.Event()
            resized.set()
            loop.add_signal_handler(signal.SIGWINCH, resized.set)
            tasks.append(group.create_task(_resize(socket, resized)))
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == ERROR:
                code = _exit_code(data)
            elif channel in {STDOUT, STDERR}:
                out = sys.stdout.buffer if channel == STDOUT else sys.stderr.buffer
                out.write(data)
                out.flush()
        for task in tasks:
            task.cancel()
    return code


async def _feed(socket: aiohttp.ClientWebSocketResponse) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    descriptor = sys.stdin.fileno()
    loop.add_reader(descriptor, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            data = os.read(descriptor, 32768)
            if not data:
                if socket.protocol == "v5.channel.k8s.io":
                    await socket.send_bytes(bytes((CLOSE, STDIN)))
                return
            await socket.send_bytes(bytes((STDIN,)) + data)
    finally:
        loop.remove_reader(descriptor)


async def _resize(socket: aiohttp.ClientWebSocketResponse, resized: asyncio.Event) -> None:
    while True:
        await resized.wait()
        resized.clear()
        size = os.get_terminal_size(sys.stdout.fileno())
        body = msgspec.json.encode({"Width": size.columns, "Height": size.lines})
        await socket.send_bytes(bytes((RESIZE,)) + body)


def _exit_code(data: bytes) -> int:
    status = msgspec.json.decode(data)
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes", ()):
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise from_tree(status)


@contextlib.contextmanager
def _raw_terminal(*, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
