"""What waits to be told: the newest only, until it is confirmed."""

from edgekube.api.resource import Key
from edgekube.control.mirror import NodeEvent
from edgekube.node.link.outbox import FIRST, Outbox
from edgekube.node.link.talk import BURST, PAUSE, WINDOW, Talk
from edgekube.transport.wire import Kind


def test_only_the_newest_of_a_slot_is_sent():
    box = Outbox()
    for number in range(10):
        box.put("pod", Kind.POD_STATUS, number)
    assert box.due(0) == ("pod",)
    assert box.get("pod").body == 9


def test_it_is_sent_again_with_growing_patience_until_confirmed():
    box = Outbox()
    box.put("pod", Kind.POD_STATUS, 1)
    box.sent("pod", 1, now=0)
    assert box.due(FIRST - 1) == ()
    assert box.due(FIRST) == ("pod",)
    box.sent("pod", 2, now=FIRST)
    assert box.next_due() == 3 * FIRST
    box.confirm([2])
    assert (len(box), box.next_due()) == (0, None)


def test_a_confirmation_of_what_was_replaced_does_not_count():
    box = Outbox()
    box.put("pod", Kind.POD_STATUS, "old")
    box.sent("pod", 1, now=0)
    box.put("pod", Kind.POD_STATUS, "new")
    box.confirm([1])
    assert box.due(0) == ("pod",)


def test_a_new_hub_hears_what_is_kept_again():
    box = Outbox()
    for slot, kept in (("pod", True), ("event", False)):
        box.put(slot, Kind.EVENT, slot, kept=kept)
        box.sent(slot, 1, now=0)
    box.confirm([1])
    box.again(everything=False)
    assert len(box) == 0
    box.again(everything=True)
    assert box.due(0) == ("pod",)


def test_the_same_again_is_not_told_again():
    box = Outbox()
    box.put("pod", Kind.POD_STATUS, "same", kept=True)
    box.sent("pod", 1, now=0)
    box.confirm([1])
    box.put("pod", Kind.POD_STATUS, "same", kept=True)
    assert len(box) == 0


def event(message="m", name="a"):
    return NodeEvent("v1/pods", Key("default", name), name, "Warning", "BackOff", message)


def test_repeats_are_counted_and_told_now_and_then():
    now = [1000.0]
    talk = Talk(lambda: now[0])
    report, wait = talk.hear(event())
    assert (report.count, wait) == (1, 0)
    now[0] += 1
    assert talk.hear(event())[1] == PAUSE - 1
    now[0] += 1
    report, wait = talk.hear(event())
    assert (report.count, wait) == (3, PAUSE - 2)
    now[0] += PAUSE + WINDOW
    assert talk.hear(event())[0].count == 1


def test_who_talks_too_much_is_cut_off_and_others_are_not():
    talk = Talk(lambda: 1000.0)
    heard = [talk.hear(event(f"m{number}")) for number in range(100)]
    assert sum(h is not None for h in heard) == BURST
    assert talk.dropped == 100 - BURST
    assert talk.hear(event(name="b")) is not None
