"""The DNS server as its clients see it, by dnslib as an independent reader."""

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager
from random import randint

import dnslib
import pytest

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, discovery_v1, meta_v1
from edgekube.control.mirror import Mirror
from edgekube.proxy.dns.server import DnsError, DnsServer

PORT = 5301


def loopback() -> str:
    """Return an address of this machine that nobody else uses."""
    return f"127.{randint(1, 254)}.{randint(0, 254)}.{randint(1, 254)}"


def service(name, *, namespace="a", ports=(("http", 80, "TCP"),), **spec):
    made = tuple(
        core_v1.ServicePort(name=port, port=number, protocol=protocol) for port, number, protocol in ports
    )
    return core_v1.Service(
        metadata=meta_v1.ObjectMeta(namespace=namespace, name=name),
        spec=core_v1.ServiceSpec(ports=made, **spec),
    )


def endpoints(of, *given, name="", port=8080):
    made = tuple(
        discovery_v1.Endpoint(
            addresses=(address,), hostname=hostname, conditions=discovery_v1.EndpointConditions(ready=ready)
        )
        for address, hostname, ready in given
    )
    return discovery_v1.EndpointSlice(
        metadata=meta_v1.ObjectMeta(
            namespace="a", name=name or f"{of}-1", labels={"kubernetes.io/service-name": of}
        ),
        address_type="IPv4",
        endpoints=made,
        ports=(discovery_v1.EndpointPort(name="http", port=port, protocol="TCP"),),
    )


def filled() -> Mirror:
    mirror = Mirror()
    mirror.services.replace(
        [
            service("web", cluster_ip="10.96.7.1", ports=(("http", 80, "TCP"), ("dns", 53, "UDP"))),
            service("db", cluster_ip="None"),
            service("empty", cluster_ip="None"),
            service("pending"),
            service("out", type="ExternalName", external_name="www.example.org"),
            service("in", type="ExternalName", external_name="web.a.svc.cluster.local."),
            service("loop", type="ExternalName", external_name="loop.a.svc.cluster.local"),
        ]
    )
    mirror.endpoint_slices.replace(
        [
            endpoints(
                "db", ("10.244.1.5", "db-0", True), ("10.244.1.6", "", True), ("10.244.1.7", "db-2", False)
            ),
            endpoints("web", ("10.244.1.9", "", True)),
        ]
    )
    return mirror


def dns_config(**data) -> core_v1.ConfigMap:
    return core_v1.ConfigMap(
        metadata=meta_v1.ObjectMeta(namespace="kube-system", name="edgekube-dns"),
        data={name: json.dumps(value) for name, value in data.items()},
    )


