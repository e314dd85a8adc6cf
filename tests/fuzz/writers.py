"""
Many writers of one object with optimistic locking over HTTP: no update is lost, no revision repeats.

    python tests/fuzz/writers.py [--writers 100] [--seconds 60]
"""

import argparse
import asyncio
import json
import random
import sys
import time
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.served import served

MAPS = "/api/v1/namespaces/default/configmaps"
PATIENCE = 1.0
"""The longest a writer waits after a conflict, in seconds."""
HEADERS = {"Authorization": "Bearer admin-token", "Content-Type": "application/json"}


class Tally:
    """What writers did and what a watcher saw of it."""

    def __init__(self):
        self.wins = self.losses = 0
        self.versions = []
        self.seen = []


async def write(session, tally, until):
    """Read, add one and write back with the version read, until told to stop."""
    while time.monotonic() < until:
        async with session.get(f"{MAPS}/counter") as answer:
            tree = await answer.json()
        tree["data"]["n"] = str(int(tree["data"]["n"]) + 1)
        async with session.put(f"{MAPS}/counter", data=json.dumps(tree)) as answer:
            body = await answer.json()
            if answer.status == 409:
                tally.losses += 1
                # As clients do; otherwise nearly all they do is lose.
                await asyncio.sleep(random.uniform(0, PATIENCE))
                continue
            assert answer.status == 200, body
        tally.wins += 1
        tally.versions.append(int(body["metadata"]["resourceVersion"]))


async def follow(session, tally, version):
    """Note (revision, count) of every event."""
    query = {"watch": "1", "fieldSelector": "metadata.name=counter", "resourceVersion": version}
    async with session.get(MAPS, params=query) as answer:
        async for line in answer.content:
            tree = json.loads(line)["object"]
            tally.seen.append((int(tree["metadata"]["resourceVersion"]), int(tree["data"]["n"])))


async def count(port, *, writers, seconds):
    """Let them write; raises AssertionError where an update was lost or an event missed."""
    tally = Tally()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{port}", headers=HEADERS, connector=connector
    ) as session:
        body = json.dumps({"metadata": {"name": "counter"}, "data": {"n": "0"}})
        async with session.post(MAPS, data=body) as answer:
            version = (await answer.json())["metadata"]["resourceVersion"]
        watcher = asyncio.create_task(follow(session, tally, version))
        until = time.monotonic() + seconds
        await asyncio.gather(*(write(session, tally, until) for _ in range(writers)))
        async with session.get(f"{MAPS}/counter") as answer:
            total = int((await answer.json())["data"]["n"])
        async with asyncio.timeout(20):
            while len(tally.seen) < tally.wins and not watcher.done():
                await asyncio.sleep(0.01)
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    assert total == tally.wins, f"{tally.wins} updates were acknowledged, {total} counted"
    assert len(set(tally.versions)) == tally.wins, "a revision came twice"
    expected = [(version, number + 1) for number, version in enumerate(sorted(tally.versions))]
    assert tally.seen == expected, "the watcher saw something else"
    return tally


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with served() as api:
        tally = asyncio.run(count(api.port, writers=options.writers, seconds=options.seconds))
    print(
        f"{tally.wins} updates, {tally.losses} conflicts, none lost; {len(tally.seen)} events, each once and in order"
    )


if __name__ == "__main__":
    main()
