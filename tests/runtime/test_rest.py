import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edgekube.runtime.base import PullFailed, RuntimeUnavailable
from edgekube.runtime.podman.images import PodmanImages
from edgekube.runtime.podman.rest import Call, Refused, Rest

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def answering(
    tmp_path: Path, *pieces: bytes, hang: bool = False
) -> AsyncIterator[tuple[Rest, list[bytes]]]:
    """Serve these bytes, piece by piece, to every caller; collect the requests."""
    requests: list[bytes] = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if hang:
            await done.wait()
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "s")
    try:
        yield Rest(tmp_path / "s", timeout=0.2 if hang else 10.0), requests
    finally:
        done.set()
        server.close()
        await server.wait_closed()


async def test_plain_and_chunked_answers(tmp_path):
    async with answering(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", b'{"a":', b"1}") as (
        rest,
        asked,
    ):
        assert await rest.json(Call("GET", "/x", {"q": "a b"})) == {"a": 1}
        assert asked[0].startswith(b"GET /v4.0.0/libpod/x?q=a+b HTTP/1.1\r\n")
    body = [b"3\r\n[1,\r\n", b"2", b"\r\n2", b"]\r\n0\r\n\r\n"]
    async with answering(tmp_path, CHUNKED, *body) as (rest, _):
        assert await rest.json(Call("GET", "/x")) == [1, 2]
    async with answering(tmp_path, b"HTTP/1.1 204 No Content\r\n\r\n", hang=True) as (rest, _):
        assert await rest.json(Call("POST", "/x")) is None


async def test_refusals_carry_podmans_words(tmp_path):
    body = b'{"cause":"inner","message":"outer","response":409}'
    head = b"HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with answering(tmp_path, head + body) as (rest, _):
        for attempt in (rest.json(Call("GET", "/x")), rest.hijack(Call("POST", "/x"))):
            with pytest.raises(Refused, match="outer") as caught:
                await attempt
            assert (caught.value.status, caught.value.cause) == (409, "inner")
    async with answering(tmp_path, b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nplain") as (rest, _):
        with pytest.raises(Refused, match="plain"):
            await rest.json(Call("GET", "/x"))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        CHUNKED + b"5\r\nab",
        CHUNKED + b"zz\r\n",
    ],
)
async def test_a_service_that_dies_in_the_middle(tmp_path, answer):
    async with answering(tmp_path, answer) as (rest, _):
        with pytest.raises(RuntimeUnavailable):
            await rest.json(Call("GET", "/x"))
        with pytest.raises(RuntimeUnavailable):
            async for _ in rest.lines(Call("GET", "/x")):
                pass


async def test_a_service_that_hangs(tmp_path):
    async with answering(tmp_path, hang=True) as (rest, _):
        with pytest.raises(RuntimeUnavailable, match="does not answer"):
            await rest.json(Call("GET", "/x"))
        with pytest.raises(RuntimeUnavailable):
            await rest.hijack(Call("GET", "/x"))
    async with answering(tmp_path, CHUNKED, b"2\r\na\n\r\n", hang=True) as (rest, _):
        lines = rest.lines(Call("GET", "/x"), stall=0.05)
        assert await anext(lines) == b"a"
        with pytest.raises(RuntimeUnavailable, match="nothing"):
            await anext(lines)


async def test_no_service(tmp_path):
    with pytest.raises(RuntimeUnavailable):
        await Rest(tmp_path / "nowhere").json(Call("GET", "/x"))


async def test_a_large_answer(tmp_path):
    body = b"[" + b",".join(b"%d" % n for n in range(200_000)) + b"]"
    pieces = [body[start : start + 50_000] for start in range(0, len(body), 50_000)]
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    async with answering(tmp_path, CHUNKED, *chunks, b"0\r\n\r\n") as (rest, _):
        assert await rest.json(Call("GET", "/x")) == list(range(200_000))


async def test_lines_come_whole(tmp_path):
    chunks = [b"4\r\none\n\r\n", b"2\r\ntw\r\n", b"6\r\no\n\nend\r\n", b"0\r\n\r\n"]
    async with answering(tmp_path, CHUNKED, *chunks) as (rest, _):
        assert [line async for line in rest.lines(Call("GET", "/x"))] == [b"one", b"two", b"end"]


async def test_a_pulls_error_hides_in_a_good_answer(tmp_path):
    error = b'{"stream":"Trying"}\n{"error":"manifest unknown"}\n'
    async with answering(tmp_path, CHUNKED, b"%x\r\n%s\r\n0\r\n\r\n" % (len(error), error)) as (rest, _):
        with pytest.raises(PullFailed, match="manifest unknown"):
            await PodmanImages(rest).pull("localhost/x:1")
    silent = b'{"stream":"Trying"}\n'
    async with answering(tmp_path, CHUNKED, b"%x\r\n%s\r\n0\r\n\r\n" % (len(silent), silent)) as (rest, _):
        with pytest.raises(PullFailed, match="no image"):
            await PodmanImages(rest).pull("localhost/x:1")
    good = b'{"stream":"Copying"}\n{"images":["abc"],"id":"abc"}\n'
    async with answering(tmp_path, CHUNKED, b"%x\r\n%s\r\n0\r\n\r\n" % (len(good), good)) as (rest, asked):
        assert await PodmanImages(rest, insecure=("localhost",)).pull("localhost/x:1") == "abc"
        assert b"tlsVerify=false" in asked[0]
