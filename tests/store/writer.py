"""
Writes to the store in the file given as argument until killed, in all classes at once.

Every acknowledged write is told at once on standard output: key, revision, step.
"""

import asyncio
import os
import sys
from pathlib import Path

from edgekube.api.resource import Durability
from edgekube.store.sqlite import SqliteStore


async def write(store, index, durability):
    key = f"/{durability.value}/{index}"
    current = await store.get(key)
    step, revision = (int(current.value), current.revision) if current else (0, 0)
    while True:
        step += 1
        record = await store.put(key, b"%d" % step, expected=revision, durability=durability)
        revision = record.revision
        os.write(1, f"{key} {revision} {step}\n".encode())


async def main():
    store = SqliteStore(Path(sys.argv[1]))
    async with asyncio.TaskGroup() as group:
        for index, durability in enumerate(list(Durability) * 4):
            group.create_task(write(store, index, durability))


asyncio.run(main())
