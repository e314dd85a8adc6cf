"""
The wish on the node's own disk: one append-only file, so that a change costs one small write.

Each append is one record, `length, CRC-32, msgpack`, synced before it counts (fsync(2)). A power cut
leaves at most a torn last record, which was never acknowledged and is cut off. Damage elsewhere
means that changes may be missing: the file is set aside, what can be read is kept, and the state
counts as incomplete until the next resync. The file is rewritten when most of it is outdated.
"""

import contextlib
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

import msgspec

from edgekube.lib.files import sync_folder, write_atomic
from edgekube.transport.wire import ObjectDelta

log = logging.getLogger(__name__)

HEADER = b"edgekube wish 1\n"
FRAME = struct.Struct(">II")
SLACK = 256 << 10
"""Bytes of outdated records tolerated beyond the size of the live ones."""


class Record(msgspec.Struct, array_like=True, frozen=True):
    """One append. `complete`: from here on the state is all the node should have; None: as before."""

    deltas: tuple[ObjectDelta, ...] = ()
    complete: bool | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What was on disk."""

    deltas: tuple[ObjectDelta, ...] = ()
    complete: bool = False


_records = msgspec.msgpack.Decoder(Record)


class WishFile:
    """The file store; blocking, so call `append` in a thread. One user at a time."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "objects.log"
        self._sizes: dict[str, int] = {}
        self._complete = False
        self._salvaged: Stored | None = None
        """What was saved from a damaged file and could not be written yet."""

    def load(self) -> Stored:
        """Return what is stored, after repairing the file."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return Stored()
        live: dict[str, ObjectDelta] = {}
        end, whole = len(HEADER), data.startswith(HEADER)
        for record, after in _read(data) if whole else ():
            self._apply(live, record)
            end = after
        stored = Stored(tuple(live.values()), self._complete)
        if not whole or (end < len(data) and not _torn(data, end)):
            return self._salvage(stored)
        if end < len(data):
            self._cut(end)
        self._sizes = {delta.key: _size(delta) for delta in stored.deltas}
        return stored

    def append(self, record: Record) -> None:
        """Store one record so that it survives a power cut; raises OSError."""
        if self._salvaged is not None:
            self._write(self._salvaged)
            self._salvaged = None
        if not self._path.exists():
            write_atomic(self._path, HEADER, mode=0o600)
        with self._path.open("ab", buffering=0) as file:
            start = file.tell()
            try:
                _write_all(file, _frame(record))
                os.fsync(file.fileno())
            except OSError:
                # A full disk may have taken half of it.
                os.ftruncate(file.fileno(), start)
                raise
            size = file.tell()
        if record.complete is not None:
            self._complete = record.complete
        for delta in record.deltas:
            self._sizes.pop(delta.key, None)
            if delta.raw:
                self._sizes[delta.key] = _size(delta)
        if size > 2 * sum(self._sizes.values()) + SLACK:
            # It is stored already; tidying up can wait until there is room.
            with contextlib.suppress(OSError):
                self._rewrite()

    def _apply(self, live: dict[str, ObjectDelta], record: Record) -> None:
        if record.complete is not None:
            self._complete = record.complete
        for delta in record.deltas:
            live.pop(delta.key, None)
            if delta.raw:
                live[delta.key] = delta

    def _rewrite(self) -> None:
        live: dict[str, ObjectDelta] = {}
        for record, _ in _read(self._path.read_bytes()):
            self._apply(live, record)
        self._write(Stored(tuple(live.values()), self._complete))

    def _write(self, stored: Stored) -> None:
        parts = [_frame(Record((delta,))) for delta in stored.deltas]
        parts.append(_frame(Record(complete=stored.complete)))
        write_atomic(self._path, HEADER + b"".join(parts), mode=0o600)
        self._sizes = {delta.key: _size(delta) for delta in stored.deltas}

    def _salvage(self, stored: Stored) -> Stored:
        aside = self._path.with_suffix(".damaged")
        self._path.replace(aside)
        log.error("%s is damaged; set aside as %s, asking the hub again", self._path, aside)
        self._complete = False
        kept = Stored(stored.deltas, complete=False)
        try:
            self._write(kept)
        except OSError as error:
            log.error("%s: %s", self._path, error)  # noqa: TRY400 - expected, no traceback
            self._salvaged = kept
        return kept

    def _cut(self, end: int) -> None:
        with self._path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
        sync_folder(self._path.parent)


def _write_all(file: RawIOBase, data: bytes) -> None:
    """Write the whole of it: a disk that is nearly full takes a part without a word (write(2))."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _frame(record: Record) -> bytes:
    body = msgspec.msgpack.encode(record)
    return FRAME.pack(len(body), zlib.crc32(body)) + body


def _size(delta: ObjectDelta) -> int:
    return len(delta.raw) + len(delta.key) + len(delta.version) + 16


def _read(data: bytes) -> Iterator[tuple[Record, int]]:
    """Yield the good records and where each ends, up to the first bad one."""
    start = len(HEADER)
    while start + FRAME.size <= len(data):
        length, check = FRAME.unpack_from(data, start)
        end = start + FRAME.size + length
        body = data[start + FRAME.size : end]
        if length == 0 or end > len(data) or zlib.crc32(body) != check:
            return
        try:
            record = _records.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        yield record, end
        start = end


def _torn(data: bytes, start: int) -> bool:
    """Tell whether what follows `start` is one half-written record: it reaches the end, or is all zeros."""
    rest = data[start:]
    if len(rest) < FRAME.size or not rest.strip(b"\0"):
        return True
    length, _ = FRAME.unpack_from(rest)
    return length != 0 and FRAME.size + int(length) >= len(rest)
