"""Requests for extension servers pass all that local ones pass; upgraded connections go through untouched."""

import asyncio
import json

import pytest
from aiohttp import web

from edgekube.api.errors import Timeout, TooManyRequests
from edgekube.apiserver import passage
from edgekube.apiserver.audit.auditor import Auditor
from edgekube.apiserver.audit.policy import policy_of
from edgekube.apiserver.audit.sink import LogFile, Sink
from edgekube.apiserver.authz import Access
from edgekube.apiserver.request import Request

from .conftest import JOE
from .extension import GROUP, ask, registered, until

FLOWS = "/apis/flowcontrol.apiserver.k8s.io/v1"
ROLES = "/apis/rbac.authorization.k8s.io/v1"
FLUNDERS = f"{GROUP}/namespaces/default/flunders"
POLICY = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
ADMIN = "Authorization: Bearer admin-token"


async def let_joe(api):
    rules = [{"apiGroups": ["wardle.example.com"], "resources": ["*"], "verbs": ["*"]}]
    await api.post(f"{ROLES}/clusterroles", {"metadata": {"name": "flunders"}, "rules": rules})
    await api.post(f"{ROLES}/clusterrolebindings", {
        "metadata": {"name": "joe"}, "subjects": [{"kind": "User", "name": "joe", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flunders"},
    })  # fmt: skip


async def one_seat(api):
    """A level of a single seat for all that joe asks of the extension server."""
    limited = {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}
    await api.post(f"{FLOWS}/prioritylevelconfigurations", {
        "metadata": {"name": "tight"}, "spec": {"type": "Limited", "limited": limited},
    })  # fmt: skip
    rule = {
        "verbs": ["*"],
        "apiGroups": ["wardle.example.com"],
        "resources": ["*"],
        "namespaces": ["*"],
        "clusterScope": True,
    }
    await api.post(f"{FLOWS}/flowschemas", {
        "metadata": {"name": "tight"},
        "spec": {
            "priorityLevelConfiguration": {"name": "tight"}, "matchingPrecedence": 2,
            "rules": [{"subjects": [{"kind": "User", "user": {"name": "joe"}}], "resourceRules": [rule]}],
        },
    })  # fmt: skip
    access = Access(verb="list", group="wardle.example.com", plural="flunders")
    gate = api.server.handler.passages.gate

    async def known():
        ticket = gate.ticket(JOE, access)
        return ticket if (ticket.schema.name, ticket.priority.name) == ("tight", "tight") else None

    level = (await until(known)).level
    for _ in range(level.shape.seats - 1):
        assert level.try_start()
    return level


async def test_one_that_asks_too_much_is_told_so(extended, wardle):
    await registered(extended, wardle)
    await let_joe(extended)
    level = await one_seat(extended)
    first = asyncio.create_task(ask(extended, f"{FLUNDERS}?slow=1", token="joe-token"))
    await asyncio.wait_for(wardle.begun.wait(), 30)
    code, status = await ask(extended, FLUNDERS, token="joe-token")
    assert (code, status["reason"], status["details"]["retryAfterSeconds"]) == (429, "TooManyRequests", 1)
    assert (await ask(extended, FLUNDERS))[0] == 200, "others have seats of their own"
    wardle.go_on.set()
    assert (await first)[0] == 200
    async with asyncio.timeout(30):
        while level.running == level.shape.seats:
            await asyncio.sleep(0.02)
    headers = {"Authorization": "Bearer joe-token"}
    async with extended.session.get(FLUNDERS, headers=headers) as answer:
        assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"]


async def test_a_watch_keeps_no_seat(extended, wardle):
    await registered(extended, wardle)
    await let_joe(extended)
    await one_seat(extended)
    async with extended.session.get(
        f"{FLUNDERS}?watch=1", headers={"Authorization": "Bearer joe-token"}
    ) as answer:
        assert await asyncio.wait_for(answer.content.readline(), 30)
        assert (await ask(extended, FLUNDERS, token="joe-token"))[0] == 200


async def test_a_client_that_goes_leaves_its_seat(extended, wardle):
    await registered(extended, wardle)
    await let_joe(extended)
    level = await one_seat(extended)
    first = asyncio.create_task(ask(extended, f"{FLUNDERS}?slow=1", token="joe-token"))
    await asyncio.wait_for(wardle.begun.wait(), 30)
    first.cancel()
    async with asyncio.timeout(30):
        while level.running == level.shape.seats:
            await asyncio.sleep(0.02)


async def test_they_are_counted(extended, wardle):
    await registered(extended, wardle)
    await ask(extended, FLUNDERS)
    await ask(extended, FLUNDERS, token="joe-token")
    text = (await extended.send("GET", "/metrics")).body.decode()
    labels = 'verb="LIST",group="wardle.example.com",resource="flunders",subresource="",scope="namespace"'
    assert f'apiserver_request_total{{{labels},code="200"}} 1' in text
    assert 'code="403"' in text


async def test_every_warning_comes_through(extended, wardle):
    await registered(extended, wardle)
    async with extended.session.get(
        f"{FLUNDERS}?warn=1", headers={"Authorization": "Bearer admin-token"}
    ) as answer:
        assert answer.headers.getall("Warning") == ['299 - "a"', '299 - "b"']


@pytest.mark.parametrize(
    ("raised", "code"), [(TooManyRequests("x"), 429), (TimeoutError(), 504), (ValueError(), 499)]
)
async def test_whatever_happens_is_noted_once(api, tmp_path, raised, code):
    sink = Sink(LogFile(path=tmp_path / "log"))
    auditor = Auditor(policy_of(POLICY), sink)
    mine = api.server.handler.passages
    passages = passage.Passages(mine.gate, mine.metrics, mine.authorization, auditor, mine.failure)
    request = Request(method="GET", path=FLUNDERS, user=JOE)
    access = Access(verb="get", path="/healthz")
    with pytest.raises(Timeout if code == 504 else type(raised)):
        async with passages.of(request, access, upgrade=False):
            raise raised
    running = asyncio.create_task(sink.run())
    async with asyncio.timeout(30):
        while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
            await asyncio.sleep(0.02)
    running.cancel()
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [
        (e["stage"], e["responseStatus"]["code"]) for e in events if e["stage"] == "ResponseComplete"
    ] == [("ResponseComplete", code)]


# ---- upgrades ----


async def connected(api, path, *, method="POST", protocol="SPDY/3.1"):
    host, port = api.session._base_url.host, api.session._base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: x\r\n{ADMIN}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
        "X-Stream-Protocol-Version: v4.channel.k8s.io\r\nX-Stream-Protocol-Version: v3.channel.k8s.io\r\n"
        "Content-Length: 0\r\n\r\n".encode()
    )
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()
    return head, reader, writer


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_spdy_goes_through_untouched(extended, wardle, method):
    await registered(extended, wardle)
    head, reader, writer = await connected(extended, f"{FLUNDERS}/f/exec?command=sh", method=method)
    assert head.startswith("HTTP/1.1 101 ")
    assert "upgrade: spdy/3.1\r\n" in head.lower()
    assert "x-stream-protocol-version: v4.channel.k8s.io" in head.lower()
    assert await asyncio.wait_for(reader.readexactly(5), 30) == b"hello", "what came with the answer"
    writer.write(b"\x80\x03\x00\x01")
    assert await asyncio.wait_for(reader.readexactly(6), 30) == b"<\x80\x03\x00\x01>"
    passed = wardle.asked[-1][2]
    assert [v for n, v in passed if n == "X-Stream-Protocol-Version"] == [
        "v4.channel.k8s.io",
        "v3.channel.k8s.io",
    ]
    assert ("X-Remote-User", "admin") in passed
    writer.write(b"stop")
    assert await asyncio.wait_for(reader.read(), 30) == b"", "it ends when the other end does"
    writer.close()


async def test_much_goes_through_both_ways(extended, wardle):
    await registered(extended, wardle)
    _, reader, writer = await connected(extended, f"{FLUNDERS}/f/exec")
    await reader.readexactly(5)
    data, got = bytes(range(256)) * 4096, 0

    async def read():
        nonlocal got
        while got < len(data):
            got += len((await reader.read(65536)).replace(b"<", b"").replace(b">", b"")) or len(data)

    reading = asyncio.create_task(read())
    kept = data.replace(b"<", b"").replace(b">", b"")
    data = kept
    for start in range(0, len(kept), 65536):
        writer.write(kept[start : start + 65536])
        await writer.drain()
    await asyncio.wait_for(reading, 30)
    assert got == len(kept)
    writer.close()


async def test_the_other_end_learns_when_the_client_goes(extended, wardle):
    await registered(extended, wardle)
    before = len(asyncio.all_tasks())
    _, reader, writer = await connected(extended, f"{FLUNDERS}/f/exec")
    await reader.readexactly(5)
    writer.close()
    async with asyncio.timeout(30):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.02)


async def test_an_upgrade_that_is_refused_is_answered(extended, wardle):
    await registered(extended, wardle)
    head, reader, writer = await connected(extended, FLUNDERS, method="GET", protocol="h2c")
    assert head.startswith("HTTP/1.1 200 ")
    assert b"FlunderList" in await asyncio.wait_for(reader.read(), 30)
    writer.close()


async def test_websockets_go_through_without_the_token(extended, wardle):
    async def talk(request):
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await socket.prepare(request)
        wardle.note(request)
        async for message in socket:
            await socket.send_bytes(b"echo " + message.data)
        return socket

    wardle.serve = talk
    await registered(extended, wardle)
    token = "base64url.bearer.authorization.k8s.io.YWRtaW4tdG9rZW4"
    async with extended.session.ws_connect(
        f"{FLUNDERS}/f/attach", protocols=("v5.channel.k8s.io", token)
    ) as socket:
        assert socket.protocol == "v5.channel.k8s.io"
        await socket.ping(b"x")
        await socket.send_bytes(b"hi")
        assert await socket.receive_bytes() == b"echo hi"
    assert dict(wardle.asked[-1][2])["Sec-WebSocket-Protocol"] == "v5.channel.k8s.io"
