"""A disk that is really full: a small tmpfs, filled to the last byte. Nothing crashes, and all goes on once there is room."""

import contextlib
import errno
import os
import subprocess
from pathlib import Path

import pytest

from edgekube.node.imagegc import PulledImages
from edgekube.node.link.disk import HEADER, Record, WishFile
from edgekube.node.pod.recall import Recall
from edgekube.runtime.base import Phase
from edgekube.transport.wire import ObjectDelta
from node.conftest import Rig, make_pod

pytestmark = pytest.mark.root


class SmallDisk:
    """A tmpfs of 512 KiB."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "ek-test", str(folder)], check=True)

    def fill(self, *, but: int = 0):
        """Use up all but some bytes (in whole pages)."""
        with (self.folder / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        if but:
            size = (self.folder / "ballast").stat().st_size
            os.truncate(self.folder / "ballast", size - but)

    def free(self):
        (self.folder / "ballast").unlink()

    def close(self):
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    made = SmallDisk(tmp_path / "disk")
    yield made
    made.close()


def delta(name, size=100):
    return ObjectDelta("v1/pods", "default", name, "1", b"x" * size)


def names(folder):
    return {d.name for d in WishFile(folder).load().deltas}


def test_a_record_that_fits_only_in_part_is_not_there_at_all(disk):
    folder = disk.folder / "wish"
    wish = WishFile(folder)
    wish.append(Record((delta("a"),), complete=True))
    disk.fill(but=4096)
    with pytest.raises(OSError, match="No space left") as caught:
        wish.append(Record((delta("b", 100_000),)))
    assert caught.value.errno == errno.ENOSPC
    assert names(folder) == {"a"}
    disk.free()
    wish.append(Record((delta("b", 100_000),)))
    assert names(folder) == {"a", "b"}
    assert WishFile(folder).load().complete


def test_a_damaged_file_on_a_full_disk_keeps_what_could_be_read(disk):
    folder = disk.folder / "wish"
    WishFile(folder).append(Record((delta("a", 20_000),), complete=True))
    WishFile(folder).append(Record((delta("b"),)))
    path = folder / "objects.log"
    data = bytearray(path.read_bytes())
    data[-50:-40] = b"damaged!!!"
    path.write_bytes(bytes(data) + bytes(data[len(HEADER) :]))
    disk.fill()
    wish = WishFile(folder)
    found = wish.load()
    assert ({d.name for d in found.deltas}, found.complete) == ({"a"}, False)
    with pytest.raises(OSError, match="No space left"):
        wish.append(Record((delta("c"),), complete=True))
    disk.free()
    wish.append(Record((delta("c"),), complete=True))
    assert names(folder) == {"a", "c"}


def test_small_files_are_forgotten_rather_than_torn(disk):
    disk.fill()
    pulled = PulledImages(disk.folder / "pulled.json", lambda: 1.0)
    pulled.add("a")
    recall = Recall(disk.folder / "status")
    recall.keep("uid", make_pod().status)
    assert recall.load("uid") is None
    disk.free()
    pulled.add("b")
    assert "a" in PulledImages(disk.folder / "pulled.json", lambda: 1.0)
    recall.keep("uid", make_pod().status)
    assert recall.load("uid") == make_pod().status


@pytest.mark.looptime
async def test_pods_wait_for_room_and_can_be_ended_meanwhile(disk):
    rig = Rig(disk.folder)
    rig.start()
    first = make_pod(name="first", uid="uid-first")
    rig.put(first)
    await rig.until(
        lambda: "uid-first" in rig.notes.statuses and rig.notes.last("uid-first").phase == "Running"
    )
    disk.fill()
    late = make_pod(name="late", uid="uid-late")
    rig.put(late)
    rig.delete(first)
    await rig.until(lambda: "uid-first" in rig.notes.gone, 120)
    assert rig.notes.last("uid-late").phase == "Pending"
    # What the first pod left was room for a moment; now there is none again.
    disk.fill()
    disk.free()
    await rig.until(lambda: rig.notes.last("uid-late").phase == "Running", 300)
    assert not rig.task.done()
    assert [i.phase for i in rig.containers()] == [Phase.RUNNING]
    await rig.stop()
    rig.machine.power_off()
