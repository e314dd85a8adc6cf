"""Probes through the whole kubelet (virtual time), thresholds (pure), and single questions (real sockets)."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.types import core_v1
from edgekube.node.probes.check import Target, check
from edgekube.node.probes.state import Tally, advance
from edgekube.runtime.fake import FakeRuntime

FAST = {"periodSeconds": 5, "failureThreshold": 2, "timeoutSeconds": 1}


class Switch:
    """A program whose exit code the test decides."""

    def __init__(self, code=0):
        self.code, self.calls = code, []

    async def __call__(self, process, words, channel):
        self.calls.append(asyncio.get_running_loop().time())
        return self.code


def probed(pod_of, switch_name="check", **probes):
    container = {"name": "main"}
    for kind, extra in probes.items():
        container[f"{kind}Probe"] = {**FAST, "exec": {"command": [switch_name]}, **extra}
    return pod_of({"containers": [container]})


def ready(rig):
    return bool(rig.notes.statuses) and rig.notes.last().container_statuses[0].ready


@pytest.mark.looptime
async def test_readiness_comes_and_goes(rig, pod_of):
    switch = rig.machine.programs["check"] = Switch(1)
    rig.start()
    rig.put(probed(pod_of, readiness={}))
    await asyncio.sleep(12)
    status = rig.notes.last()
    assert (status.phase, status.container_statuses[0].ready, status.container_statuses[0].started) == (
        "Running",
        False,
        True,
    )
    assert {c.type: c.reason for c in status.conditions}["Ready"] == "ContainersNotReady"
    switch.code = 0
    await rig.until(lambda: ready(rig), seconds=6)
    switch.code = 1
    await asyncio.sleep(4)
    assert ready(rig)
    await rig.until(lambda: not ready(rig), seconds=10)
    assert rig.notes.last().container_statuses[0].restart_count == 0
    event = next(e for e in rig.notes.events if e.reason == "Unhealthy")
    assert event.message.startswith("Readiness probe failed: ")
    assert event.type == "Warning"


@pytest.mark.looptime
async def test_initial_delay_and_period(rig, pod_of):
    switch = rig.machine.programs["check"] = Switch(0)
    rig.start()
    rig.put(probed(pod_of, readiness={"initialDelaySeconds": 7}))
    await asyncio.sleep(20)
    begun = rig.containers()[0].started_at - rig.now() + asyncio.get_running_loop().time()
    assert [round(at - begun) for at in switch.calls] == [7, 12, 17]


@pytest.mark.looptime
async def test_a_failed_liveness_probe_restarts(rig, pod_of):
    switch = rig.machine.programs["check"] = Switch(0)
    rig.start()
    rig.put(probed(pod_of, liveness={}))
    await asyncio.sleep(30)
    assert rig.notes.last().container_statuses[0].restart_count == 0
    switch.code = 1
    await rig.until(lambda: "Killing" in rig.notes.reasons(), seconds=11)
    switch.code = 0
    await rig.until(lambda: rig.notes.last().container_statuses[0].restart_count == 1)
    killing = next(e for e in rig.notes.events if e.reason == "Killing")
    assert killing.message == "Container main failed liveness probe, will be restarted"
    await asyncio.sleep(600)
    assert rig.notes.last().container_statuses[0].restart_count == 1


@pytest.mark.looptime
async def test_a_startup_probe_holds_the_others_back(rig, pod_of):
    switch = rig.machine.programs["check"] = Switch(1)
    rig.start()
    rig.put(probed(pod_of, startup={"failureThreshold": 10}, liveness={"failureThreshold": 1}))
    await asyncio.sleep(30)
    status = rig.notes.last().container_statuses[0]
    assert (status.started, status.ready, status.restart_count) == (False, False, 0)
    switch.code = 0
    await rig.until(lambda: ready(rig), seconds=6)
    assert rig.notes.last().container_statuses[0].started


@pytest.mark.looptime
async def test_a_startup_probe_that_never_succeeds_restarts(rig, pod_of):
    rig.machine.programs["check"] = Switch(1)
    rig.start()
    rig.put(probed(pod_of, startup={}))
    await rig.until(lambda: rig.notes.statuses and rig.notes.last().container_statuses[0].restart_count == 1)
    assert "Container main failed startup probe, will be restarted" in [e.message for e in rig.notes.events]


@pytest.mark.looptime
async def test_a_hanging_probe_times_out(rig, pod_of):
    async def hang(process, words, channel):
        await asyncio.sleep(1000)

    rig.machine.programs["check"] = hang
    rig.start()
    rig.put(probed(pod_of, readiness={}))
    await asyncio.sleep(8)
    assert 'Readiness probe failed: command timed out: "check" timed out after 1s' in [
        e.message for e in rig.notes.events
    ]


@pytest.mark.looptime
async def test_ready_pods_stay_ready_over_an_agent_restart(rig, pod_of):
    rig.machine.programs["check"] = Switch(0)
    rig.start()
    rig.put(probed(pod_of, readiness={"initialDelaySeconds": 3}, startup={}))
    await rig.until(lambda: ready(rig))
    before = rig.notes.last()
    await rig.stop()
    rig.notes.statuses.clear()
    rig.start()
    await asyncio.sleep(60)
    assert rig.notes.statuses == {"uid-web": [before]}


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_thresholds(answers, good, bad):
    probe = core_v1.Probe(success_threshold=good, failure_threshold=bad)
    tally = Tally()
    expected = None
    for number, answer in enumerate(answers, 1):
        tally = advance(tally, probe, success=answer)
        needed = good if answer else bad
        if answers[:number][-needed:] == [answer] * needed:
            expected = answer
        assert tally.verdict is expected


# --- single questions -------------------------------------------------------------------------

CONTAINER = core_v1.Container(name="main", ports=(core_v1.ContainerPort(container_port=1, name="web"),))


@asynccontextmanager
async def listening(answer=b"", seen=None):
    """Serve one connection; leaves when that has ended."""
    over = asyncio.Event()

    async def serve(reader, writer):
        with suppress(asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            if seen is not None:
                seen.append(request)
            writer.write(answer)
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await over.wait()


def http(port, **extra):
    return core_v1.Probe(http_get=core_v1.HTTPGetAction(port=port, **extra), timeout_seconds=5)


async def ask(probe, container=CONTAINER):
    return await check(
        probe, Target(container=container, id="x", address="127.0.0.1"), FakeRuntime().sessions
    )


@pytest.mark.parametrize(
    ("answer", "success", "output"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, ""),
        (b"HTTP/1.0 302 Found\r\n\r\n", True, ""),
        (b"HTTP/1.1 503 Busy\r\n\r\n", False, "HTTP probe failed with statuscode: 503"),
    ],
)
async def test_http(answer, success, output):
    seen = []
    header = core_v1.HTTPHeader(name="x-test", value="1")
    async with listening(answer, seen) as port:
        got = await ask(http(port, path="/healthz", http_headers=(header,)))
    assert (got.success, got.output) == (success, output)
    lines = seen[0].decode().split("\r\n")
    assert lines[0] == "GET /healthz HTTP/1.1"
    assert {f"Host: 127.0.0.1:{port}", "X-Test: 1", "Connection: close"} <= set(lines)


@pytest.mark.parametrize(
    ("locations", "success", "output"),
    [
        (["/there"], True, ""),
        (["/broken"], False, "HTTP probe failed with statuscode: 500"),
        (["http://elsewhere.invalid/"], True, ""),
        (["/again"], False, "stopped after 10 redirects"),
    ],
)
async def test_redirections(locations, success, output):
    asked = []

    async def serve(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        asked.append(request.split()[1].decode())
        status = {"/there": "200 OK", "/broken": "500 Oh"}.get(asked[-1], "302 Found")
        where = "/again?x=1" if asked[-1].startswith("/again") else locations[0]
        writer.write(f"HTTP/1.1 {status}\r\nServer: s\r\nLocation: {where}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        got = await ask(http(server.sockets[0].getsockname()[1], path="/first"))
    assert got.success is success
    assert output in got.output
    assert asked[0] == "/first"
    assert len(asked) == {"/again": 10, "http://elsewhere.invalid/": 1}.get(locations[0], 2)


async def test_http_that_answers_nonsense():
    async with listening(b"nonsense\r\n") as port:
        got = await ask(http(port))
    assert not got.success
    assert "malformed HTTP response" in got.output


async def test_nobody_listens():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        tcp = core_v1.Probe(tcp_socket=core_v1.TCPSocketAction(port=port), timeout_seconds=5)
        assert (await ask(tcp)).output == f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        assert "connection refused" in (await ask(http(port))).output


async def test_tcp_by_port_name():
    probe = core_v1.Probe(tcp_socket=core_v1.TCPSocketAction(port="web"), timeout_seconds=5)
    async with listening() as port:
        ports = (core_v1.ContainerPort(container_port=port, name="web"),)
        assert (await ask(probe, core_v1.Container(name="main", ports=ports))).success
