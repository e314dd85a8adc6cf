import struct
import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiserver.streams.spdy_client import syn
from edgekube.apiserver.streams import spdy


def conversation():
    deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
    return (
        syn(1, {"streamType": "error", "port": "80", "requestID": "0"}, deflate)
        + syn(3, {"streamType": "data", "port": "80", "requestID": "0"}, deflate)
        + spdy.data(3, b"hello")
        + struct.pack(">HHII", 0x8003, 6, 4, 9)
        + spdy.data(3, b"", fin=True)
        + struct.pack(">HHIII", 0x8003, 3, 8, 1, 5)
        + struct.pack(">HHIII", 0x8003, 9, 8, 1, 100)
        + struct.pack(">HHIII", 0x8003, 7, 8, 3, 0)
    )


def test_a_conversation():
    events = spdy.Connection().feed(conversation())
    opened = [e for e in events if isinstance(e, spdy.Opened)]
    assert [(e.stream, e.headers["streamtype"]) for e in opened] == [(1, "error"), (3, "data")]
    assert [(e.data, e.fin) for e in events if isinstance(e, spdy.Data)] == [(b"hello", False), (b"", True)]
    assert [e.data for e in events if isinstance(e, spdy.Answer)] == [struct.pack(">HHII", 0x8003, 6, 4, 9)]
    assert spdy.Reset(1) in events
    assert isinstance(events[-1], spdy.Goodbye)


@given(st.lists(st.integers(0, len(conversation())), max_size=8))
def test_it_means_the_same_however_it_is_cut(cuts):
    whole, connection = conversation(), spdy.Connection()
    edges = [0, *sorted(cuts), len(whole)]
    events = [e for a, b in pairwise(edges) for e in connection.feed(whole[a:b])]
    assert events == spdy.Connection().feed(whole)


@given(st.binary(max_size=100))
def test_any_bytes_are_an_error_or_events(data):
    with suppress(spdy.SpdyError):
        spdy.Connection().feed(data)


def test_a_reply_can_be_read_with_the_dictionary():
    connection = spdy.Connection()
    for stream in (1, 3):
        frame = connection.reply(stream)
        assert struct.unpack_from(">HH", frame) == (0x8003, 2)
        assert struct.unpack_from(">I", frame, 8) == (stream,)


def test_what_is_not_spdy_31_is_refused():
    with pytest.raises(spdy.SpdyError):
        spdy.Connection().feed(struct.pack(">HHI", 0x8002, 1, 0))
