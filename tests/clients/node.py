"""A node that plays one running pod: a log, a command that echoes, one that fails, ports that send back."""

import asyncio
import contextlib
import json

from clients.cluster import tasks_of
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.transport.base import ERROR, STDERR, STDIN, STDOUT, Message
from edgekube.transport.memory import MemoryBroker, MemoryTransport
from edgekube.transport.streams import Acceptor, Gateway
from edgekube.transport.topics import Topics

TOPICS = Topics("c")
POD = """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {nodeName: pi-1, containers: [{name: main, image: localhost/x, stdin: true}]}
"""


async def play(request, stream):
    """Do what a runtime would for one stream."""
    await {"log": _log, "portforward": _echo}.get(request.kind, _run)(request, stream)


async def _log(request, stream):
    await stream.send(STDOUT, b"one\ntwo\n")


async def _echo(request, stream):
    while (frame := await stream.receive()) is not None and frame[1]:
        await stream.send(STDOUT, frame[1])


async def _run(request, stream):
    program, *arguments = request.command or ("attached",)
    code = 0
    if program == "cat":
        while (frame := await stream.receive()) is not None and (frame[0] != STDIN or frame[1]):
            if frame[0] == STDIN:
                await stream.send(STDOUT, frame[1])
    elif program == "fail":
        await stream.send(STDERR, b"sorry\n")
        code = 3
    else:
        await stream.send(STDOUT, " ".join((program, *arguments)).encode() + b"\n")
    await stream.send(ERROR, json.dumps(_ended(code)).encode())


def _ended(code):
    if not code:
        return {"metadata": {}, "status": "Success"}
    causes = [{"reason": "ExitCode", "message": str(code)}]
    message = f"command terminated with exit code {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "details": {"causes": causes},
        "message": message,
    }


@contextlib.asynccontextmanager
async def connected():
    """Yield the API server's gateway to the node `pi-1`."""
    broker = MemoryBroker()
    hub = MemoryTransport(broker, client_id="hub")
    node = MemoryTransport(broker, client_id="pi-1", will=Message(TOPICS.gone("pi-1"), b""))
    gateway = Gateway(hub, TOPICS)
    async with tasks_of(hub.run(), node.run(), gateway.run(), Acceptor(node, TOPICS, "pi-1", play).run()):
        yield gateway


async def start_pod(cluster):
    """Create the pod as running."""
    await cluster.kubectl("create", "serviceaccount", "default")
    await cluster.kubectl("create", "-f", "-", stdin=POD)
    status = {
        "phase": "Running",
        "conditions": [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")],
        "containerStatuses": [{
            "name": "main", "ready": True, "restartCount": 0, "image": "x", "imageID": "",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }],
    }  # fmt: skip
    await cluster.client.patch(core.PODS, Key("default", "p"), {"status": status}, subresource="status")
    await asyncio.sleep(0)
