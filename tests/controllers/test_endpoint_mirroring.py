"""Endpoints written by hand, as slices."""

from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.types import core_v1, meta_v1
from edgekube.controllers.endpoints.mirroring import MANAGER, mirrored, plan
from edgekube.controllers.endpoints.plan import FULL, MANAGED_BY, SERVICE_NAME, SKIP_MIRROR

META = meta_v1.ObjectMeta(name="s", namespace="default", uid="u", labels={"own": "x"})
PLAIN = core_v1.Service(metadata=META)


def endpoints(*subsets, **meta):
    return core_v1.Endpoints(metadata=msgspec.structs.replace(META, **meta), subsets=subsets)


def subset(*ready, unready=(), port=80):
    return core_v1.EndpointSubset(
        addresses=tuple(core_v1.EndpointAddress(ip=ip) for ip in ready),
        not_ready_addresses=tuple(core_v1.EndpointAddress(ip=ip) for ip in unready),
        ports=(core_v1.EndpointPort(name="http", port=port),),
    )


@pytest.mark.parametrize(
    ("found", "service", "expected"),
    [
        (endpoints(), PLAIN, True),
        (None, PLAIN, False),
        (endpoints(), None, False),
        (endpoints(labels={SKIP_MIRROR: "true"}), PLAIN, False),
        (endpoints(annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}), PLAIN, False),
        (endpoints(), core_v1.Service(metadata=META, spec=core_v1.ServiceSpec(selector={"a": "b"})), False),
    ],
)
def test_what_is_mirrored(found, service, expected):
    assert mirrored(found, service) is expected


def held(pieces):
    return {
        (piece.address_type, piece.ports[0].port, end.addresses[0], end.conditions.ready)
        for piece in pieces
        for end in piece.endpoints
    }


def test_a_slice_for_each_family_and_set_of_ports():
    found = plan(
        endpoints(subset("192.0.2.1", "fd00::1", unready=["192.0.2.2"]), subset("192.0.2.1", port=81)), []
    )
    assert held(found.create) == {
        ("IPv4", 80, "192.0.2.1", True), ("IPv4", 80, "192.0.2.2", False), ("IPv6", 80, "fd00::1", True),
        ("IPv4", 81, "192.0.2.1", True),
    }  # fmt: skip
    assert len(found.create) == 3
    for piece in found.create:
        assert piece.metadata.labels == {"own": "x", SERVICE_NAME: "s", MANAGED_BY: MANAGER}
        assert piece.metadata.owner_references[0].kind == "Endpoints"


ADDRESSES = st.sets(st.integers(1, 250), max_size=250)


@given(st.lists(ADDRESSES, min_size=1, max_size=4))
def test_slices_hold_what_endpoints_say_however_they_change(states):
    """Applied, a plan leads to exactly the wished endpoints, and to no more to do."""
    numbers, pieces = count(), {}
    for state in states:
        wish = endpoints(subset(*(f"192.0.2.{number}" for number in sorted(state))))
        decided = plan(wish, list(pieces.values()))
        for piece in decided.create:
            name = f"s-{next(numbers)}"
            meta = msgspec.structs.replace(piece.metadata, name=name)
            pieces[name] = msgspec.structs.replace(piece, metadata=meta)
        pieces |= {piece.metadata.name: piece for piece in decided.update}
        for piece in decided.delete:
            del pieces[piece.metadata.name]
        assert {address for _, _, address, _ in held(pieces.values())} == {f"192.0.2.{n}" for n in state}
        assert sum(len(piece.endpoints) for piece in pieces.values()) == len(state)
        assert all(0 < len(piece.endpoints) <= FULL for piece in pieces.values())
        again = plan(wish, list(pieces.values()))
        assert (again.create, again.update, again.delete) == ((), (), ())
