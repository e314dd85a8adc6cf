"""`edgekube ingress`: the ingress controller of one node, with the HAProxy it drives."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import ssl
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass, replace
from pathlib import Path

from edgekube.app.children import die_with_parent
from edgekube.client.https import HttpsCarrier
from edgekube.client.kubeconfig import Access
from edgekube.client.typed import Client
from edgekube.control.informer import Informers
from edgekube.ingress.controller import IngressController
from edgekube.ingress.haproxy import ProxyOptions, certificate_list, render
from edgekube.ingress.plan import Table
from edgekube.lib.errors import EdgekubeError
from edgekube.lib.files import write_atomic

log = logging.getLogger(__name__)

PROGRAM = "haproxy"
RESTART = 2.0
"""Seconds until a proxy that died is started again."""


class IngressFailed(EdgekubeError):
    """HAProxy is missing or does not take its configuration; `str()` says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressOptions:
    """Options of `edgekube ingress`."""

    access: Access
    addresses: tuple[str, ...]
    """Published in the Ingresses' status."""
    proxy: ProxyOptions


def run(options: IngressOptions) -> int:
    """Serve until SIGTERM or SIGINT."""
    if shutil.which(PROGRAM) is None:
        raise IngressFailed("haproxy is not installed: apt install haproxy")
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(serve(options))
    return 0


async def serve(options: IngressOptions) -> None:
    """Compose and run."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with HttpsCarrier(options.access) as carrier:
        client = Client(carrier)
        informers = Informers(client)
        proxy = HaProxy(options.proxy)
        controller = IngressController(client, informers, proxy, addresses=options.addresses, clock=time.time)
        async with asyncio.TaskGroup() as group:
            group.create_task(informers.run(), name="informers")
            group.create_task(controller.run(), name="controller")
            group.create_task(proxy.run(), name="haproxy")


class HaProxy:
    """One HAProxy master with its workers; a new table is a reload, which drops no connection."""

    def __init__(self, options: ProxyOptions) -> None:
        self._options = options
        self._configured = asyncio.Event()
        self._process: Process | None = None

    async def run(self) -> None:
        """Run it once there is a configuration, again when it dies; until cancelled."""
        await self._configured.wait()
        while True:
            self._process = await asyncio.create_subprocess_exec(
                PROGRAM, "-W", "-f", str(self._config), stdin=DEVNULL, preexec_fn=die_with_parent(os.getpid()),
            )  # fmt: skip
            try:
                code = await self._process.wait()
            finally:
                if self._process.returncode is None:
                    self._process.terminate()
                    await self._process.wait()
            log.error("haproxy ended with %d", code)
            await asyncio.sleep(RESTART)

    async def serve(self, table: Table) -> None:
        """Write the configuration, check it and have it taken up; a certificate that is none is left out."""
        await asyncio.to_thread(self._write, table)
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "-c", "-q", "-f", str(self._config), stdout=PIPE, stderr=PIPE
        )
        out, err = await process.communicate()
        if process.returncode:
            raise IngressFailed((err or out).decode(errors="replace").strip())
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGUSR2)
        self._configured.set()

    @property
    def _config(self) -> Path:
        return self._options.directory / "haproxy.cfg"

    def _write(self, table: Table) -> None:
        """Write all files, without the certificates that are none."""
        folder = self._options.directory / "certificates"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        good = {}
        for name, (pem, hosts) in table.certificates.items():
            path = folder / f"{name}.pem"
            write_atomic(path, pem, mode=0o600)
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
            except ssl.SSLError as error:
                path.unlink()
                log.warning("certificate %s cannot be used: %s", name, error)
                continue
            good[name] = (pem, hosts)
        for path in folder.glob("*.pem"):
            if path.stem not in good:
                path.unlink()
        table = replace(table, certificates=good)
        write_atomic(
            self._options.directory / "certificates.list", certificate_list(table, self._options).encode()
        )
        write_atomic(self._config, render(table, self._options).encode())
