"""
The Kubernetes DNS-Based Service Discovery specification, version 1.1.0, clause by clause.

Each row is what one clause promises, asked of the running server and read by dnslib. The examples'
addresses are the specification's own where it has any.
"""

import asyncio
import ipaddress
import socket
from random import randint

import dnslib
import pytest

from edgekube.api.types import core_v1, discovery_v1, meta_v1
from edgekube.control.mirror import Mirror
from edgekube.proxy.dns.server import DnsServer

PORT = 5302
ZONE = "cluster.local."
V6 = "fd00:10:96::1:2"


def service(name, *ports, **spec):
    made = tuple(core_v1.ServicePort(name=port, port=number, protocol=proto) for port, number, proto in ports)
    meta = meta_v1.ObjectMeta(namespace="default", name=name)
    return core_v1.Service(metadata=meta, spec=core_v1.ServiceSpec(ports=made, **spec))


def endpoints(of, *given, family="IPv4", ports=(("https", 443),)):
    made = tuple(
        discovery_v1.Endpoint(
            addresses=(address,), hostname=hostname, conditions=discovery_v1.EndpointConditions(ready=ready)
        )
        for address, hostname, ready in given
    )
    meta = meta_v1.ObjectMeta(
        namespace="default", name=f"{of}-{family}", labels={"kubernetes.io/service-name": of}
    )
    numbers = tuple(
        discovery_v1.EndpointPort(name=name, port=number, protocol="TCP") for name, number in ports
    )
    return discovery_v1.EndpointSlice(metadata=meta, address_type=family, endpoints=made, ports=numbers)


SERVICES = [
    service("kubernetes", ("https", 443, "TCP"), cluster_ip="10.3.0.1", cluster_ips=("10.3.0.1", V6)),
    service("plain", ("", 80, "TCP"), cluster_ip="10.3.0.2", cluster_ips=("10.3.0.2",)),
    service("six", ("https", 443, "UDP"), cluster_ip=f"{V6[:-1]}3", cluster_ips=(f"{V6[:-1]}3",)),
    service("headless", ("https", 443, "TCP"), cluster_ip="None", cluster_ips=("None",)),
    service("silent", ("https", 443, "TCP"), cluster_ip="None", cluster_ips=("None",)),
    service("foo", type="ExternalName", external_name="www.example.com"),
]
SLICES = [
    endpoints(
        "headless", ("10.3.0.100", "", True), ("10.3.0.101", "my-pet", True), ("10.3.0.102", "sick", False)
    ),
    endpoints("headless", ("fd00:10:244::5", "", True), ("fd00:10:244::6", "my-pet", True), family="IPv6"),
    endpoints("silent", ("10.3.0.110", "", False)),
]


def reverse(address):
    return ipaddress.ip_address(address).reverse_pointer + "."


def srv(port, target):
    return f"{port} {target}.svc.{ZONE}"


