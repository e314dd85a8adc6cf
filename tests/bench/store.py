"""
Puts per second and bytes written per put of the embedded store.

    python tests/bench/store.py [--dir DIR] [--puts N] [--size BYTES] [--keys N]

Put DIR on the medium to be measured. Bytes are those handed to the kernel (write-ahead log and
checkpoints); a file system adds its own, mostly one 4 KiB page and its journal per sync.
"""

import argparse
import asyncio
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edgekube.api.resource import Durability
from edgekube.store.sqlite import SqliteStore


@dataclass
class Figures:
    seconds: float
    written: int
    commits: int
    synced: int


def written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def value(size: int) -> bytes:
    """About as compressible as nothing, and not always of one length, like objects whose status changes."""
    return random.randbytes(size + random.randrange(-16, 17))


async def fill(store: SqliteStore, keys: int, size: int) -> dict[str, int]:
    names = [f"/registry/pods/default/pod-{index:05}" for index in range(keys)]
    records = []
    for start in range(0, keys, 500):
        chunk = names[start : start + 500]
        records += await asyncio.gather(*(store.put(name, value(size), expected=0) for name in chunk))
    return {record.key: record.revision for record in records}


async def measure(
    store: SqliteStore, revisions: dict[str, int], writers: int, puts: int, size: int, sure: Durability
):
    names = list(revisions)
    share = len(names) // writers

    async def write(index: int) -> None:
        mine = names[index * share : (index + 1) * share]
        for _ in range(puts // writers):
            name = random.choice(mine)
            record = await store.put(name, value(size), expected=revisions[name], durability=sure)
            revisions[name] = record.revision

    bytes_before, commits, synced = written(), store.counters.commits, store.counters.synced
    start = time.perf_counter()
    await asyncio.gather(*(write(index) for index in range(writers)))
    seconds = time.perf_counter() - start
    return Figures(
        seconds, written() - bytes_before, store.counters.commits - commits, store.counters.synced - synced
    )


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--puts", type=int, default=3200)
    parser.add_argument("--size", type=int, default=1500)
    parser.add_argument("--keys", type=int, default=5000)
    options = parser.parse_args()
    random.seed(1)
    print(f"{options.keys} keys of {options.size} bytes, {options.puts} puts")
    print(f"{'class':10}{'writers':>8}{'puts/s':>10}{'KB/put':>9}{'commits':>9}{'syncs':>7}")
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        store = SqliteStore(Path(folder) / "state.db")
        revisions = await fill(store, options.keys, options.size)
        for sure in Durability:
            for writers in (1, 64):
                figures = await measure(store, revisions, writers, options.puts, options.size, sure)
                print(
                    f"{sure.value:10}{writers:8}{options.puts / figures.seconds:10.0f}"
                    f"{figures.written / options.puts / 1000:9.2f}{figures.commits:9}{figures.synced:7}"
                )
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
