"""When an address is claimed, asked for, given up and taken again."""

from hypothesis import given
from hypothesis import strategies as st

from edgekube.network import arp
from edgekube.network.claims import AGAIN, ANNOUNCEMENTS, PATIENCE, Claims, Say, Sending

A = "192.0.2.1"


def played(claims, seconds, *, start=0.0):
    """Return (time, what) of all that is said, in steps of half a second."""
    said = []
    for step in range(int(seconds * 2)):
        now = start + step / 2
        said += [(now, sending.say) for sending in claims.due(now)]
    return said


def test_after_a_start_it_asks_and_then_announces():
    claims = Claims()
    claims.wish([A], 0.0)
    assert claims.due(0.0) == [Sending(Say.PROBE, A)]
    assert not claims.speaks_for(A)
    said = played(claims, 7)
    assert said == [(PATIENCE + number, Say.ANNOUNCE) for number in range(ANNOUNCEMENTS)]
    assert claims.speaks_for(A)
    assert claims.next() == PATIENCE + ANNOUNCEMENTS


def test_an_owner_asks_now_and_then():
    claims = Claims()
    claims.wish([], 0.0)
    claims.wish([A], 0.0)
    said = played(claims, 150)
    assert said[ANNOUNCEMENTS:] == [(ANNOUNCEMENTS + number * AGAIN, Say.PROBE) for number in range(3)]
    assert claims.speaks_for(A)
    claims.ask_again(151.0)
    assert claims.due(151.0) == [Sending(Say.PROBE, A)]


def test_told_later_it_announces_at_once():
    claims = Claims()
    claims.wish([], 0.0)
    claims.wish([A], 7.0)
    assert claims.speaks_for(A)
    assert [say for _, say in played(claims, 4.5, start=7.0)] == [Say.ANNOUNCE] * ANNOUNCEMENTS
    claims.wish([A], 11.5)
    assert claims.due(11.5) == []


def test_who_hears_another_gives_way_and_asks_again_later():
    claims = Claims()
    claims.wish([], 0.0)
    claims.wish([A], 0.0)
    assert claims.heard(A, 1.0)
    assert not claims.heard(A, 2.0)
    assert not claims.heard("192.0.2.9", 2.0)
    assert not claims.speaks_for(A)
    said = played(claims, 200)
    assert said[0] == (2.0 + AGAIN, Say.PROBE)
    assert claims.speaks_for(A)


@given(
    st.lists(st.tuples(st.sampled_from(["wish", "drop", "heard", "time"]), st.integers(0, 100)), max_size=60)
)
def test_it_speaks_only_for_what_was_wished_and_always_ends_in_one_state(steps):
    claims, now, wished = Claims(), 0.0, False
    for what, number in steps:
        now += number
        if what == "wish":
            claims.wish([A], now)
            wished = True
        elif what == "drop":
            claims.wish([], now)
            wished = False
        elif what == "heard":
            claims.heard(A, now)
        else:
            claims.due(now)
        assert wished or not claims.speaks_for(A)
    for _ in range(400):
        now += 1
        claims.due(now)
    assert claims.speaks_for(A) is wished


def test_packets():
    mac, other = bytes(range(6)), bytes(range(6, 12))
    claim = arp.parse(arp.ArpTongue().to_all(Say.ANNOUNCE, A, mac))
    assert claim == arp.Arp(arp.REQUEST, mac, A, bytes(6), A)
    asked = arp.parse(arp.ArpTongue().to_all(Say.PROBE, A, other))
    assert asked.sender == "0.0.0.0"
    assert arp.parse(arp.answer(asked, mac)) == arp.Arp(arp.REPLY, mac, A, other, "0.0.0.0")
    assert arp.parse(b"\0" * 60) is None
    assert arp.parse(b"short") is None
