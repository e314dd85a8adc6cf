"""Whatever is asked, the zone has an answer that can be sent; whatever upstream servers send, nothing breaks."""

import dnslib
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.types import core_v1, discovery_v1, meta_v1
from edgekube.proxy.dns.forward import _answers, _entry
from edgekube.proxy.dns.message import Answer, Malformed, Record, Type, build, pack_name, parse_query
from edgekube.proxy.dns.server import _addresses_in
from edgekube.proxy.dns.zone import Alias, Zone

WORDS = [
    "web",
    "db",
    "db-0",
    "a",
    "b",
    "svc",
    "pod",
    "cluster",
    "local",
    "_http",
    "_tcp",
    "10-244-1-5",
    "dns",
    "ns",
]
LABELS = st.one_of(
    st.sampled_from(WORDS), st.binary(min_size=1, max_size=9).map(lambda text: text.decode("latin-1"))
)
NAMES = st.lists(LABELS, max_size=7).flatmap(
    lambda labels: st.sampled_from(
        [
            tuple(labels),
            (*labels, "cluster", "local"),
            (*labels, "svc", "cluster", "local"),
            (*labels, "in-addr", "arpa"),
        ]
    )
)


def zone() -> Zone:
    made = Zone("cluster.local", ["10.96.0.10"])
    ports = (core_v1.ServicePort(name="http", port=80),)
    for name, spec in (
        (
            "web",
            core_v1.ServiceSpec(cluster_ip="10.96.7.1", cluster_ips=("10.96.7.1", "fd00::1"), ports=ports),
        ),
        ("db", core_v1.ServiceSpec(cluster_ip="None", ports=ports)),
        ("ns", core_v1.ServiceSpec(type="ExternalName", external_name="a..b")),
    ):
        made.service_changed(
            None, core_v1.Service(metadata=meta_v1.ObjectMeta(namespace="a", name=name), spec=spec)
        )
    endpoints = (discovery_v1.Endpoint(addresses=("10.244.1.5", "odd"), hostname="db-0"),)
    labels = {"kubernetes.io/service-name": "db"}
    made.slice_changed(
        None,
        discovery_v1.EndpointSlice(
            metadata=meta_v1.ObjectMeta(namespace="a", name="db-1", labels=labels),
            address_type="IPv4",
            endpoints=endpoints,
            ports=(discovery_v1.EndpointPort(name="http", port=8080),),
        ),
    )
    return made


ZONE = zone()


@given(NAMES, st.sampled_from([*Type, 99]))
def test_every_name_has_an_answer_that_can_be_sent(name, kind):
    asked = pack_name(name)
    if len(asked) > 255:
        return
    query = parse_query(b"\0\1\1\0\0\1\0\0\0\0\0\0" + asked + int(kind).to_bytes(2, "big") + b"\0\1")
    answer = ZONE.answer(query.name, query.type)
    if answer is None:
        assert not ZONE.owns(query.name)
        return
    if isinstance(answer, Alias):
        answer = Answer(answers=[answer.record])
    packed = build(query, answer, limit=65535)
    if not all(label.isascii() and label.isprintable() for label in name):
        # dnslib cannot read those.
        return
    read = dnslib.DNSRecord.parse(packed)
    assert (len(read.rr), len(read.auth), len(read.ar)) == tuple(
        map(len, (answer.answers, answer.authority, answer.additional))
    )
    # Denials carry the SOA, found names do not.
    assert bool(answer.answers) != bool(answer.authority)


def test_both_families_of_a_cluster_ip():
    web = ("web", "a", "svc", "cluster", "local")
    answers = [ZONE.answer(web, kind) for kind in (Type.A, Type.AAAA, Type.ANY)]
    assert [len(answer.answers) for answer in answers if isinstance(answer, Answer)] == [1, 1, 3]


def test_forgets_what_is_gone():
    made = zone()
    web = core_v1.Service(metadata=meta_v1.ObjectMeta(namespace="a", name="web"))
    for name in ("web", "db", "ns"):
        old = core_v1.Service(metadata=meta_v1.ObjectMeta(namespace="a", name=name))
        made.service_changed(old, None)
    made.service_changed(web, None)
    answer = made.answer(("a", "svc", "cluster", "local"), Type.A)
    assert isinstance(answer, Answer)
    assert answer.code == 3


QUERY = dnslib.DNSRecord.question("www.example.org")
REPLY = QUERY.reply()
REPLY.add_answer(
    *dnslib.RR.fromZone("www.example.org. 60 IN CNAME x.example.org.\nx.example.org. 60 IN A 192.0.2.7")
)
ALIAS = Alias(
    Record(("out",), Type.CNAME, 5, pack_name(("www", "example", "org"))), ("www", "example", "org")
)


@given(st.integers(0, 90), st.binary(max_size=6), st.integers(12, 200))
def test_any_answer_from_elsewhere_is_read_or_refused(place, noise, length):
    packed = bytearray(REPLY.pack())
    packed[place : place + len(noise)] = noise
    damaged = bytes(packed[:length])
    if len(damaged) < 12:
        return
    _answers(QUERY.pack(), damaged)
    _entry(damaged, 0.0)
    try:
        found = _addresses_in(damaged, ALIAS)
    except Malformed:
        raise AssertionError from None
    assert found is None or all(record.type in {Type.A, Type.AAAA} for record in found)
