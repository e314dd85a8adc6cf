"""exec, attach, logs and port-forward over frames."""

import asyncio
import json

import pytest

from edgekube.transport.base import ERROR, RESIZE, STDERR, STDIN, STDOUT, StreamClosed, StreamRequest

pytestmark = pytest.mark.looptime


class Pipe:
    """The node's end of a stream; the test writes to `inbox` and reads `sent`."""

    def __init__(self):
        self.inbox = asyncio.Queue()
        self.sent = []
        self.closed = asyncio.Event()

    async def send(self, channel, data):
        if self.closed.is_set():
            raise StreamClosed("closed")
        self.sent.append((channel, data))

    async def receive(self):
        return await self.inbox.get()

    async def close(self, reason=""):
        self.closed.set()

    def of(self, channel):
        return b"".join(data for number, data in self.sent if number == channel)

    def status(self):
        return json.loads(self.of(ERROR))


@pytest.fixture
async def pod(rig, pod_of):
    """Return the JSON-made pod, running."""
    made = pod_of()
    rig.start()
    rig.put(made)
    await rig.until(lambda: rig.notes.statuses and rig.notes.last().phase == "Running")
    return made


async def serve(rig, pipe, **request):
    wish = StreamRequest(namespace="default", pod="web", uid="uid-web", **request)
    async with asyncio.timeout(60):
        await rig.kubelet.stream_handler(wish, pipe)


async def test_exec_sends_output_and_success(rig, pod):
    pipe = Pipe()
    await serve(rig, pipe, kind="exec", command=("sh", "-c", "echo out; echo err >&2"))
    assert (pipe.of(STDOUT), pipe.of(STDERR)) == (b"out\n", b"err\n")
    assert pipe.status() == {"metadata": {}, "status": "Success"}
    assert pipe.closed.is_set()


async def test_exec_tells_the_exit_code(rig, pod):
    pipe = Pipe()
    await serve(rig, pipe, kind="exec", command=("sh", "-c", "exit 3"))
    status = pipe.status()
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


async def test_exec_takes_stdin_and_its_end(rig, pod):
    pipe = Pipe()
    pipe.inbox.put_nowait((RESIZE, b'{"Width":100,"Height":40}'))
    pipe.inbox.put_nowait((STDIN, b"hello "))
    pipe.inbox.put_nowait((STDIN, b"world"))
    pipe.inbox.put_nowait((STDIN, b""))
    await serve(rig, pipe, kind="exec", command=("cat",), stdin=True)
    assert pipe.of(STDOUT) == b"hello world"
    assert pipe.status()["status"] == "Success"


async def test_exec_lets_go_when_the_client_goes(rig, pod):
    pipe = Pipe()
    task = asyncio.ensure_future(serve(rig, pipe, kind="exec", command=("sleep", "infinity"), stdin=True))
    await asyncio.sleep(1)
    pipe.inbox.put_nowait(None)
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"kind": "exec", "container": "other"}, 400),
        ({"kind": "dance"}, 400),
        ({"kind": "logs", "previous": True}, 400),
    ],
)
async def test_refusals_are_statuses(rig, pod, request_, code):
    pipe = Pipe()
    await serve(rig, pipe, **request_)
    assert (pipe.status()["status"], pipe.status()["code"]) == ("Failure", code)


async def test_another_pod_of_that_name_is_not_found(rig, pod):
    pipe = Pipe()
    wish = StreamRequest(kind="exec", namespace="default", pod="web", uid="uid-old", command=("true",))
    await rig.kubelet.stream_handler(wish, pipe)
    assert pipe.status()["code"] == 404


async def talking(rig, pod_of, script, **spec):
    rig.start()
    rig.put(pod_of({"containers": [{"name": "main", "command": ["sh", "-c", script]}], **spec}))
    await rig.until(lambda: rig.notes.statuses and rig.notes.last().phase != "Pending")


async def test_logs(rig, pod_of):
    await talking(rig, pod_of, "echo one; echo two >&2; sleep infinity")
    pipe = Pipe()
    await serve(rig, pipe, kind="logs")
    assert pipe.of(STDOUT) == b"one\ntwo\n"
    stamped = Pipe()
    await serve(rig, stamped, kind="log", timestamps=True, tail_lines=1)
    assert stamped.of(STDOUT).startswith(b"2023-11-14T22:13:")
    assert stamped.of(STDOUT).endswith(b"Z two\n")


async def test_followed_logs_end_with_the_container(rig, pod_of):
    await talking(rig, pod_of, "echo a; sleep 5; echo b; sleep 5; echo c", restartPolicy="Never")
    pipe = Pipe()
    await serve(rig, pipe, kind="logs", follow=True)
    assert pipe.of(STDOUT) == b"a\nb\nc\n"


async def test_followed_logs_end_with_the_client(rig, pod_of):
    await talking(rig, pod_of, "echo a; sleep infinity")
    pipe = Pipe()
    task = asyncio.ensure_future(serve(rig, pipe, kind="logs", follow=True))
    await asyncio.sleep(2)
    assert not task.done()
    pipe.inbox.put_nowait(None)
    await asyncio.wait_for(task, 2)
    assert pipe.of(STDOUT) == b"a\n"


async def test_logs_of_the_previous_attempt(rig, pod_of):
    await talking(rig, pod_of, "echo attempt $N; sleep 3; exit 1")
    await rig.until(lambda: rig.notes.last().container_statuses[0].restart_count == 1)
    first = rig.folder / "pods/default_web_uid-web/main/0.log"
    text = first.read_bytes()
    first.write_bytes(text.replace(b"attempt", b"first"))
    pipe = Pipe()
    await serve(rig, pipe, kind="logs", previous=True)
    assert pipe.of(STDOUT).startswith(b"first")


async def test_attach(rig, pod_of):
    container = {"name": "main", "command": ["cat"], "stdin": True, "stdinOnce": True}
    rig.start()
    rig.put(pod_of({"restartPolicy": "Never", "containers": [container]}))
    await rig.until(lambda: rig.notes.statuses and rig.notes.last().phase == "Running")
    pipe = Pipe()
    task = asyncio.ensure_future(serve(rig, pipe, kind="attach", stdin=True))
    await asyncio.sleep(0.5)
    pipe.inbox.put_nowait((STDIN, b"hi\n"))
    await asyncio.sleep(0.5)
    pipe.inbox.put_nowait((STDIN, b""))
    await task
    assert pipe.of(STDOUT) == b"hi\n"
    await rig.until(lambda: rig.notes.last().phase == "Succeeded")


async def test_port_forward_into_the_nodes_own_network(rig, pod_of):
    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rig.start()
    rig.put(pod_of({"hostNetwork": True}))
    await rig.until(lambda: rig.notes.statuses and rig.notes.last().phase == "Running")
    pipe = Pipe()
    pipe.inbox.put_nowait((STDIN, b"hello"))
    pipe.inbox.put_nowait((STDIN, b""))
    task = asyncio.ensure_future(rig.kubelet.stream_handler(
        StreamRequest(kind="portforward", namespace="default", pod="web", uid="uid-web", port=port), pipe
    ))  # fmt: skip
    await task
    assert pipe.of(STDOUT) == b"HELLO"
    server.close()
    await server.wait_closed()
    refused = Pipe()
    await serve(rig, refused, kind="portforward", port=port)
    assert "Connection refused" in refused.status()["message"]
