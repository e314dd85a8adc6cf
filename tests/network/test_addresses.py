"""The address file: never the same address twice, whatever happens between two writes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.network import addresses
from edgekube.network.addresses import Addresses
from edgekube.network.base import AddressesExhausted

UIDS = st.sampled_from([f"uid-{number}" for number in range(8)])
STEPS = st.lists(st.tuples(st.sampled_from(["allocate", "release", "restart", "crash"]), UIDS), max_size=30)


class PowerCut(Exception):
    """Raised where the power goes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("addresses")


def opened(path: Path) -> Addresses:
    return Addresses("10.244.1.0/29", path, reserved=frozenset({"10.244.1.1"}))


@given(steps=STEPS, written=st.booleans())
def test_no_address_is_given_twice(folder, steps, written):
    path = folder / "addresses.json"
    path.unlink(missing_ok=True)
    store = opened(path)
    promised: dict[str, str] = {}
    real = addresses.write_atomic

    def cut(*arguments):
        if written:
            real(*arguments)
        raise PowerCut

    for step, uid in steps:
        if step == "release":
            store.release(uid)
            promised.pop(uid, None)
            continue
        if step == "restart":
            store = opened(path)
        with pytest.MonkeyPatch.context() as patch:
            if step == "crash":
                patch.setattr(addresses, "write_atomic", cut)
            try:
                given_now = store.allocate(uid)
            except AddressesExhausted:
                assert len(store.all()) == 5
                continue
            except PowerCut:
                # Nobody was told the address; after the restart it may be taken or free, never both.
                store = opened(path)
                continue
        assert promised.setdefault(uid, given_now) == given_now
        assert len(set(promised.values())) == len(promised)
        assert given_now not in {"10.244.1.0", "10.244.1.1", "10.244.1.7"}
    assert dict(opened(path).all()) == dict(store.all())
    assert promised.items() <= store.all().items()


def test_the_kernel_is_believed_more_than_the_file(tmp_path):
    store = opened(tmp_path / "a.json")
    store.allocate("a")
    store.allocate("b")
    store.adopt({"c": "10.244.1.2", "b": "10.244.1.3"})
    assert dict(opened(tmp_path / "a.json").all()) == {"c": "10.244.1.2", "b": "10.244.1.3"}


def test_a_damaged_file_is_as_good_as_none(tmp_path):
    path = tmp_path / "a.json"
    for content in (b"", b"[]", b"\xff", b'{"pods":{"a":1}}'):
        path.write_bytes(content)
        assert opened(path).all() == {}


def test_addresses_of_a_former_cidr_are_kept_by_those_who_have_them(tmp_path):
    path = tmp_path / "a.json"
    assert Addresses("10.9.0.0/24", path).allocate("old") == "10.9.0.1"
    store = opened(path)
    assert store.allocate("old") == "10.9.0.1"
    assert store.allocate("new").startswith("10.244.1.")
