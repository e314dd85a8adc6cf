"""
Which pod has which address of the node's CIDR: one small file, written before the kernel is told.

An address is noted before the interface is made and struck out after it is gone, so a crash at any
instant leaves at worst a note without an interface, never an interface without a note.
"""

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec

from edgekube.lib.files import write_atomic
from edgekube.network.base import AddressesExhausted


class _File(msgspec.Struct, omit_defaults=True):
    pods: dict[str, str] = msgspec.field(default_factory=dict)
    last: str = ""
    """The address given last: the next one is looked for after it, so that a freed one rests a while."""


class Addresses:
    """The addresses of `cidr` by pod uid, kept in `path`. The first and the last address and `reserved` are never given."""

    def __init__(self, cidr: str, path: Path, *, reserved: frozenset[str] = frozenset()) -> None:
        self._network = IPv4Network(cidr)
        self._path = path
        self._reserved = reserved
        _sweep(path)
        self._file = _read(path)

    def get(self, uid: str) -> str | None:
        """Return the pod's address."""
        return self._file.pods.get(uid)

    def all(self) -> Mapping[str, str]:
        """Return every address given, by uid."""
        return dict(self._file.pods)

    def allocate(self, uid: str) -> str:
        """Return the pod's address, a new one if it has none; raises AddressesExhausted."""
        have = self._file.pods.get(uid)
        if have is not None:
            return have
        address = next_free(self._network, {*self._file.pods.values(), *self._reserved}, self._file.last)
        self._write(_File({**self._file.pods, uid: address}, address))
        return address

    def release(self, uid: str) -> None:
        """Take the pod's address back."""
        if uid in self._file.pods:
            pods = {other: address for other, address in self._file.pods.items() if other != uid}
            self._write(_File(pods, self._file.last))

    def adopt(self, found: Mapping[str, str]) -> None:
        """Note what the kernel has and the file does not (a lost or damaged file), the kernel's word first."""
        taken = set(found.values())
        pods = {uid: address for uid, address in self._file.pods.items() if address not in taken} | dict(
            found
        )
        if pods != self._file.pods:
            self._write(_File(pods, self._file.last))

    def _write(self, file: _File) -> None:
        # Remembered only once it is on disk: a failed write changes nothing.
        write_atomic(self._path, msgspec.json.encode(file))
        self._file = file


def next_free(network: IPv4Network, taken: Collection[str], last: str) -> str:
    """Return the first address after `last` that is not taken, going round; raises AddressesExhausted."""
    first, size = int(network.network_address), network.num_addresses
    start = int(IPv4Address(last)) - first if last else 0
    for step in range(1, size + 1):
        offset = (start + step) % size
        address = str(IPv4Address(first + offset))
        if 0 < offset < size - 1 and address not in taken:
            return address
    raise AddressesExhausted(f"no free address in {network}: {len(taken)} are taken")


def _read(path: Path) -> _File:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File)
    except (FileNotFoundError, msgspec.DecodeError):
        # A damaged file is as good as none: `adopt` refills it from the kernel.
        return _File()


def _sweep(path: Path) -> None:
    """Remove what writes that never ended left beside the file."""
    for stray in path.parent.glob(f".{path.name}.*"):
        stray.unlink(missing_ok=True)
