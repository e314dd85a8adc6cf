"""Netlink messages, and what the kernel says of bad ones."""

import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.network import netns
from edgekube.network.base import NetworkError
from edgekube.network.netlink import (
    NETFILTER,
    Netlink,
    NetlinkError,
    attribute,
    attribute_list,
    messages,
    nest,
    text,
)
from edgekube.network.nftables import expressions as nft
from edgekube.network.nftables.transaction import ADDRESS, Transaction


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=20))))
def test_attributes_are_read_as_written(given_attributes):
    packed = b"".join(attribute(kind, value) for kind, value in given_attributes)
    assert len(packed) % 4 == 0
    assert list(attribute_list(packed)) == given_attributes


@given(st.binary(max_size=100))
def test_any_bytes_can_be_read(data):
    list(attribute_list(data))
    list(messages(data))


def test_nested_attributes_say_so():
    assert nest(3, text(1, "a")) == b"\x0c\0\x03\x80\x06\0\x01\0a\0\0\0"


@pytest.fixture
def kernel():
    """Run work with a netfilter socket in a namespace of its own."""
    path = Path(f"/run/netns/ekt-{uuid.uuid4().hex[:8]}")
    netns.make(path)
    with netns.inside(path, lambda: Netlink(NETFILTER, buffer=1 << 20)) as netlink:
        yield netlink
    netns.remove(path)


@pytest.mark.root
class TestTransaction:
    def test_names_every_message_that_is_refused_and_does_nothing(self, kernel):
        change = Transaction("t")
        change.add_table()
        change.add_chain("a")
        change.add_rule("missing", nft.jump("a"))
        change.add_rule("a", nft.jump("missing"))
        change.delete_set("absent")
        change.add_chain("b")
        with pytest.raises(NetlinkError) as caught:
            change.commit(kernel)
        expected = "nftables t: rule in missing, rule in a, delete set absent: No such file or directory"
        assert str(caught.value) == expected
        # The table was not made, and the socket is good for the next one.
        gone = Transaction("t")
        gone.delete_table()
        with pytest.raises(NetlinkError, match="delete table t: No such file"):
            gone.commit(kernel)
        whole = Transaction("t")
        whole.add_table()
        whole.add_chain("a")
        assert whole.commit(kernel) == len(whole.encode())

    def test_many_elements_are_split_over_messages(self, kernel):
        change = Transaction("t")
        change.add_table()
        change.add_set("s", [ADDRESS])
        change.add_elements("s", [number.to_bytes(4, "big") for number in range(2000)])
        assert len(change.steps) == 2 + 4
        assert change.commit(kernel) > 0
        again = Transaction("t")
        again.delete_elements("s", [number.to_bytes(4, "big") for number in range(2000)])
        assert again.commit(kernel) > 0
        with pytest.raises(NetlinkError, match="elements of s"):
            again.commit(kernel)

    def test_an_empty_one_sends_nothing(self, kernel):
        assert Transaction("t").commit(kernel) == 0


@pytest.mark.root
class TestNamespaces:
    def test_are_made_once_and_forgotten(self):
        path = Path(f"/run/netns/ekt-{uuid.uuid4().hex[:8]}")
        assert not netns.exists(path)
        netns.remove(path)
        netns.make(path)
        inode = path.stat().st_ino
        netns.make(path)
        assert path.stat().st_ino == inode
        assert netns.inside(path, lambda: Path("/proc/thread-self/ns/net").stat().st_ino) == inode
        assert Path("/proc/self/ns/net").stat().st_ino != inode
        netns.remove(path)
        assert not path.exists()

    def test_errors_of_the_work_come_through(self, tmp_path):
        (tmp_path / "no-namespace").touch()
        with pytest.raises(NetworkError, match="setns"):
            netns.inside(tmp_path / "no-namespace", lambda: None)
