"""
Cuts the power under a writing store, in a mount namespace of its own: arguments are a folder and rounds of lines.

The file system is an image of its own. After so many acknowledged writes it is shut down without
writing back anything, as if the board had lost power, and mounted again. Prints what each round
acknowledged and what was found afterwards, as JSON.
"""

import asyncio
import fcntl
import json
import os
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
    with subprocess.Popen(
        [sys.executable, WRITER, mount / "state.db"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        heard = [child.stdout.readline() for _ in range(lines)]
        shut_down(mount)
        child.kill()
        heard += child.stdout.readlines()
    words = [line.decode().split() for line in heard if line.endswith(b"\n")]
    return [(key, int(revision), int(step)) for key, revision, step in words]


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
        acknowledged = write_until_the_cut(mount, lines)
        subprocess.run(["umount", mount], check=True)
        subprocess.run(attach, check=True)
        results.append({"acknowledged": acknowledged, **asyncio.run(read(mount))})
    subprocess.run(["umount", mount], check=True)
    print(json.dumps(results))


main()
