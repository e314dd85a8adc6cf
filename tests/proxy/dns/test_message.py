"""Reading and writing DNS messages."""

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.proxy.dns.forward import _entry
from edgekube.proxy.dns.message import (
    Answer,
    Code,
    Malformed,
    Query,
    Record,
    Type,
    build,
    pack_name,
    parse_query,
)

LABELS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
NAMES = st.lists(LABELS, min_size=1, max_size=6).map(tuple)


@given(NAMES, st.sampled_from(["A", "AAAA", "SRV", "PTR"]), st.integers(0, 65535), st.booleans())
def test_reads_what_dnslib_writes(name, kind, size, edns):
    query = dnslib.DNSRecord.question(".".join(name).upper(), kind)
    if edns:
        query.add_ar(dnslib.EDNS0(udp_len=size))
    read = parse_query(query.pack())
    assert (read.name, read.type, read.code, read.edns) == (
        name,
        getattr(dnslib.QTYPE, kind),
        Code.NOERROR,
        edns,
    )
    assert read.size == (min(max(size, 512), 1232) if edns else 512)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=12), NAMES)
def test_dnslib_reads_what_is_written(records, asked):
    query = parse_query(dnslib.DNSRecord.question(".".join(asked)).pack())
    made = [Record(name, Type.PTR, 5, pack_name(target)) for name, target in records]
    read = dnslib.DNSRecord.parse(build(query, Answer(answers=made, additional=made), limit=65535))
    expected = [(f"{'.'.join(name)}.", f"{'.'.join(target)}.") for name, target in records]
    assert [(str(record.rname), str(record.rdata)) for record in read.rr] == expected
    assert [(str(record.rname), str(record.rdata)) for record in read.ar] == expected
    assert read.header.tc == 0


@given(st.integers(512, 1232), st.integers(0, 100))
def test_keeps_to_the_limit(limit, count):
    query = parse_query(dnslib.DNSRecord.question("web.a.svc.cluster.local").pack())
    records = [Record(query.name, Type.A, 5, bytes([10, 0, 0, number])) for number in range(count)]
    packed = build(query, Answer(answers=records), limit=limit)
    read = dnslib.DNSRecord.parse(packed)
    assert len(packed) <= limit
    assert read.header.tc == (len(read.rr) < count)


QUERY = dnslib.DNSRecord.question("web.a.svc.cluster.local")
QUERY.add_ar(dnslib.EDNS0(udp_len=1232))


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=40).map(lambda tail: QUERY.pack()[:12] + tail)))
def test_any_bytes_are_a_query_or_malformed(data):
    try:
        query = parse_query(data)
    except Malformed:
        return
    assert isinstance(query, Query)
    answer = build(query, Answer(query.code, authoritative=False), limit=512)
    assert answer[:2] == data[:2]
    dnslib.DNSRecord.parse(answer)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_damaged_answers_are_not_remembered_wrongly(place, noise):
    answer = QUERY.reply()
    answer.add_answer(*dnslib.RR.fromZone("web.a.svc.cluster.local. 60 IN A 192.0.2.7"))
    packed = bytearray(answer.pack())
    packed[place : place + len(noise)] = noise
    if len(packed) >= 12:
        entry = _entry(bytes(packed), 0.0)
        assert entry is None or 0 < entry.expires <= 300


@pytest.mark.parametrize("data", [b"", b"\0" * 11, b"\0\0\x80\0" + b"\0" * 8])
def test_deserve_no_answer(data):
    with pytest.raises(Malformed):
        parse_query(data)
