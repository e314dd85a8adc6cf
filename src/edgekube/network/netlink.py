"""
Netlink by hand (netlink(7)): attributes are packed with struct, answers are read by sequence number.

The whole of pyroute2 costs a process 13 MB and a third of a second (any of its modules imports the
rest), which a node agent cannot afford for a dozen message kinds.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from edgekube.network.base import NetworkError

ROUTE, NETFILTER = 0, 12
REQUEST, ACK, DUMP, CREATE, EXCL, REPLACE, APPEND = 1, 4, 0x300, 0x400, 0x200, 0x100, 0x800

_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_ERROR, _DONE = 2, 3
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER = 1 << 16
"""Bytes a read takes: the kernel puts at most 32 KiB into one."""
_CAPPED, _ACK_TLVS = 0x100, 0x200
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


class NetlinkError(NetworkError):
    """The kernel refused a message; `number` is the errno."""

    def __init__(self, what: str, number: int, detail: str = "") -> None:
        super().__init__(f"{what}: {os.strerror(number)}{f' ({detail})' if detail else ''}")
        self.number = number


class Answer(NamedTuple):
    """One message from the kernel: its header's fields and what follows the header."""

    type: int
    flags: int
    sequence: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """Pack one attribute, padded to four bytes."""
    size = len(value) + 4
    return _pack_head(size, kind) + value + _PADDING[size & 3]


# These are called ten times for every rule of thousands: they do not call each other.
_pack_head = _ATTRIBUTE.pack
_PADDING = tuple(bytes(-size & 3) for size in range(4))
_ENDED = tuple(bytes(1 + (-(size + 1) & 3)) for size in range(4))


def nest(kind: int, *values: bytes) -> bytes:
    """Pack attributes, whole ones, into one."""
    value = b"".join(values)
    return _pack_head(len(value) + 4, kind | _NESTED) + value


def text(kind: int, value: str) -> bytes:
    """Pack a string, with the zero byte the kernel wants."""
    data = value.encode()
    size = len(data)
    return _pack_head(size + 5, kind) + data + _ENDED[size & 3]


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Return the attributes in `data`; of repeated ones the last (see `attribute_list`)."""
    return dict(attribute_list(data, offset))


def attribute_list(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield every attribute in `data` in order."""
    while offset + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4:
            return
        yield kind & _TYPE_MASK, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """Pack a whole message."""
    return _HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body


def messages(data: bytes) -> Iterator[Answer]:
    """Split what one read returned."""
    offset = 0
    while offset + 16 <= len(data):
        size, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        if size < 16:
            return
        yield Answer(kind, flags, sequence, data[offset + 16 : offset + size])
        offset += (size + 3) & ~3


def failure(answer: Answer) -> tuple[int, str] | None:
    """Return errno (0: an acknowledgement) and the kernel's words of an error message; None for other messages."""
    if answer.type != _ERROR:
        return None
    number = -struct.unpack_from("=i", answer.body)[0]
    if not answer.flags & _ACK_TLVS:
        return number, ""
    # The refused message's header comes first; its body too, unless the answer is capped.
    refused = 16 if answer.flags & _CAPPED else struct.unpack_from("=I", answer.body, 4)[0]
    said = attributes(answer.body, 4 + ((refused + 3) & ~3)).get(1, b"")
    return number, said.rstrip(b"\0").decode(errors="replace")


class Netlink:
    """A netlink socket of one family in the namespace of the thread that makes it; calls block."""

    def __init__(self, family: int, *, buffer: int = 0) -> None:
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(30)
            for option in (_CAP_ACK, _EXT_ACK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            if buffer:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, buffer)
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def reserve(self, count: int) -> int:
        """Return the first of `count` sequence numbers that nobody else uses on this socket."""
        first = self._sequence + 1
        self._sequence += count
        return first

    def send(self, data: bytes) -> None:
        """Send messages as they are."""
        try:
            self._socket.send(data)
        except OSError as error:
            raise NetlinkError("netlink send", error.errno or errno.EIO) from error

    def receive(self) -> Iterator[Answer]:
        """Wait for the next read's worth of messages."""
        try:
            return messages(self._socket.recv(_BUFFER))
        except OSError as error:
            raise NetlinkError("netlink receive", error.errno or errno.ETIMEDOUT) from error

    def request(self, what: str, kind: int, flags: int, body: bytes) -> None:
        """Send one change and wait until it is done; a refusal is raised as NetlinkError naming `what`."""
        self._sequence += 1
        self.send(message(kind, flags | REQUEST | ACK, self._sequence, body))
        for answer in self._answers():
            failed = failure(answer)
            if failed is not None:
                number, detail = failed
                if number:
                    raise NetlinkError(what, number, detail)
                return

    def dump(self, what: str, kind: int, body: bytes) -> Iterator[bytes]:
        """Ask for every object of a kind and yield their bodies."""
        self._sequence += 1
        self.send(message(kind, REQUEST | DUMP, self._sequence, body))
        for answer in self._answers():
            failed = failure(answer)
            if failed is not None:
                raise NetlinkError(what, *failed)
            if answer.type == _DONE:
                return
            yield answer.body

    def get(self, what: str, kind: int, body: bytes) -> bytes:
        """Ask for one object and return its body."""
        self._sequence += 1
        self.send(message(kind, REQUEST, self._sequence, body))
        for answer in self._answers():
            failed = failure(answer)
            if failed is not None:
                raise NetlinkError(what, *failed)
            return answer.body
        raise AssertionError

    def _answers(self) -> Iterator[Answer]:
        while True:
            for answer in self.receive():
                if answer.sequence == self._sequence:
                    yield answer
