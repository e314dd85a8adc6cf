"""The real kubectl against serve_stream, over WebSockets and as older ones do over SPDY."""

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios

import aiohttp
import pytest

WAIT = 30
OLDER = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}


@pytest.fixture(params=["websocket", "SPDY/3.1"], autouse=True)
async def upgrade(request, cluster):
    if request.param != "websocket":
        cluster.environment.update(OLDER)
    yield
    assert {asked.partition(",")[0] for asked in cluster.upgrades} <= {request.param}


async def test_exec_carries_stdin_and_its_end(cluster):
    data = bytes(range(256)) * 8000
    code, out, err = await cluster.kubectl("exec", "-i", "p", "--", "cat", stdin=data)
    assert (code, err) == (0, "")
    assert out == data
    assert cluster.machine.requests[0].command == ("cat",)


async def test_exit_code_and_stderr_of_a_failing_command(cluster):
    code, out, err = await cluster.kubectl("exec", "p", "--", "fail", "7")
    assert (code, out) == (7, b"")
    assert "sorry" in err
    assert "exit code 7" in err


async def test_a_terminal_with_its_size(cluster):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    process = await cluster.start("exec", "-it", "p", "--", "terminal", stdin=slave, stdout=slave)
    try:
        size = await asyncio.wait_for(cluster.machine.sizes.get(), WAIT)
        assert size == (111, 33)
        os.write(master, b"q")
        assert await asyncio.wait_for(process.wait(), WAIT) == 0
        assert cluster.machine.requests[0].tty
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        os.close(master)
        os.close(slave)


async def test_attach(cluster):
    code, out, _err = await cluster.kubectl("attach", "p")
    assert (code, out) == (0, b"attached\n")


async def test_cp_both_ways(cluster):
    (cluster.tmp_path / "up").write_bytes(b"u" * (2 << 20))
    code, _out, err = await cluster.kubectl("cp", "up", "p:/data/up")
    assert (code, err) == (0, "")
    assert list(cluster.machine.files.values()) == [b"u" * (2 << 20)]
    code, _out, err = await cluster.kubectl("cp", "p:/data/file", "down")
    assert code == 0, err
    assert (cluster.tmp_path / "down").read_bytes() == b"z" * (3 << 20)


async def test_logs_and_following(cluster):
    code, out, _err = await cluster.kubectl(
        "logs", "p", "--tail=5", "--timestamps", "--since=60s", "--limit-bytes=9"
    )
    assert (code, out) == (0, b"one\ntwo\n")
    asked = cluster.machine.requests[0]
    assert (asked.tail_lines, asked.timestamps, asked.since_seconds, asked.limit_bytes) == (5, True, 60, 9)
    process = await cluster.start("logs", "-f", "p")
    assert await asyncio.wait_for(process.stdout.readline(), WAIT) == b"one\n"
    cluster.machine.go_on.set()
    out, _err = await asyncio.wait_for(process.communicate(), WAIT)
    assert out == b"two\nthree\n"


async def test_logs_that_cannot_be_had(cluster):
    code, _out, err = await cluster.kubectl("logs", "-p", "p")
    assert code == 1
    assert 'previous terminated container "main" in pod "p" not found' in err


async def test_a_client_that_goes_away_ends_the_stream_at_the_node(cluster):
    process = await cluster.start("logs", "-f", "p")
    await asyncio.wait_for(process.stdout.readline(), WAIT)
    assert len(cluster.acceptor) == 1
    process.kill()
    await process.communicate()
    async with asyncio.timeout(WAIT):
        while len(cluster.acceptor):
            await asyncio.sleep(0.02)


async def forward(cluster, port):
    process = await cluster.start("port-forward", "p", f":{port}", "--address=127.0.0.1")
    line = await asyncio.wait_for(process.stdout.readline(), WAIT)
    return process, int(re.search(rb"127\.0\.0\.1:(\d+)", line).group(1))


async def exchange(port, size, barrier):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = os.urandom(size)

    async def send():
        writer.write(data[:1000])
        await barrier.wait()
        writer.write(data[1000:])
        await writer.drain()
        writer.write_eof()

    async def read():
        return await reader.read()

    _, got = await asyncio.gather(send(), read())
    writer.close()
    assert got == data


async def test_port_forward_with_parallel_connections(cluster):
    process, port = await forward(cluster, 80)
    try:
        barrier = asyncio.Barrier(2)
        async with asyncio.timeout(WAIT):
            await asyncio.gather(exchange(port, 5 << 20, barrier), exchange(port, 1 << 20, barrier))
        assert cluster.machine.most == 2
    finally:
        process.kill()
        await process.communicate()


async def test_port_forward_to_a_port_nobody_listens_on(cluster):
    process, port = await forward(cluster, 81)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await asyncio.wait_for(reader.read(), WAIT) == b""
    writer.close()
    async with asyncio.timeout(WAIT):
        while b"connection refused" not in await process.stderr.readline():
            pass
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def test_a_container_has_to_be_chosen_of_several(cluster):
    two = [{"name": "one", "image": "x"}, {"name": "two", "image": "x"}]
    cluster.pod = {**cluster.pod, "spec": {"nodeName": "n1", "containers": two}}
    async with aiohttp.ClientSession() as session:
        base = f"{cluster.url}/api/v1/namespaces/default/pods/p/log"
        async with session.get(base) as answer:
            assert answer.status == 400
            assert (await answer.json())["message"] == (
                "a container name must be specified for pod p, choose one of: [one two]"
            )
        async with session.get(f"{base}?container=three") as answer:
            assert (answer.status, (await answer.json())["message"]) == (
                400,
                "container three is not valid for pod p",
            )
        annotations = {"kubectl.kubernetes.io/default-container": "two"}
        cluster.pod = {**cluster.pod, "metadata": {**cluster.pod["metadata"], "annotations": annotations}}
        async with session.get(base) as answer:
            assert await answer.text() == "one\ntwo\n"
        assert cluster.machine.requests[0].container == "two"
