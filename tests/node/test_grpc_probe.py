"""gRPC probes against an HTTP/2 server of another maker (h2), and against servers that are none."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from edgekube.api.types import core_v1
from edgekube.node.probes.check import Target, check
from edgekube.runtime.fake import FakeRuntime


@asynccontextmanager
async def serving(handle):
    """Serve on a free port; nothing of it is left afterwards."""
    talks = set()

    async def talk(reader, writer):
        talks.add(asyncio.current_task())
        try:
            with suppress(ConnectionError):
                await handle(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.sleep(0)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


def health_server(asked, reply):
    """Keep what was asked in `asked`; `reply(connection, stream)` answers."""

    async def handle(reader, writer):
        connection = H2Connection(config=H2Configuration(client_side=False))
        connection.initiate_connection()
        connection.ping(b"12345678")
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived):
                    asked.append({name.decode(): value.decode() for name, value in event.headers})
                elif isinstance(event, DataReceived):
                    asked.append(event.data)
                elif isinstance(event, StreamEnded):
                    reply(connection, event.stream_id)
            writer.write(connection.data_to_send())

    return handle


def answer(body, *, padding=None):
    def reply(connection, stream):
        connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        connection.send_data(stream, b"\x00" + len(body).to_bytes(4, "big"), pad_length=padding)
        connection.send_data(stream, body, pad_length=padding)
        connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)

    return reply


def unimplemented(connection, stream):
    connection.send_headers(stream, [(":status", "200"), ("grpc-status", "12")], end_stream=True)


async def probe(port, service=""):
    action = core_v1.GRPCAction(port=port, service=service)
    target = Target(container=core_v1.Container(name="main"), id="c1", address="127.0.0.1")
    return await check(core_v1.Probe(grpc=action, timeout_seconds=5), target, FakeRuntime().sessions)


@pytest.mark.parametrize(
    ("reply", "success", "output"),
    [
        (answer(b"\x08\x01"), True, "service healthy"),
        (answer(b"\x08\x01", padding=7), True, "service healthy"),
        (answer(b"\x08\x02"), False, 'service unhealthy (responded with "NOT_SERVING")'),
        (answer(b""), False, 'service unhealthy (responded with "UNKNOWN")'),
        (answer(b"\x12\x01x"), False, "error: health rpc failed: the server's message is no health status"),
        (unimplemented, False, "error: health rpc failed: the server answered without a health status"),
        (lambda c, s: c.reset_stream(s, 7), False, "error: health rpc failed: stream was reset with code 7"),
    ],
)
async def test_what_servers_answer(reply, success, output):
    async with serving(health_server([], reply)) as port:
        found = await probe(port)
    assert (found.success, found.output) == (success, output)


@pytest.mark.parametrize("service", ["", "readiness", "s" * 200])
async def test_what_is_asked(service):
    asked = []
    async with serving(health_server(asked, answer(b"\x08\x01"))) as port:
        assert (await probe(port, service)).success
    headers, body = asked
    assert headers[":path"] == "/grpc.health.v1.Health/Check"
    assert headers["content-type"] == "application/grpc"
    assert headers[":authority"] == f"127.0.0.1:{port}"
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    assert body[5:].endswith(service.encode())


async def test_server_of_another_kind():
    async def http1(reader, writer):
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with serving(http1) as port:
        found = await probe(port)
    assert not found.success
    assert found.output.startswith("error: health rpc failed: ")


async def test_nobody_listens():
    async with serving(health_server([], unimplemented)) as port:
        pass
    found = await probe(port)
    assert not found.success
    assert found.output == f"dial tcp 127.0.0.1:{port}: connect: connection refused"


@pytest.mark.looptime
async def test_a_server_that_says_nothing():
    async def silent(reader, writer):
        await asyncio.sleep(3600)

    async with serving(silent) as port:
        found = await probe(port)
    assert not found.success
    assert found.output == "timeout: health rpc did not complete within 5s"
