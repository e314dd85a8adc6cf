"""Exec over SPDY/3.1: every version of the protocol, and clients that do not keep to it."""

import asyncio
import json
import struct

import pytest

from apiserver.streams.spdy_client import asked
from edgekube.apiserver.streams import spdy

WAIT = 30
EXEC = "/api/v1/namespaces/default/pods/p/exec?stdout=true&stderr=true"
OUTPUTS = ("error", "stdout", "stderr")
V4 = "v4.channel.k8s.io"


@pytest.mark.parametrize("protocol", ["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io", ""])
async def test_before_v4_only_failures_are_told_of(cluster, protocol):
    offered = (protocol,) if protocol else ()
    async with asked(cluster.port, f"{EXEC}&command=fail&command=3", *offered) as client:
        assert client.head.startswith("HTTP/1.1 101 ")
        assert ("X-Stream-Protocol-Version" in client.head) is bool(protocol)
        client.open(*OUTPUTS)
        heard, _ = await client.hear()
    assert heard == {"stderr": b"sorry\n", "error": b"command terminated with exit code 3"}
    async with asked(cluster.port, f"{EXEC}&command=attached", *offered) as client:
        client.open(*OUTPUTS)
        heard, _ = await client.hear()
    assert heard == {"stdout": b"attached\n"}


@pytest.mark.parametrize(
    "offered", [("v9.channel.k8s.io", V4), (f"v9.channel.k8s.io, {V4}, channel.k8s.io",)]
)
async def test_the_client_s_first_known_choice_is_taken(cluster, offered):
    async with asked(cluster.port, f"{EXEC}&command=attached", *offered) as client:
        assert f"X-Stream-Protocol-Version: {V4}\r\n" in client.head
        client.open(*OUTPUTS)
        heard, _ = await client.hear()
    assert heard["stdout"] == b"attached\n"
    assert json.loads(heard["error"])["status"] == "Success"


async def test_who_speaks_nothing_we_know_is_told_what_we_do(cluster):
    async with asked(cluster.port, f"{EXEC}&command=attached", "v9.channel.k8s.io") as client:
        assert client.head.startswith("HTTP/1.1 403 ")
    assert cluster.machine.requests == []


async def test_sizes_of_a_terminal_however_they_are_cut(cluster):
    path = f"{EXEC}&stdin=true&tty=true&command=terminal"
    async with asked(cluster.port, path, V4) as client:
        client.open("error", "stdin", "stdout", "resize")
        for piece in (b'{"Width":80,', b'"Height":24}\n{"Width":81', b',"Height":25}\n', b"x" * 5000):
            client.say("resize", piece)
        for size in ((80, 24), (81, 25)):
            assert await asyncio.wait_for(cluster.machine.sizes.get(), WAIT) == size
        client.say("stdin", b"q")
        heard, _ = await client.hear()
    assert json.loads(heard["error"])["status"] == "Success"


async def test_pings_are_answered_and_streams_nobody_asked_for_are_reset(cluster):
    path = f"{EXEC}&stdin=true&command=cat"
    async with asked(cluster.port, path, V4) as client:
        client.open(*OUTPUTS, "stdin", "resize", "nonsense")
        client.write(struct.pack(">HHII", 0x8003, 6, 4, 7))
        client.say("stdin", b"abc", fin=True)
        # What a command is sent after its end is read, too: the connection is not torn away.
        client.say("stdin", b"late")
        heard, others = await client.hear()
    assert heard["stdout"] == b"abc"
    assert [event.data for event in others if isinstance(event, spdy.Answer)] == [
        struct.pack(">HHII", 0x8003, 6, 4, 7)
    ]
    refused = {event.stream for event in others if isinstance(event, spdy.Reset)}
    assert refused == {client.streams["resize"], client.streams["nonsense"]}


@pytest.mark.parametrize("last", [b"", b"\x80\x02\x00\x01\x00\x00\x00\x00"], ids=["silence", "nonsense"])
@pytest.mark.parametrize("opened", [OUTPUTS, (*OUTPUTS, "stdin")], ids=["half-open", "open"])
async def test_a_client_that_goes_ends_the_stream_at_the_node(cluster, last, opened):
    async with asked(cluster.port, f"{EXEC}&stdin=true&command=cat", V4) as client:
        client.open(*opened)
        client.write(last)
        async with asyncio.timeout(WAIT):
            while not cluster.machine.requests:
                await asyncio.sleep(0.01)
        if not last:
            client.hang_up()
        async with asyncio.timeout(WAIT):
            while len(cluster.acceptor):
                await asyncio.sleep(0.01)
