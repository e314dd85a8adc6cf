"""Numbering and encoding; whatever the network does, a resync makes both sides equal."""

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.transport.session import Malformed, Receiver, Sender, Verdict, body_of, decode, encode
from edgekube.transport.wire import VERSION, Envelope, Kind, ObjectDelta, Objects, SnapshotEnd


def test_small_bodies_travel_plain_and_large_ones_compressed():
    small = Objects((ObjectDelta("v1/pods", "d", "a", "1", b"{}"),))
    large = Objects((ObjectDelta("v1/pods", "d", "a", "1", b"x" * 5000),))
    plain, packed = encode("e", 1, Kind.OBJECTS, small), encode("e", 2, Kind.OBJECTS, large)
    assert len(packed) < 500
    assert msgspec.msgpack.decode(plain)[3] == 1
    assert msgspec.msgpack.decode(packed)[3] == -1
    assert body_of(decode(plain), Objects) == small
    assert body_of(decode(packed), Objects) == large


def test_numbers_and_epochs():
    receiver = Receiver()

    def take(epoch, seq):
        return receiver.decide(Envelope(VERSION, epoch, seq, 1, b""))

    assert take("a", 5) is Verdict.NEW_EPOCH
    assert take("a", 6) is Verdict.ACCEPT
    assert take("a", 6) is Verdict.DUPLICATE
    assert take("a", 9) is Verdict.GAP
    assert take("a", 8) is Verdict.DUPLICATE
    assert take("b", 1) is Verdict.NEW_EPOCH
    assert take("a", 9) is Verdict.DUPLICATE
    assert take("b", 2) is Verdict.ACCEPT
    assert take("a", 10) is Verdict.NEW_EPOCH
    assert take("b", 3) is Verdict.NEW_EPOCH


@given(st.binary(max_size=200))
def test_any_bytes_are_malformed_or_a_message(payload):
    try:
        envelope = decode(payload)
    except Malformed:
        return
    assert isinstance(envelope, Envelope)


@pytest.mark.parametrize(
    "body",
    [b"not zlib", zlib.compress(b"x" * 100)[:-5], zlib.compress(bytes(17 << 20))],
    ids=["junk", "cut", "bomb"],
)
def test_bad_compression_is_malformed(body):
    with pytest.raises(Malformed):
        decode(msgspec.msgpack.encode(Envelope(VERSION, "e", 1, -1, body)))


def test_another_version_and_a_wrong_body_are_malformed():
    with pytest.raises(Malformed):
        decode(msgspec.msgpack.encode(Envelope(VERSION + 1, "e", 1, 1, b"")))
    with pytest.raises(Malformed):
        body_of(Envelope(VERSION, "e", 1, 1, b"\xc1"), Objects)


class Node:
    """The least receiver: applies what is not a duplicate, asks when told to, believes digests."""

    def __init__(self):
        self.receiver, self.have, self.asks = Receiver(), {}, False

    def take(self, payload):
        envelope = decode(payload)
        verdict = self.receiver.decide(envelope)
        if verdict is Verdict.DUPLICATE:
            return
        if verdict is not Verdict.ACCEPT:
            self.asks = True
        if envelope.kind == Kind.OBJECTS:
            for delta in body_of(envelope, Objects).deltas:
                self.have.pop(delta.key, None)
                if delta.raw:
                    self.have[delta.key] = delta.version
        if envelope.kind == Kind.SNAPSHOT_END:
            digest = body_of(envelope, SnapshotEnd).digest
            self.have = {key: version for key, version in self.have.items() if key in digest}
            self.asks = self.have != digest


CHANGES = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.integers(0, 3),
        st.sampled_from(["keep", "drop", "twice", "late", "epoch"]),
    ),
    max_size=40,
)


@given(CHANGES, st.randoms(use_true_random=False))
def test_drops_repeats_and_overtaking_end_in_agreement(changes, random):
    truth, sender, node, late = {}, Sender("0"), Node(), []
    for number, (name, version, fate) in enumerate(changes):
        if fate == "epoch":
            sender = Sender(str(number + 1))
        delta = ObjectDelta("v1/pods", "d", name, f"{number}-{version}", b"{}" if version else b"")
        truth.pop(delta.key, None)
        if version:
            truth[delta.key] = delta.version
        payload = sender.encode(Kind.OBJECTS, Objects((delta,)))
        if fate == "late":
            late.append(payload)
        elif fate != "drop":
            for _ in range(2 if fate == "twice" else 1):
                node.take(payload)
        if late and random.random() < 0.3:
            node.take(late.pop(random.randrange(len(late))))
    for payload in late:
        node.take(payload)
    # The connection is good again: the next message shows whether something is missing.
    node.take(sender.encode(Kind.HELLO))
    assert node.asks or node.have == truth
    for _ in range(3):
        if not node.asks:
            break
        missing = [k for k, v in truth.items() if node.have.get(k) != v]
        deltas = tuple(ObjectDelta(*key.rsplit("/", 2), truth[key], b"{}") for key in missing)
        node.take(sender.encode(Kind.OBJECTS, Objects(deltas)))
        node.take(sender.encode(Kind.SNAPSHOT_END, SnapshotEnd(truth)))
    assert node.have == truth
