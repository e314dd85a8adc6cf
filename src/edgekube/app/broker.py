"""
The supervised mosquitto: configuration, start, restart, end (mosquitto.conf(5)).

Certificates name who speaks: the hub may use everything below `ek/`, a node only its own topics.
A new node therefore needs no reload. Nothing is persisted: no secret reaches the broker's disk.
"""

import asyncio
import logging
import os
from asyncio.subprocess import DEVNULL, Process
from dataclasses import dataclass
from pathlib import Path

from edgekube.app.children import die_with_parent
from edgekube.lib.backoff import Backoff
from edgekube.lib.errors import EdgekubeError
from edgekube.lib.files import write_atomic

log = logging.getLogger(__name__)

HUB = "hub"
"""Common name of the hub's certificate."""
CALM = 30.0
"""Seconds the broker must live for the back-off to start afresh."""
START_TIMEOUT = 15.0
STOP_TIMEOUT = 5.0
PROBE = 0.05
"""Seconds between two looks whether it accepts."""


class BrokerFailed(EdgekubeError):
    """Mosquitto cannot be run; the message names its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOptions:
    """What mosquitto is told. `bind` is an address, "" for all."""

    directory: Path
    """Holds mosquitto.conf, acl and mosquitto.log."""
    cluster: str
    port: int
    authority: Path
    certificate: Path
    key: Path
    bind: str = ""
    program: str = "mosquitto"


def configuration(options: BrokerOptions) -> str:
    """Return mosquitto.conf."""
    settings = {
        "per_listener_settings": "false",
        "listener": f"{options.port} {options.bind}".strip(),
        "cafile": options.authority,
        "certfile": options.certificate,
        "keyfile": options.key,
        "tls_version": "tlsv1.2",  # The least; 1.3 is used by whoever can.
        "require_certificate": "true",
        "use_identity_as_username": "true",
        "allow_anonymous": "false",
        "acl_file": options.directory / "acl",
        "persistence": "false",
        # Flow control bounds streams to 256 KiB each, and the session layer resyncs what is dropped.
        "max_queued_messages": "10000",
        "max_queued_bytes": str(64 << 20),
        "max_inflight_messages": "100",
        "message_size_limit": str(4 << 20),
        "max_keepalive": "300",
        "set_tcp_nodelay": "true",
        "sys_interval": "0",
        "log_dest": f"file {options.directory / 'mosquitto.log'}",
        "log_type": ("error", "warning", "notice"),
        "connection_messages": "false",
    }
    if os.geteuid() == 0:
        # It would become `mosquitto`, who cannot read our key.
        settings["user"] = "root"
    lines = [
        f"{name} {value}"
        for name, values in settings.items()
        for value in (values if isinstance(values, tuple) else (values,))
    ]
    return "\n".join(lines) + "\n"


def access(cluster: str) -> str:
    """Return the ACL file: `%u` is the certificate's common name."""
    return (
        f"user {HUB}\ntopic readwrite ek/#\n\n"
        f"pattern readwrite ek/{cluster}/n/%u/#\npattern read ek/{cluster}/all/#\n"
    )


class Broker:
    """Keeps one mosquitto running; `up` is set while it accepts connections."""

    name = "broker"

    def __init__(self, options: BrokerOptions) -> None:
        self._options = options
        self._backoff = Backoff[str](first=0.1, limit=30.0)
        self.up = asyncio.Event()
        self.pid = 0
        """Of the running mosquitto; 0 while there is none."""

    def write(self) -> Path:
        """Write the configuration and return its path."""
        folder = self._options.directory
        write_atomic(folder / "acl", access(self._options.cluster).encode())
        path = folder / "mosquitto.conf"
        write_atomic(path, configuration(self._options).encode())
        return path

    async def run(self) -> None:
        """Run mosquitto, again with back-off when it dies; until cancelled."""
        loop = asyncio.get_running_loop()
        path = self.write()
        while True:
            started = loop.time()
            await self._live(path)
            if loop.time() - started >= CALM:
                self._backoff.forget("start")
            await asyncio.sleep(self._backoff.next("start"))

    async def _live(self, path: Path) -> None:
        process = await self._spawn(path)
        self.pid = process.pid
        try:
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(self._watch(), name="broker-accepts")
                code = await process.wait()
                watcher.cancel()
            log.error("mosquitto ended with %d; see %s", code, self._options.directory / "mosquitto.log")
        finally:
            self.up.clear()
            self.pid = 0
            await _end(process)

    async def _spawn(self, path: Path) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                self._options.program, "-c", str(path), stdin=DEVNULL, stdout=DEVNULL, stderr=None,
                preexec_fn=die_with_parent(os.getpid()), start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise BrokerFailed(f"{self._options.program} is not installed: apt install mosquitto") from error

    async def _watch(self) -> None:
        """Set `up` as soon as a connection is accepted."""
        host = self._options.bind or "127.0.0.1"
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        while True:
            try:
                _, writer = await asyncio.open_connection(host, self._options.port)
            except OSError:
                if asyncio.get_running_loop().time() > deadline:
                    log.warning("mosquitto does not accept on %s:%d", host, self._options.port)
                    deadline += START_TIMEOUT
                await asyncio.sleep(PROBE)
                continue
            writer.close()
            self.up.set()
            return


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
