"""The wish on disk: whole or asked for again."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.node.link.disk import SLACK, Record, WishFile
from edgekube.transport.wire import ObjectDelta


def delta(name, version="1", raw=b"{}", path="v1/pods"):
    return ObjectDelta(path, "default", name, version, raw)


def stored(folder):
    found = WishFile(folder).load()
    return {d.key: d.version for d in found.deltas}, found.complete


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "wish"


def test_nothing_stored_is_nothing_complete(folder):
    assert stored(folder) == ({}, False)


def test_changes_and_removals_are_found_again(folder):
    disk = WishFile(folder)
    disk.append(Record((delta("a"), delta("b"))))
    disk.append(Record(complete=True))
    disk.append(Record((delta("a", "2"), delta("b", raw=b""))))
    assert stored(folder) == ({"v1/pods/default/a": "2"}, True)
    path = folder / "objects.log"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def filled(folder):
    disk = WishFile(folder)
    disk.append(Record((delta("a"),), complete=True))
    before = (folder / "objects.log").stat().st_size
    disk.append(Record((delta("b"),)))
    return folder / "objects.log", before


@given(st.data())
def test_a_power_cut_leaves_the_old_or_the_new(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("wish")
    path, before = filled(folder)
    size = path.stat().st_size
    os.truncate(path, data.draw(st.integers(before, size)))
    names, complete = stored(folder)
    assert complete
    assert names in ({"v1/pods/default/a": "1"}, {"v1/pods/default/a": "1", "v1/pods/default/b": "1"})
    disk = WishFile(folder)
    disk.load()
    disk.append(Record((delta("c"),)))
    assert stored(folder)[0].keys() == names.keys() | {"v1/pods/default/c"}


def test_a_tail_of_zeros_is_a_power_cut_too(folder):
    path, _ = filled(folder)
    with path.open("ab") as file:
        file.write(bytes(500))
    assert stored(folder) == ({"v1/pods/default/a": "1", "v1/pods/default/b": "1"}, True)


def test_damage_in_the_middle_is_set_aside_and_incomplete(folder):
    path, before = filled(folder)
    data = bytearray(path.read_bytes())
    data[before - 3] ^= 0xFF
    path.write_bytes(data)
    assert stored(folder) == ({}, False)
    assert (folder / "objects.damaged").read_bytes() == bytes(data)
    assert stored(folder) == ({}, False)


@given(st.binary(max_size=300))
def test_any_file_can_be_loaded(tmp_path_factory, junk):
    folder = tmp_path_factory.mktemp("wish")
    (folder / "objects.log").write_bytes(junk)
    WishFile(folder).load()
    disk = WishFile(folder)
    disk.load()
    disk.append(Record((delta("a"),)))
    assert "v1/pods/default/a" in stored(folder)[0]


def test_what_is_outdated_is_dropped_in_time(folder):
    disk = WishFile(folder)
    disk.append(Record((delta("keep"),), complete=True))
    for number in range(200):
        disk.append(Record((delta("big", str(number), bytes(10_000)),)))
    assert (folder / "objects.log").stat().st_size <= 2 * 11_000 + SLACK + 20_000
    assert stored(folder) == ({"v1/pods/default/keep": "1", "v1/pods/default/big": "199"}, True)