SIX_LABEL = "fd00-10-244--5"
# clause, name, type, code, answers
TABLE = [
    ("2.2 schema version", f"dns-version.{ZONE}", "TXT", "NOERROR", {'"1.1.0"'}),
    ("2.3.1 A of a ClusterIP", f"kubernetes.default.svc.{ZONE}", "A", "NOERROR", {"10.3.0.1"}),
    ("2.3.1 AAAA of a ClusterIP", f"kubernetes.default.svc.{ZONE}", "AAAA", "NOERROR", {V6}),
    ("2.3.1 no AAAA of an IPv4 Service", f"plain.default.svc.{ZONE}", "AAAA", "NOERROR", set()),
    ("2.3.1 no A of an IPv6 Service", f"six.default.svc.{ZONE}", "A", "NOERROR", set()),
    ("2.3.1 names are case-insensitive", f"KuberNetes.DEFAULT.svc.{ZONE}", "A", "NOERROR", {"10.3.0.1"}),
    ("2.3.2 SRV of a named port", f"_https._tcp.kubernetes.default.svc.{ZONE}", "SRV", "NOERROR",
     {srv(443, "kubernetes.default")}),
    ("2.3.2 SRV of a UDP port", f"_https._udp.six.default.svc.{ZONE}", "SRV", "NOERROR",
     {srv(443, "six.default")}),
    ("2.3.2 no SRV of another protocol", f"_https._udp.kubernetes.default.svc.{ZONE}", "SRV", "NXDOMAIN", set()),
    ("2.3.2 no SRV of an unnamed port", f"plain.default.svc.{ZONE}", "SRV", "NOERROR", set()),
    ("2.3.3 PTR of an IPv4 ClusterIP", reverse("10.3.0.1"), "PTR", "NOERROR", {f"kubernetes.default.svc.{ZONE}"}),
    ("2.3.3 PTR of an IPv6 ClusterIP", reverse(V6), "PTR", "NOERROR", {f"kubernetes.default.svc.{ZONE}"}),
    ("2.4.1 A of ready endpoints only", f"headless.default.svc.{ZONE}", "A", "NOERROR",
     {"10.3.0.100", "10.3.0.101"}),
    ("2.4.1 AAAA of ready endpoints", f"headless.default.svc.{ZONE}", "AAAA", "NOERROR",
     {"fd00:10:244::5", "fd00:10:244::6"}),
    ("2.4.1 A of a hostname", f"my-pet.headless.default.svc.{ZONE}", "A", "NOERROR", {"10.3.0.101"}),
    ("2.4.1 AAAA of a hostname", f"my-pet.headless.default.svc.{ZONE}", "AAAA", "NOERROR", {"fd00:10:244::6"}),
    ("2.4.1 A of an endpoint without hostname", f"10-3-0-100.headless.default.svc.{ZONE}", "A", "NOERROR",
     {"10.3.0.100"}),
    ("2.4.1 AAAA of an endpoint without hostname", f"{SIX_LABEL}.headless.default.svc.{ZONE}", "AAAA", "NOERROR",
     {"fd00:10:244::5"}),
    ("2.4.1 no record of one that is not ready", f"sick.headless.default.svc.{ZONE}", "A", "NXDOMAIN", set()),
    ("2.4.1 NXDOMAIN when none is ready", f"silent.default.svc.{ZONE}", "A", "NXDOMAIN", set()),
    ("2.4.2 SRV of each endpoint", f"_https._tcp.headless.default.svc.{ZONE}", "SRV", "NOERROR",
     {srv(443, f"{host}.headless.default") for host in ("my-pet", "10-3-0-100", SIX_LABEL)}),
    ("2.4.3 PTR with hostname", reverse("10.3.0.101"), "PTR", "NOERROR", {f"my-pet.headless.default.svc.{ZONE}"}),
    ("2.4.3 PTR with hostname, IPv6", reverse("fd00:10:244::6"), "PTR", "NOERROR",
     {f"my-pet.headless.default.svc.{ZONE}"}),
    ("2.4.3 PTR without hostname", reverse("10.3.0.100"), "PTR", "NOERROR",
     {f"10-3-0-100.headless.default.svc.{ZONE}"}),
    ("2.5 CNAME of an ExternalName", f"foo.default.svc.{ZONE}", "CNAME", "NOERROR", {"www.example.com."}),
    ("2.6.1 A of a pod", f"1-2-3-4.default.pod.{ZONE}", "A", "NOERROR", {"1.2.3.4"}),
    ("2.6.1 AAAA of a pod", f"fd00-10-244--5.default.pod.{ZONE}", "AAAA", "NOERROR", {"fd00:10:244::5"}),
    ("a Service nobody made", f"nothing.default.svc.{ZONE}", "A", "NXDOMAIN", set()),
    ("a namespace of no Services", f"web.nowhere.svc.{ZONE}", "A", "NXDOMAIN", set()),
    ("an empty non-terminal (RFC 8020)", f"default.svc.{ZONE}", "A", "NOERROR", set()),
    ("an empty non-terminal of SRV", f"_tcp.kubernetes.default.svc.{ZONE}", "SRV", "NOERROR", set()),
]  # fmt: skip


@pytest.fixture
async def asked():
    mirror = Mirror()
    mirror.services.replace(SERVICES)
    mirror.endpoint_slices.replace(SLICES)
    address = f"127.{randint(1, 254)}.{randint(0, 254)}.{randint(1, 254)}"
    serving = asyncio.create_task(DnsServer(mirror, addresses=[address], port=PORT).run())
    loop = asyncio.get_running_loop()

    async def ask(name, kind):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect((address, PORT))
            question = dnslib.DNSRecord.question(name, kind).pack()
            async with asyncio.timeout(20):
                while True:
                    try:
                        await loop.sock_sendall(client, question)
                        return dnslib.DNSRecord.parse(await loop.sock_recv(client, 65535))
                    except ConnectionRefusedError:
                        # It does not listen yet.
                        assert not serving.done()
                        await asyncio.sleep(0.01)

    yield ask
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


def shown(record):
    if record.rtype == dnslib.QTYPE.SRV:
        return f"{record.rdata.port} {record.rdata.target}"
    if record.rtype == dnslib.QTYPE.AAAA:
        return str(ipaddress.ip_address(str(record.rdata)))
    return str(record.rdata)


@pytest.mark.parametrize(
    ("name", "kind", "code", "answers"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
async def test_the_specification(asked, name, kind, code, answers):
    found = await asked(name, kind)
    assert dnslib.RCODE[found.header.rcode] == code
    assert {shown(record) for record in found.rr} == answers
    assert all(dnslib.QTYPE[record.rtype] == kind for record in found.rr)
    # A denial says for how long it holds (RFC 2308), an answer is about what was asked.
    assert bool(found.auth) != bool(found.rr)
    assert all(str(record.rname).lower() == name.lower() for record in found.rr)


async def test_srv_brings_the_addresses_along(asked):
    found = await asked(f"_https._tcp.kubernetes.default.svc.{ZONE}", "SRV")
    assert {shown(record) for record in found.ar if record.rtype != dnslib.QTYPE.OPT} == {"10.3.0.1", V6}