class Upstream:
    """A server elsewhere, which counts what it is asked."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: list[str] = []
        self.spelled: list[str] = []
        """The same, letter by letter."""
        self.lowers = False
        self.tcp = 0
        self.code = 0

    def reply(self, data: bytes, *, tcp: bool) -> bytes:
        query = dnslib.DNSRecord.parse(data)
        self.spelled.append(str(query.q.qname))
        name = str(query.q.qname).lower()
        self.asked.append(name)
        if self.lowers and not tcp:
            query.q.qname = name
        answer = query.reply(ra=1, aa=0)
        if self.code:
            answer.header.rcode = self.code
        elif name.lower() == "www.example.org." and query.q.qtype == dnslib.QTYPE.A:
            answer.add_answer(*dnslib.RR.fromZone("www.example.org. 60 IN A 192.0.2.7"))
        elif name == "big.example.org.":
            self.tcp += tcp
            for number in range(100) if tcp else ():
                answer.add_answer(*dnslib.RR.fromZone(f"big.example.org. 60 IN A 192.0.2.{number}"))
            answer.header.tc = 0 if tcp else 1
        else:
            answer.header.rcode = 3
            soa = "example.org. 900 IN SOA ns.example.org. root.example.org. 1 7200 1800 86400 900"
            answer.add_auth(*dnslib.RR.fromZone(soa))
        return answer.pack()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        pass

    def datagram_received(self, data, client):
        answer = self.reply(data, tcp=False)
        # A forger guesses first: another id, then another question.
        self.transport.sendto(bytes([answer[0] ^ 1]) + answer[1:], client)
        self.transport.sendto(answer[:13] + b"x" + answer[14:], client)
        self.transport.sendto(answer, client)

    async def stream(self, reader, writer):
        (size,) = struct.unpack(">H", await reader.readexactly(2))
        answer = self.reply(await reader.readexactly(size), tcp=True)
        writer.write(struct.pack(">H", len(answer)) + answer)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def upstream():
    loop = asyncio.get_running_loop()
    made = Upstream(loopback())
    transport, _protocol = await loop.create_datagram_endpoint(lambda: made, local_addr=(made.address, PORT))
    server = await asyncio.start_server(made.stream, made.address, PORT)
    try:
        yield made
    finally:
        transport.close()
        server.close()


@asynccontextmanager
async def serving(mirror, *upstreams):
    address = loopback()
    task = asyncio.create_task(DnsServer(mirror, addresses=[address], upstreams=upstreams, port=PORT).run())
    await asyncio.sleep(0.02)
    assert not task.done(), task
    try:
        yield address
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def send(address: str, data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as made:
        made.connect((address, PORT))
        made.send(data)
        async with asyncio.timeout(10):
            return await loop.sock_recv(made, 65535)


async def send_stream(address: str, *queries: bytes) -> list[bytes]:
    reader, writer = await asyncio.open_connection(address, PORT)
    answers = []
    for data in queries:
        writer.write(struct.pack(">H", len(data)) + data)
        (size,) = struct.unpack(">H", await reader.readexactly(2))
        answers.append(await reader.readexactly(size))
    writer.close()
    await writer.wait_closed()
    return answers


async def ask(address: str, name: str, kind: str = "A", *, edns: int = 0) -> dnslib.DNSRecord:
    query = dnslib.DNSRecord.question(name, kind)
    if edns:
        query.add_ar(dnslib.EDNS0(udp_len=edns))
    answer = dnslib.DNSRecord.parse(await send(address, query.pack()))
    assert answer.header.id == query.header.id
    assert answer.q == query.q
    return answer


def data(answer: dnslib.DNSRecord) -> list[str]:
    return sorted(str(record.rdata) for record in answer.rr)


def code(answer: dnslib.DNSRecord) -> str:
    return dnslib.RCODE[answer.header.rcode]


class TestClusterNames:
    @pytest.mark.parametrize(
        ("name", "kind", "expected"),
        [
            ("web.a.svc.cluster.local", "A", ["10.96.7.1"]),
            ("WEB.a.svc.Cluster.LOCAL", "A", ["10.96.7.1"]),
            ("db.a.svc.cluster.local", "A", ["10.244.1.5", "10.244.1.6"]),
            ("db-0.db.a.svc.cluster.local", "A", ["10.244.1.5"]),
            ("10-244-1-6.db.a.svc.cluster.local", "A", ["10.244.1.6"]),
            ("10-244-1-9.a.pod.cluster.local", "A", ["10.244.1.9"]),
            ("_http._tcp.web.a.svc.cluster.local", "SRV", ["0 100 80 web.a.svc.cluster.local."]),
            ("_dns._udp.web.a.svc.cluster.local", "SRV", ["0 100 53 web.a.svc.cluster.local."]),
            (
                "_http._tcp.db.a.svc.cluster.local",
                "SRV",
                ["0 50 8080 10-244-1-6.db.a.svc.cluster.local.", "0 50 8080 db-0.db.a.svc.cluster.local."],
            ),
            ("1.7.96.10.in-addr.arpa", "PTR", ["web.a.svc.cluster.local."]),
            ("5.1.244.10.in-addr.arpa", "PTR", ["db-0.db.a.svc.cluster.local."]),
            ("in.a.svc.cluster.local", "A", ["10.96.7.1", "web.a.svc.cluster.local."]),
            ("out.a.svc.cluster.local", "CNAME", ["www.example.org."]),
            ("loop.a.svc.cluster.local", "A", ["loop.a.svc.cluster.local."]),
            ("dns-version.cluster.local", "TXT", ['"1.1.0"']),
            ("cluster.local", "NS", ["ns.dns.cluster.local."]),
        ],
    )
    async def test_are_answered(self, name, kind, expected):
        async with serving(filled()) as address:
            for _again in range(2):
                answer = await ask(address, name, kind)
                assert (code(answer), data(answer)) == ("NOERROR", expected)
                assert answer.header.aa == 1

    @pytest.mark.parametrize(
        ("name", "kind", "expected"),
        [
            ("web.a.svc.cluster.local", "AAAA", "NOERROR"),
            ("a.svc.cluster.local", "A", "NOERROR"),
            ("svc.cluster.local", "A", "NOERROR"),
            ("_tcp.web.a.svc.cluster.local", "A", "NOERROR"),
            ("pending.a.svc.cluster.local", "A", "NOERROR"),
            ("nobody.a.svc.cluster.local", "A", "NXDOMAIN"),
            ("web.b.svc.cluster.local", "A", "NXDOMAIN"),
            ("b.svc.cluster.local", "A", "NXDOMAIN"),
            ("empty.a.svc.cluster.local", "A", "NXDOMAIN"),
            ("db-2.db.a.svc.cluster.local", "A", "NXDOMAIN"),
            ("x.web.a.svc.cluster.local", "A", "NXDOMAIN"),
            ("_http._udp.web.a.svc.cluster.local", "SRV", "NXDOMAIN"),
            ("a.b.c.web.a.svc.cluster.local", "A", "NXDOMAIN"),
            ("10-244-1.a.pod.cluster.local", "A", "NXDOMAIN"),
            ("example.org.cluster.local", "A", "NXDOMAIN"),
        ],
    )
    async def test_that_are_not_there_are_denied_with_a_soa(self, name, kind, expected):
        async with serving(filled()) as address:
            answer = await ask(address, name, kind)
            assert (code(answer), data(answer)) == (expected, [])
            assert [dnslib.QTYPE[record.rtype] for record in answer.auth] == ["SOA"]
            assert str(answer.auth[0].rname) == "cluster.local."

    async def test_srv_brings_the_addresses_along(self):
        async with serving(filled()) as address:
            answer = await ask(address, "_http._tcp.db.a.svc.cluster.local", "SRV")
            assert {(str(record.rname), str(record.rdata)) for record in answer.ar} == {
                ("db-0.db.a.svc.cluster.local.", "10.244.1.5"),
                ("10-244-1-6.db.a.svc.cluster.local.", "10.244.1.6"),
            }

    async def test_several_addresses_take_turns(self):
        async with serving(filled()) as address:
            first = {str((await ask(address, "db.a.svc.cluster.local")).rr[0].rdata) for _number in range(4)}
            assert first == {"10.244.1.5", "10.244.1.6"}

    async def test_changes_show_at_once(self):
        mirror = filled()
        async with serving(mirror) as address:
            name = "db.a.svc.cluster.local"
            assert len((await ask(address, name)).rr) == 2
            mirror.endpoint_slices.set(endpoints("db", ("10.244.9.9", "", True)))
            assert data(await ask(address, name)) == ["10.244.9.9"]
            assert data(await ask(address, name)) == ["10.244.9.9"]
            mirror.services.drop(Key("a", "db"))
            assert code(await ask(address, name)) == "NXDOMAIN"

    async def test_nothing_is_denied_before_everything_is_known(self):
        mirror = Mirror()
        async with serving(mirror) as address:
            assert code(await ask(address, "web.a.svc.cluster.local")) == "SERVFAIL"
            full = filled()
            mirror.services.replace(full.services)
            mirror.endpoint_slices.replace(full.endpoint_slices)
            assert data(await ask(address, "web.a.svc.cluster.local")) == ["10.96.7.1"]

    async def test_many_addresses_are_truncated_and_complete_over_tcp(self):
        mirror = filled()
        many = [(f"10.244.2.{number}", "", True) for number in range(1, 201)]
        mirror.endpoint_slices.set(endpoints("db", *many))
        async with serving(mirror) as address:
            short = await ask(address, "db.a.svc.cluster.local")
            assert short.header.tc == 1
            assert 10 < len(short.rr) < 32
            longer = await ask(address, "db.a.svc.cluster.local", edns=4096)
            assert longer.header.tc == 1
            assert 60 < len(longer.rr) < 80
            assert longer.ar[0].rtype == dnslib.QTYPE.OPT
            query = dnslib.DNSRecord.question("db.a.svc.cluster.local").pack()
            other = dnslib.DNSRecord.question("web.a.svc.cluster.local").pack()
            full, web = map(dnslib.DNSRecord.parse, await send_stream(address, query, other))
            assert (full.header.tc, len(full.rr)) == (0, 200)
            assert data(web) == ["10.96.7.1"]


class TestElsewhere:
    async def test_is_asked_and_remembered(self):
        async with upstream() as other, serving(filled(), f"{other.address}:{PORT}") as address:
            for _again in range(3):
                answer = await ask(address, "www.example.org")
                assert data(answer) == ["192.0.2.7"]
                assert 0 < answer.rr[0].ttl <= 60
                assert answer.header.ra == 1
            assert other.asked == ["www.example.org."]
            for _again in range(2):
                assert code(await ask(address, "no.example.org")) == "NXDOMAIN"
            assert other.asked == ["www.example.org.", "no.example.org."]

    async def test_cluster_names_are_not_asked_there(self):
        async with upstream() as other, serving(filled(), f"{other.address}:{PORT}") as address:
            assert code(await ask(address, "nobody.a.svc.cluster.local")) == "NXDOMAIN"
            assert other.asked == []

    async def test_an_external_name_is_followed(self):
        async with upstream() as other, serving(filled(), f"{other.address}:{PORT}") as address:
            answer = await ask(address, "out.a.svc.cluster.local")
            assert [str(record.rdata) for record in answer.rr] == ["www.example.org.", "192.0.2.7"]
            assert str(answer.rr[1].rname) == "www.example.org."

    async def test_large_answers_come_over_tcp(self):
        async with upstream() as other, serving(filled(), f"{other.address}:{PORT}") as address:
            short = await ask(address, "big.example.org")
            assert short.header.tc == 1
            (full,) = await send_stream(address, dnslib.DNSRecord.question("big.example.org").pack())
            assert len(dnslib.DNSRecord.parse(full).rr) == 100
            assert other.tcp == 1

    async def test_a_second_server_helps_out(self):
        async with upstream() as other:
            # Nobody listens at the first.
            servers = (f"{loopback()}:{PORT}", f"{other.address}:{PORT}")
            async with serving(filled(), *servers) as address:
                assert data(await ask(address, "www.example.org")) == ["192.0.2.7"]

    async def test_a_server_that_fails_is_passed_over(self):
        async with upstream() as bad, upstream() as good:
            bad.code = 2
            async with serving(filled(), f"{bad.address}:{PORT}", f"{good.address}:{PORT}") as address:
                assert data(await ask(address, "www.example.org")) == ["192.0.2.7"]
                good.code = 5
                assert code(await ask(address, "other.example.org")) in {"SERVFAIL", "REFUSED"}

    async def test_letters_are_by_chance_and_the_clients_come_back(self):
        async with upstream() as other, serving(filled(), f"{other.address}:{PORT}") as address:
            name = "n" * 40 + ".Example.org"
            assert str((await ask(address, name)).q.qname) == f"{name}."
            assert other.spelled[0] != other.spelled[0].lower()
            assert other.asked == [f"{name.lower()}."]

    async def test_an_answer_in_other_letters_is_asked_for_over_tcp(self):
        async with upstream() as other, serving(filled(), f"{other.address}:{PORT}") as address:
            other.lowers = True
            assert data(await ask(address, "www.example.org")) == ["192.0.2.7"]
            assert other.asked == ["www.example.org."] * 2

    async def test_stub_domains_and_servers_come_from_the_config_map(self):
        mirror = filled()
        async with upstream() as stub, upstream() as own, upstream() as said:
            servers = (f"{own.address}:{PORT}",)
            async with serving(mirror, *servers) as address:
                await ask(address, "a.example.org")
                stubs = {"example.org": [f"{stub.address}:{PORT}"]}
                mirror.config_maps.set(
                    dns_config(stubDomains=stubs, upstreamNameservers=[f"{said.address}:{PORT}"])
                )
                for name in ("www.Example.org", "example.org", "example.net", "www.badexample.org"):
                    await ask(address, name)
                assert "192.0.2.7" in data(await ask(address, "out.a.svc.cluster.local"))
                assert set(stub.asked) == {"www.example.org.", "example.org."}
                assert said.asked == ["example.net.", "www.badexample.org."]
                # What makes no sense leaves everything as it is; without it the node's own are asked.
                mirror.config_maps.set(dns_config(stubDomains=["example.org"]))
                await ask(address, "example.com")
                assert said.asked[-1] == "example.com."
                mirror.config_maps.replace(())
                await ask(address, "b.example.org")
                assert own.asked == ["a.example.org.", "b.example.org."]

    async def test_a_config_map_gives_a_node_without_servers_one(self):
        mirror = filled()
        async with upstream() as said, serving(mirror) as address:
            assert code(await ask(address, "www.example.org")) == "REFUSED"
            mirror.config_maps.set(dns_config(upstreamNameservers=[f"{said.address}:{PORT}"]))
            assert data(await ask(address, "www.example.org")) == ["192.0.2.7"]

    async def test_without_servers_refuses_at_once(self):
        async with serving(filled()) as address:
            assert code(await ask(address, "www.example.org")) == "REFUSED"
            assert data(await ask(address, "out.a.svc.cluster.local")) == ["www.example.org."]

    async def test_when_nobody_listens_fails(self):
        async with serving(filled(), f"{loopback()}:{PORT}") as address:
            assert code(await ask(address, "www.example.org")) == "SERVFAIL"
            assert code(await ask(address, "other.example.org")) == "SERVFAIL"
            assert data(await ask(address, "web.a.svc.cluster.local")) == ["10.96.7.1"]


class TestRobustness:
    async def test_bad_messages_are_answered_or_dropped_and_never_stop_it(self):
        good = dnslib.DNSRecord.question("web.a.svc.cluster.local").pack()
        async with serving(filled()) as address:
            answer = dnslib.DNSRecord.parse(await send(address, good[:12] + b"\xc0\x0c\0\1\0\1"))
            assert code(answer) == "FORMERR"
            assert (
                code(dnslib.DNSRecord.parse(await send(address, good[:2] + b"\x28\0" + good[4:]))) == "NOTIMP"
            )
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as made:
                made.connect((address, PORT))
                for bad in (b"", b"\0", good[:11], good[:2] + b"\x80" + good[3:]):
                    made.send(bad)
                made.send(good)
                async with asyncio.timeout(10):
                    answer = dnslib.DNSRecord.parse(await loop.sock_recv(made, 65535))
            assert data(answer) == ["10.96.7.1"]
            # A stream that ends in the middle, and one that brings nonsense.
            for bad in (b"\0", b"\0\x10abc", b"\0\x03abc"):
                _reader, writer = await asyncio.open_connection(address, PORT)
                writer.write(bad)
                writer.close()
            (full,) = await send_stream(address, good)
            assert data(dnslib.DNSRecord.parse(full)) == ["10.96.7.1"]

    async def test_other_classes_and_newer_edns_are_refused(self):
        async with serving(filled()) as address:
            query = dnslib.DNSRecord(q=dnslib.DNSQuestion("web.a.svc.cluster.local", 1, 3))
            assert code(dnslib.DNSRecord.parse(await send(address, query.pack()))) == "REFUSED"
            query = dnslib.DNSRecord.question("web.a.svc.cluster.local")
            query.add_ar(dnslib.EDNS0(version=1))
            answer = dnslib.DNSRecord.parse(await send(address, query.pack()))
            assert answer.ar[0].edns_rcode << 4 | answer.header.rcode == 16

    async def test_listens_before_its_address_is_there(self):
        task = asyncio.create_task(DnsServer(filled(), addresses=["192.0.2.53"], port=PORT).run())
        await asyncio.sleep(0.02)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_says_which_address_is_taken_and_starts_again_at_once(self):
        mirror = filled()
        address = loopback()
        first = asyncio.create_task(DnsServer(mirror, addresses=[address], port=PORT).run())
        await asyncio.sleep(0.02)
        with pytest.raises(DnsError, match=f"{address} port {PORT}: Address already in use"):
            await DnsServer(mirror, addresses=[address], port=PORT).run()
        await send_stream(address, dnslib.DNSRecord.question("web.a.svc.cluster.local").pack())
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(DnsServer(mirror, addresses=[address], port=PORT).run())
        await asyncio.sleep(0.02)
        assert data(await ask(address, "web.a.svc.cluster.local")) == ["10.96.7.1"]
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
