"""A hundred writers of one object, for a moment; tests/fuzz/writers.py does it for a minute."""

from fuzz import writers
from fuzz.served import served


async def test_a_hundred_writers_lose_no_update():
    with served() as api:
        tally = await writers.count(api.port, writers=100, seconds=2)
    assert tally.wins > 20
    assert tally.losses > 20
