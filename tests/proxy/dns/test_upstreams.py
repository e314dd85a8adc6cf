"""The ConfigMap of stub domains, and answers that outlive their servers."""

import asyncio
import struct

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.proxy.dns.forward import Forwarder, disguised
from edgekube.proxy.dns.upstreams import BadUpstreams, Wish, parse_wish, server_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [("192.0.2.1", ("192.0.2.1", 53)), (" 192.0.2.1:5353 ", ("192.0.2.1", 5353))],
)
def test_a_server_is_an_address_and_perhaps_a_port(text, expected):
    assert server_of(text) == expected


@pytest.mark.parametrize(
    "text", ["", "ns.example.org", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:x", "::1"]
)
def test_anything_else_is_none(text):
    with pytest.raises(BadUpstreams):
        server_of(text)


def test_the_config_map_is_kube_dns_s():
    data = {
        "stubDomains": '{"Acme.local": ["192.0.2.1"], "consul.": ["192.0.2.2:8600", "192.0.2.3"]}',
        "upstreamNameservers": '["192.0.2.9"]',
    }
    assert parse_wish(data) == Wish(
        {
            ("acme", "local"): (("192.0.2.1", 53),),
            ("consul",): (("192.0.2.2", 8600), ("192.0.2.3", 53)),
        },
        (("192.0.2.9", 53),),
    )
    assert parse_wish({}) == Wish()


@pytest.mark.parametrize(
    "data",
    [
        {"stubDomains": "{"},
        {"stubDomains": "[]"},
        {"stubDomains": '{"": ["192.0.2.1"]}'},
        {"stubDomains": '{"a..b": ["192.0.2.1"]}'},
        {"stubDomains": '{"a": "192.0.2.1"}'},
        {"upstreamNameservers": "{}"},
        {"upstreamNameservers": "[1]"},
    ],
)
def test_a_bad_one_says_so(data):
    with pytest.raises(BadUpstreams):
        parse_wish(data)


LABEL = st.text("abcXYZ019-_[@`{", min_size=1, max_size=63)


@given(st.lists(LABEL, max_size=3), st.integers(0, 2**256 - 1))
def test_a_disguise_changes_nothing_but_the_case_of_letters(labels, bits):
    name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
    body = struct.pack(">HHHHH", 0x100, 1, 0, 0, 0) + name + b"\0\1\0\1"
    made = disguised(body, bits)
    assert made.lower() == body.lower()
    assert made[:10] == body[:10]
    assert disguised(made, bits) == body


class Flaky(asyncio.DatagramProtocol):
    """Answers for one second of TTL, until it fails."""

    failing = False

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, client):
        query = dnslib.DNSRecord.parse(data)
        answer = query.reply()
        if self.failing:
            answer.header.rcode = 2
        else:
            answer.add_answer(*dnslib.RR.fromZone("www.example.org. 1 IN A 192.0.2.7"))
        self.transport.sendto(answer.pack(), client)


async def test_a_stale_answer_is_better_than_none():
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(Flaky, local_addr=("127.0.0.1", 0))
    forwarder = Forwarder([transport.get_extra_info("sockname")])
    query = bytes(dnslib.DNSRecord.question("www.example.org").pack())
    try:
        assert await forwarder.ask(query)
        async with asyncio.timeout(20):
            while forwarder.remembered(query) is not None:
                await asyncio.sleep(0.05)
        server.failing = True
        for asked in (query, b"zz" + query[2:]):
            answer = await forwarder.ask(asked)
            assert answer is not None
            assert answer[:2] == asked[:2]
            found = dnslib.DNSRecord.parse(answer)
            assert [str(record.rdata) for record in found.rr] == ["192.0.2.7"]
            assert found.rr[0].ttl == 30
        # What never was answered is not made up.
        other = await forwarder.ask(bytes(dnslib.DNSRecord.question("no.example.org").pack()))
        assert other is not None
        assert dnslib.DNSRecord.parse(other).header.rcode == 2
    finally:
        transport.close()
