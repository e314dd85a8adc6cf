"""One fake pod behind serve_stream: a real HTTP server, a real gateway over a broker in memory, a node that plays."""

import asyncio
import io
import json
import sys
import tarfile
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from edgekube.api.errors import NotFound, StatusError
from edgekube.api.types import core_v1
from edgekube.apiserver.streams import serve_stream
from edgekube.transport.base import ERROR, RESIZE, STDERR, STDIN, STDOUT, Message
from edgekube.transport.memory import MemoryBroker, MemoryTransport
from edgekube.transport.streams import Acceptor, Gateway
from edgekube.transport.topics import Topics

WAIT = 30
TOPICS = Topics("c")
KUBECTL = Path(sys.executable).with_name("kubectl")
PODS = "/api/v1/namespaces/default/pods/"
POD = {
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": "p", "namespace": "default", "uid": "u-1"},
    "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "x", "stdin": True, "tty": True}]},
    "status": {"phase": "Running", "containerStatuses": [{
        "name": "main", "ready": True, "restartCount": 0, "image": "x", "imageID": "", "state": {"running": {}},
    }]},
}  # fmt: skip
VERBS = ["create", "get", "list"]
DISCOVERY = {
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [
        {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": VERBS},
    ]},
}  # fmt: skip


class Machine:
    """The node's side: what a runtime would do, played."""

    def __init__(self):
        self.requests, self.files, self.sizes = [], {}, asyncio.Queue()
        self.connections = 0
        self.most = 0
        self.go_on = asyncio.Event()

    async def __call__(self, request, stream):
        self.requests.append(request)
        await {"log": self.log, "portforward": self.forward}.get(request.kind, self.run)(request, stream)

    async def log(self, request, stream):
        if request.previous:
            raise ValueError('previous terminated container "main" in pod "p" not found')
        await stream.send(STDOUT, b"one\ntwo\n")
        if request.follow:
            await self.go_on.wait()
            await stream.send(STDOUT, b"three\n")

    async def forward(self, request, stream):
        if request.port == 81:
            raise ValueError("connection refused")
        self.connections += 1
        self.most = max(self.most, self.connections)
        try:
            while (frame := await stream.receive()) is not None and frame[1]:
                await stream.send(STDOUT, frame[1])
        finally:
            self.connections -= 1

    async def run(self, request, stream):
        program, *arguments = request.command or ("attached",)
        await getattr(self, f"do_{program.replace('-', '_')}")(arguments, stream)

    async def do_cat(self, _arguments, stream):
        while (frame := await stream.receive()) is not None:
            if frame[0] == STDIN:
                if not frame[1]:
                    break
                await stream.send(STDOUT, frame[1])
        await self.exit(stream, 0)

    async def do_fail(self, arguments, stream):
        await stream.send(STDERR, b"sorry\n")
        await self.exit(stream, int(arguments[0]))

    async def do_terminal(self, _arguments, stream):
        while (frame := await stream.receive()) is not None:
            if frame[0] == RESIZE:
                size = json.loads(frame[1])
                self.sizes.put_nowait((size["Width"], size["Height"]))
            elif b"\x04" in frame[1] or b"q" in frame[1]:
                break
        await self.exit(stream, 0)

    async def do_attached(self, _arguments, stream):
        await stream.send(STDOUT, b"attached\n")
        await self.exit(stream, 0)

    async def do_tar(self, arguments, stream):
        if "x" in arguments[0]:
            data = b""
            while (frame := await stream.receive()) is not None and frame[1]:
                data += frame[1]
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                self.files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}
        else:
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as archive:
                info = tarfile.TarInfo("data/file")
                info.size = 3 << 20
                archive.addfile(info, io.BytesIO(b"z" * info.size))
            await stream.send(STDOUT, buffer.getvalue())
        await self.exit(stream, 0)

    async def do_test(self, _arguments, stream):
        await self.exit(stream, 1)

    @staticmethod
    async def exit(stream, code):
        status = {"metadata": {}, "status": "Success"}
        if code:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            status |= {
                "status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes},
                "message": f"command terminated with exit code {code}",
            }  # fmt: skip
        await stream.send(ERROR, json.dumps(status).encode())


class Cluster:
    def __init__(self, tmp_path):
        self.machine, self.tmp_path = Machine(), tmp_path
        self.pod = POD
        self.environment = {}
        """More for kubectl."""
        self.upgrades = []
        """What requests asked to change the connection to."""

    async def serve(self, request):
        if request.path in DISCOVERY:
            return web.json_response(DISCOVERY[request.path])
        if "Upgrade" in request.headers:
            self.upgrades.append(request.headers["Upgrade"])
        name, _, kind = request.path.removeprefix(PODS).partition("/")
        try:
            if name != "p":
                raise NotFound("no such page")
            if not kind:
                return web.json_response(self.pod)
            pod = msgspec.convert(self.pod, core_v1.Pod)
            return await serve_stream(request, kind=kind, pod=pod, gateway=self.gateway)
        except StatusError as error:
            return web.json_response(error.tree(), status=error.code)

    @asynccontextmanager
    async def running(self):
        broker = MemoryBroker()
        hub = MemoryTransport(broker, client_id="hub")
        node = MemoryTransport(broker, client_id="n1", will=Message(TOPICS.gone("n1"), b""))
        self.broker = broker
        self.gateway = Gateway(hub, TOPICS)
        self.acceptor = Acceptor(node, TOPICS, "n1", self.machine)
        parts = (hub, node, self.gateway, self.acceptor)
        tasks = [asyncio.create_task(part.run()) for part in parts]
        runner = web.ServerRunner(web.Server(self.serve))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        try:
            yield self
        finally:
            await runner.cleanup()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def start(self, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE):
        environment = {"HOME": str(self.tmp_path), "PATH": "/usr/bin:/bin", **self.environment}
        return await asyncio.create_subprocess_exec(
            KUBECTL, f"--server={self.url}", *arguments, stdin=stdin, stdout=stdout,
            stderr=asyncio.subprocess.PIPE, env=environment, cwd=self.tmp_path,
        )  # fmt: skip

    async def kubectl(self, *arguments, stdin=b""):
        process = await self.start(*arguments, stdin=asyncio.subprocess.PIPE)
        out, err = await asyncio.wait_for(process.communicate(stdin), WAIT)
        return process.returncode, out, err.decode()


@pytest.fixture
async def cluster(tmp_path):
    async with Cluster(tmp_path).running() as made:
        yield made
