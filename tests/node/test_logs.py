"""Reading logs across rotated files, parts, options; rotation."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.node import labels
from edgekube.node.clock import parse_stamp
from edgekube.node.log.files import Rotation, generations
from edgekube.node.log.read import LogOptions, parse_line, read_log, tail_text
from edgekube.runtime.base import ContainerInfo, Phase, RuntimeFailure
from edgekube.runtime.crilog import LogWriter

T = "2024-01-01T00:00:0{}.000000000Z"


def record(second, text, *, stream="stdout", tag="F"):
    return f"{T.format(second)} {stream} {tag} {text}\n".encode()


async def read(path, ended=lambda: True, **options):
    return b"".join([data async for _, data in read_log(path, LogOptions(**options), ended)])


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "0.log"
    path.with_name("0.log.20240101-000000.000000").write_bytes(record(1, "one") + record(2, "tw", tag="P"))
    path.with_name("0.log.20240101-000001.000000").write_bytes(
        record(3, "o") + record(4, "three", stream="stderr")
    )
    path.write_bytes(record(5, "four") + b"half a rec")
    return path


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, b"one\ntwo\nthree\nfour\n"),
        ({"tail_lines": 2}, b"three\nfour\n"),
        ({"tail_lines": 3}, b"two\nthree\nfour\n"),
        ({"tail_lines": 0}, b""),
        ({"tail_lines": 99}, b"one\ntwo\nthree\nfour\n"),
        ({"limit_bytes": 6}, b"one\ntw"),
        ({"since": parse_stamp("2024-01-01T00:00:04Z")}, b"three\nfour\n"),
        ({"timestamps": True, "tail_lines": 3, "limit_bytes": 35}, b"2024-01-01T00:00:02.000000000Z two\n"),
    ],
)
async def test_reading(log, options, wanted):
    assert await read(log, **options) == wanted


async def test_channels(log):
    assert [
        channel
        for channel, _ in [item async for item in read_log(log, LogOptions(tail_lines=2), lambda: True)]
    ] == [2, 1]


async def test_nothing_there(tmp_path):
    assert await read(tmp_path / "none" / "0.log") == b""
    assert tail_text(tmp_path / "none" / "0.log", lines=3, limit=10) == ""


@pytest.mark.looptime
async def test_following_over_a_rotation(tmp_path):
    path = tmp_path / "0.log"
    writer = LogWriter(path)
    over = False
    got = bytearray()

    async def follow():
        async for _, data in read_log(path, LogOptions(follow=True), lambda: over):
            got.extend(data)

    task = asyncio.ensure_future(follow())
    for number in range(6):
        writer.write(1, b"line %d\n" % number, 0.0)
        if number == 3:
            path.rename(path.with_name("0.log.20240101-000000.000000"))
            writer.write(1, b"late\n", 0.0)
            writer.reopen()
        await asyncio.sleep(0.5)
    over = True
    writer.write(1, b"last", 0.0)
    writer.close()
    await asyncio.wait_for(task, 5)
    assert got == b"line 0\nline 1\nline 2\nline 3\nlate\nline 4\nline 5\nlast"


@given(st.lists(st.binary(max_size=30).filter(lambda b: b"\n" not in b), max_size=20), st.integers(0, 25))
def test_tail_is_the_end_of_the_whole(tmp_path_factory, lines, count):
    path = tmp_path_factory.mktemp("log") / "0.log"
    writer = LogWriter(path)
    writer.write(1, b"".join(line + b"\n" for line in lines), 0.0)
    writer.close()
    wanted = (
        b"".join(line + b"\n" for line in lines[len(lines) - count if count < len(lines) else 0 :])
        if count
        else b""
    )
    assert asyncio.run(read(path, tail_lines=count)) == wanted


@pytest.mark.parametrize("raw", [b"", b"x\n", b"x stdout\n"])
def test_what_is_no_record(raw):
    assert parse_line(raw) is None


class Writers:
    """Sessions whose log writers open anew, or cannot."""

    def __init__(self, writer, *, fail=False):
        self.writer, self.fail = writer, fail

    async def reopen_log(self, container):
        if self.fail:
            raise RuntimeFailure("no")
        self.writer.reopen()


def info(path):
    return ContainerInfo(
        id="x", name="x", image="", image_id="", phase=Phase.RUNNING, labels={labels.LOG_PATH: str(path)}
    )


async def test_rotation_keeps_so_many_files(tmp_path):
    path = tmp_path / "0.log"
    writer = LogWriter(path)
    rotation = Rotation(Writers(writer), max_bytes=100, max_files=3)
    for number in range(6):
        writer.write(1, b"%d" % number * 90 + b"\n", 0.0)
        await rotation.sweep([info(path)], 1_700_000_000.0 + number)
    assert len(generations(path)) == 3
    assert (await read(path)).split() == [b"4" * 90, b"5" * 90]
    writer.close()


async def test_a_rotation_that_fails_loses_nothing(tmp_path):
    path = tmp_path / "0.log"
    writer = LogWriter(path)
    writer.write(1, b"x" * 200 + b"\n", 0.0)
    await Rotation(Writers(writer, fail=True), max_bytes=100, max_files=3).sweep([info(path)], 1.0)
    assert generations(path) == [path]
    writer.close()
