"""Every WebSocket protocol that exec has had, and none."""

import asyncio
import base64
import json

import aiohttp
import pytest

WAIT = 30
EXEC = "/api/v1/namespaces/default/pods/p/exec?stdin=true&stdout=true&stderr=true"


async def conversation(cluster, protocol, path, *sent):
    """Return the messages that come back, as (channel, content), and the protocol chosen."""
    protocols = (protocol,) if protocol else ()
    text = "base64" in (protocol or "")
    found = []
    async with (
        asyncio.timeout(WAIT),
        aiohttp.ClientSession(cluster.url) as session,
        session.ws_connect(path, protocols=protocols) as socket,
    ):
        for channel, data in sent:
            if text:
                await socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
            else:
                await socket.send_bytes(bytes((channel,)) + data)
        async for message in socket:
            if text:
                assert message.type is aiohttp.WSMsgType.TEXT
                found.append((int(message.data[0]), base64.b64decode(message.data[1:])))
            else:
                assert message.type is aiohttp.WSMsgType.BINARY
                found.append((message.data[0], message.data[1:]))
        return found, socket.protocol


@pytest.mark.parametrize("protocol", [None, "channel.k8s.io", "base64.channel.k8s.io"])
async def test_before_v4_only_failures_are_told_of(cluster, protocol):
    found, chosen = await conversation(cluster, protocol, f"{EXEC}&command=fail&command=3")
    assert chosen == protocol
    assert found == [(2, b"sorry\n"), (3, b"command terminated with exit code 3")]
    found, _ = await conversation(cluster, protocol, f"{EXEC}&command=attached")
    assert found == [(1, b"attached\n")]


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", "v5.channel.k8s.io"])
async def test_from_v4_on_a_status_ends_it(cluster, protocol):
    found, chosen = await conversation(cluster, protocol, f"{EXEC}&command=terminal", (0, b"x"), (0, b"q"))
    assert chosen == protocol
    ((channel, status),) = found
    assert (channel, json.loads(status)["status"]) == (3, "Success")


async def test_nonsense_in_base64_is_passed_over(cluster):
    path = f"{EXEC}&command=terminal"
    async with (
        asyncio.timeout(WAIT),
        aiohttp.ClientSession(cluster.url) as session,
        session.ws_connect(path, protocols=("v4.base64.channel.k8s.io",)) as socket,
    ):
        for text in ("", "x", "0!!", "0" + base64.b64encode(b"q").decode()):
            await socket.send_str(text)
        message = await socket.receive()
        assert message.data[0] == "3"


async def test_an_unknown_protocol_is_refused(cluster):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await conversation(cluster, "v9.channel.k8s.io", f"{EXEC}&command=attached")
    assert refused.value.status == 400


@pytest.mark.parametrize("protocol", [None, "binary.k8s.io", "base64.binary.k8s.io"])
async def test_a_log_as_messages(cluster, protocol):
    path = "/api/v1/namespaces/default/pods/p/log?follow=true"
    async with (
        asyncio.timeout(WAIT),
        aiohttp.ClientSession(cluster.url) as session,
        session.ws_connect(path, protocols=(protocol,) if protocol else ()) as socket,
    ):
        assert socket.protocol == protocol

        async def heard():
            message = await socket.receive()
            return base64.b64decode(message.data) if protocol == "base64.binary.k8s.io" else message.data

        assert await heard() == b"one\ntwo\n"
        cluster.machine.go_on.set()
        assert await heard() == b"three\n"
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_a_log_ends_at_the_node_when_its_reader_closes(cluster):
    path = "/api/v1/namespaces/default/pods/p/log?follow=true"
    async with asyncio.timeout(WAIT), aiohttp.ClientSession(cluster.url) as session:
        async with session.ws_connect(path) as socket:
            await socket.receive()
            assert len(cluster.acceptor) == 1
        while len(cluster.acceptor):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("query", "protocols"), [("previous=true", ()), ("", ("v4.channel.k8s.io",))])
async def test_a_log_that_cannot_be_had_is_no_websocket(cluster, query, protocols):
    async with aiohttp.ClientSession(cluster.url) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"/api/v1/namespaces/default/pods/p/log?{query}", protocols=protocols)
        assert refused.value.status == 400


@pytest.mark.parametrize("kind", ["exec?command=x&stdout=1", "attach?stdout=1", "portforward?ports=80"])
async def test_a_request_that_is_no_websocket_is_a_bad_request(cluster, kind):
    async with aiohttp.ClientSession() as session:
        url = f"{cluster.url}/api/v1/namespaces/default/pods/p/{kind}"
        async with session.get(url) as answer:
            assert answer.status == 400
            assert (await answer.json())["reason"] == "BadRequest"
        headers = {"Sec-WebSocket-Protocol": "nonsense"}
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(url, headers=headers)
        assert caught.value.status == 400
