"""
Cuts the power under a writing store, in a mount namespace of its own: arguments are a folder and rounds of lines.

The file system is an image of its own. After so many acknowledged writes it is shut down without
writing back anything, as if the board had lost power, and mounted again. Prints what each round
acknowledged and what was found afterwards, as JSON.

Unlike a board without power the writer lives on for a moment, and an fsync(2) that is under way
while ext4 is shut down can end without an error though its journal was thrown away
(jbd2_complete_transaction finds no transaction to wait for). What is told after the cut began
counts as `late`: it could not have been told.
"""

import asyncio
import fcntl
import json
import os
import select
import struct
import subprocess
import sys
from pathlib import Path

from edgekube.store.sqlite import SqliteStore

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
WRITER = Path(__file__).with_name("writer.py")


def shut_down(mount):
    handle = os.open(mount, os.O_RDONLY)
    try:
        fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(handle)


def write_until_the_cut(mount, lines):
    """Return what was acknowledged before the cut, and what after it began."""
    with subprocess.Popen(
        [sys.executable, WRITER, mount / "state.db"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as child:
        heard = b""
        while heard.count(b"\n") < lines:
            heard += os.read(child.stdout.fileno(), 1 << 16)
        while select.select([child.stdout], [], [], 0)[0]:
            heard += os.read(child.stdout.fileno(), 1 << 16)
        shut_down(mount)
        child.kill()
        everything = heard + child.stdout.read()
    return words(heard), words(everything[heard.rfind(b"\n") + 1 :])


def words(heard):
    found = [line.decode().split() for line in heard.splitlines(keepends=True) if line.endswith(b"\n")]
    return [(key, int(revision), int(step)) for key, revision, step in found]


async def read(mount):
    store = SqliteStore(mount / "state.db")
    try:
        records = {record.key: int(record.value) for record in (await store.list("")).records}
        return {"revision": await store.revision(), "records": records}
    finally:
        await store.close()


def main():
    folder, rounds = Path(sys.argv[1]), [int(text) for text in sys.argv[2:]]
    image, mount = folder / "disk.img", folder / "disk"
    mount.mkdir()
    image.touch()
    os.truncate(image, 64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    attach = ["mount", "-o", "loop", image, mount]
    results = []
    subprocess.run(attach, check=True)
    for lines in rounds:
        acknowledged, late = write_until_the_cut(mount, lines)
        subprocess.run(["umount", mount], check=True)
        subprocess.run(attach, check=True)
        results.append({"acknowledged": acknowledged, "late": late, **asyncio.run(read(mount))})
    subprocess.run(["umount", mount], check=True)
    print(json.dumps(results))


main()
