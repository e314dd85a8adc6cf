"""EndpointSlices: conditions, ports, packing."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.types import core_v1, discovery_v1
from edgekube.controllers.endpoints.backends import Backend, backends, lost
from edgekube.controllers.endpoints.plan import (
    FULL,
    HEADLESS,
    MANAGED_BY,
    SERVICE_NAME,
    endpoints_object,
    plan,
)

replace = msgspec.structs.replace
GONE = "2026-01-01T00:00:00Z"


def service(make, *ports, **spec):
    ports = ports or (core_v1.ServicePort(port=80, target_port=8080, protocol="TCP"),)
    return core_v1.Service(
        metadata=make.meta("web"), spec=core_v1.ServiceSpec(selector={"app": "web"}, ports=ports, **spec)
    )


def pod(make, ip="10.42.0.5", *, ports=(), **fields):
    made = make.pod(**{"node": "n1", "ready": 1.0, **fields})
    containers = (core_v1.Container(name="web", image="web:1", ports=ports),)
    status = replace(made.status, pod_ip=ip, pod_ips=(core_v1.PodIP(ip=ip),) if ip else ())
    return replace(made, spec=replace(made.spec, containers=containers), status=status)


cases = [
    ({}, (True, True, False)),
    ({"ready": None}, (False, False, False)),
    ({"deletion_timestamp": GONE}, (False, True, True)),
    ({"ready": None, "deletion_timestamp": GONE}, (False, False, True)),
]


@pytest.mark.parametrize(("fields", "expected"), cases)
def test_conditions(make, fields, expected):
    (found,) = backends(service(make), [pod(make, **fields)], {}, "IPv4")
    conditions = found.endpoint.conditions
    assert (conditions.ready, conditions.serving, conditions.terminating) == expected


def test_unready_pods_are_published_when_asked(make):
    published = service(make, publish_not_ready_addresses=True)
    (found,) = backends(published, [pod(make, ready=None)], {}, "IPv4")
    assert found.endpoint.conditions.ready
    assert not found.endpoint.conditions.serving


@pytest.mark.parametrize(
    "fields", [{"phase": "Succeeded"}, {"ip": ""}, {"node": ""}, {"labels": {"app": "x"}}]
)
def test_who_is_no_backend(make, fields):
    assert not backends(service(make), [pod(make, **fields)], {}, "IPv4")


def test_families_are_kept_apart(make):
    pods = [pod(make, "10.42.0.5"), pod(make, "fd00::5")]
    assert [b.endpoint.addresses for b in backends(service(make), pods, {}, "IPv6")] == [("fd00::5",)]


def test_named_ports_are_found_per_pod(make):
    named = service(make, core_v1.ServicePort(name="http", port=80, target_port="http", protocol="TCP"))
    pods = [
        pod(make, f"10.42.0.{n}", ports=(core_v1.ContainerPort(name="http", container_port=8000 + n),))
        for n in (1, 2)
    ]
    decided = plan(named, backends(named, [*pods, pod(make, "10.42.0.9")], {}, "IPv4"), [], "IPv4")
    ports = sorted(tuple(port.port for port in piece.ports) for piece in decided.create)
    assert ports == [(), (8001,), (8002,)]


def test_a_lost_node_serves_not_unless_all_are_lost(make):
    up, down = make.node("n1"), make.node("n2", conditions=(("Ready", "Unknown"),))
    assert lost([up, down]) == {"n2"}
    assert lost([down]) == frozenset()
    (found,) = backends(service(make), [pod(make, node="n2")], {}, "IPv4", silent=lost([up, down]))
    assert not found.endpoint.conditions.ready


def many(addresses):
    conditions = discovery_v1.EndpointConditions(ready=True, serving=True, terminating=False)
    return [
        Backend(discovery_v1.Endpoint(addresses=(f"10.0.{n // 250}.{n % 250}",), conditions=conditions), ())
        for n in sorted(addresses)
    ]


def applied(pieces, decided, make):
    made = [
        replace(piece, metadata=make.meta(f"s{number}-{len(pieces)}", labels=piece.metadata.labels))
        for number, piece in enumerate(decided.create)
    ]
    updated = {piece.metadata.uid: piece for piece in decided.update}
    gone = {piece.metadata.uid for piece in decided.delete}
    return [updated.get(p.metadata.uid, p) for p in pieces if p.metadata.uid not in gone] + made


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sets(st.integers(0, 400), max_size=320), min_size=1, max_size=4))
def test_slices_hold_exactly_the_endpoints_and_settle(make_any, histories):
    web, pieces = service(make_any), []
    for addresses in histories:
        wanted = many(addresses)
        pieces = applied(pieces, plan(web, wanted, pieces, "IPv4"), make_any)
        found = [endpoint.addresses for piece in pieces for endpoint in piece.endpoints]
        assert sorted(found) == sorted(b.endpoint.addresses for b in wanted)
        assert all(len(piece.endpoints) <= FULL for piece in pieces)
        assert pieces
        again = plan(web, wanted, pieces, "IPv4")
        assert (again.create, again.update, again.delete) == ((), (), ())


def test_one_new_pod_changes_one_slice(make):
    web, wanted = service(make), many(range(250))
    pieces = applied([], plan(web, wanted, [], "IPv4"), make)
    decided = plan(web, many(range(251)), pieces, "IPv4")
    assert (len(decided.create), len(decided.update), len(decided.delete)) == (0, 1, 0)


def test_labels_say_whose_it_is(make):
    (piece,) = plan(service(make, cluster_ip="None"), many({1}), [], "IPv4").create
    assert piece.metadata.labels[SERVICE_NAME] == "web"
    assert MANAGED_BY in piece.metadata.labels
    assert HEADLESS in piece.metadata.labels
    assert piece.metadata.owner_references[0].kind == "Service"


def test_the_older_form_separates_unready_and_leaves_out_terminating(make):
    pods = [
        pod(make, "10.42.0.1"),
        pod(make, "10.42.0.2", ready=None),
        pod(make, "10.42.0.3", deletion_timestamp=GONE),
    ]
    web = service(make)
    (subset,) = endpoints_object(web, backends(web, pods, {}, "IPv4"), None).subsets
    assert [a.ip for a in subset.addresses] == ["10.42.0.1"]
    assert [a.ip for a in subset.not_ready_addresses] == ["10.42.0.2"]
    assert [port.port for port in subset.ports] == [8080]


@pytest.mark.parametrize(
    ("distribution", "zone", "nodes", "zones"),
    [
        ("", "z", (), ()),
        ("PreferClose", "z", (), ("z",)),
        ("PreferSameZone", "z", (), ("z",)),
        ("PreferSameZone", "", (), ()),
        ("PreferSameNode", "z", ("n1",), ("z",)),
        ("PreferSameNode", "", ("n1",), ()),
    ],
)
def test_hints_say_whom_an_endpoint_is_meant_for(make, distribution, zone, nodes, zones):
    node = make.node("n1", labels={"topology.kubernetes.io/zone": zone} if zone else {})
    wanted = service(make, traffic_distribution=distribution)
    found = backends(wanted, [pod(make), pod(make, "10.42.0.6", ready=None)], {"n1": node}, "IPv4")
    hints = found[0].endpoint.hints or discovery_v1.EndpointHints()
    assert tuple(hint.name for hint in hints.for_nodes) == nodes
    assert tuple(hint.name for hint in hints.for_zones) == zones
    # One that gets nothing has none.
    assert found[1].endpoint.hints is None
