"""Topology-aware routing: who serves which zone (KEP-2433)."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.types import core_v1, discovery_v1
from edgekube.controllers.endpoints.backends import ZONE, Backend
from edgekube.controllers.endpoints.topology import OVERLOAD, assigned, auto, hinted, shares

replace = msgspec.structs.replace
EVEN = {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    ("zones", "parts", "expected"),
    [
        ("ab", EVEN, "ab"),
        ("aabb", EVEN, "aabb"),
        # Nobody may bear more than a fifth above its share: b gets one of a's.
        ("aaab", EVEN, "aaab".replace("aaa", "aab")),
        ("aaaa", EVEN, "aabb"),
        ("aaaa", {"a": 0.9, "b": 0.1}, "aaab"),
        ("aaaaaaaa", {"a": 0.9, "b": 0.1}, "aaaaaaab"),
        # Fewer endpoints than zones: all serve all.
        ("a", EVEN, None),
        ("ab", {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, None),
        # One zone, an endpoint without, or in one nobody knows.
        ("aa", {}, None),
        ("abx", EVEN, None),
    ],
)
def test_which_zone_an_endpoint_serves(zones, parts, expected):
    assert list(assigned(list(zones), parts)) == list(expected or [""] * len(zones))


def test_those_that_take_no_connections_are_not_counted():
    assert assigned(["a", None, "b", None], EVEN) == ["a", "", "b", ""]


@given(
    st.lists(st.sampled_from("abc"), max_size=30),
    st.lists(st.integers(1, 64), min_size=3, max_size=3),
)
def test_no_zone_bears_too_much_and_few_are_moved(zones, cpus):
    parts = {zone: cpu / sum(cpus) for zone, cpu in zip("abc", cpus, strict=True)}
    found = assigned(zones, parts)
    if any(found):
        counts = Counter(found)
        assert all(len(zones) * part <= counts[zone] * OVERLOAD + 1e-9 for zone, part in parts.items())
        moved = sum(now != was for now, was in zip(found, zones, strict=True))
        lacking = sum(max(0, counts[zone] - Counter(zones)[zone]) for zone in parts)
        assert moved == lacking
    else:
        assert found == [""] * len(zones)
    assert assigned(zones, parts) == found


def node(make, name, zone, cpu, *, ready="True", **labels):
    made = make.node(name)
    meta = replace(made.metadata, labels={**({ZONE: zone} if zone else {}), **labels})
    conditions = (core_v1.NodeCondition(type="Ready", status=ready),)
    status = replace(made.status, allocatable={"cpu": cpu} if cpu else {}, conditions=conditions)
    return replace(made, metadata=meta, status=status)


def test_a_zones_share_is_that_of_its_ready_nodes(make):
    nodes = [
        node(make, "n1", "a", "4"), node(make, "n2", "b", "500m"), node(make, "n3", "b", "500m"),
        node(make, "n4", "b", "64", ready="False"),
        node(make, "n5", "c", "8", **{"node-role.kubernetes.io/control-plane": ""}),
    ]  # fmt: skip
    assert shares(nodes) == {"a": 0.8, "b": 0.2}
    assert shares(nodes[:1]) == {}
    assert shares([*nodes, node(make, "n6", "", "4")]) == {}
    assert shares([*nodes, node(make, "n6", "a", "")]) == {}


def test_hints_are_written_and_taken_away():
    conditions = discovery_v1.EndpointConditions(ready=True, serving=True, terminating=False)
    found = [
        Backend(discovery_v1.Endpoint(addresses=(f"10.0.0.{n}",), conditions=conditions, zone=zone), ())
        for n, zone in enumerate("aab")
    ]
    told = hinted(found, {"a": 0.6, "b": 0.4})
    assert [b.endpoint.hints.for_zones[0].name for b in told] == ["a", "a", "b"]
    assert [b.endpoint.hints for b in hinted(told, {})] == [None] * 3


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, False),
        ({"service.kubernetes.io/topology-mode": "Auto"}, True),
        ({"service.kubernetes.io/topology-mode": "Disabled"}, False),
        ({"service.kubernetes.io/topology-aware-hints": "auto"}, True),
        ({"service.kubernetes.io/topology-mode": "x.io/own", "service.kubernetes.io/topology-aware-hints": "Auto"}, False),
    ],
)  # fmt: skip
def test_who_wants_it(make, annotations, expected):
    meta = replace(make.meta("web"), annotations=annotations)
    assert auto(core_v1.Service(metadata=meta, spec=core_v1.ServiceSpec())) is expected
