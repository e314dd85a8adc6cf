"""Random UIDs: version 4 of RFC 9562, never twice."""

import uuid

from edgekube.apiserver.registry.uids import BLOCK, SIZE, Uids


def test_they_are_random_uuids_and_differ():
    uids = Uids()
    drawn = [uids.draw() for _ in range(3 * BLOCK // SIZE + 1)]
    assert len(set(drawn)) == len(drawn)
    for text in drawn:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert parsed.version == 4
        assert parsed.variant == uuid.RFC_4122


def test_two_servers_draw_differently():
    assert Uids().draw() != Uids().draw()
