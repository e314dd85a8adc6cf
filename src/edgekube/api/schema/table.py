"""Reads the shipped tables of definitions and descriptions, unpacking only what is asked for."""

import zlib
from importlib.resources import files
from typing import Any

import msgspec


class _File(msgspec.Struct, frozen=True):
    kinds: dict[str, str]
    packages: dict[str, bytes]


class Table:
    """A shipped `.bin` file: definition name -> msgpack bytes, one compressed block a Go package."""

    def __init__(self, data: bytes) -> None:
        self._file = msgspec.msgpack.decode(data, type=_File)
        self._blocks: dict[str, dict[str, bytes]] = {}

    @classmethod
    def shipped(cls, name: str) -> "Table":
        """Read a file of this package."""
        return cls((files("edgekube.api.schema") / name).read_bytes())

    @property
    def kinds(self) -> dict[str, str]:
        """`apps/v1/Deployment` -> definition name."""
        return self._file.kinds

    def keep(self, name: str) -> Any:
        """Return a definition's tree, keeping its package unpacked; KeyError if there is none."""
        package, _, short = name.rpartition(".")
        block = self._blocks.get(package)
        if block is None:
            block = self._blocks[package] = self._unpack(package)
        return msgspec.msgpack.decode(block[short])

    def package(self, name: str) -> dict[str, Any]:
        """Return every tree of a package by short name, keeping nothing; {} if there is none."""
        if name not in self._file.packages:
            return {}
        return {short: msgspec.msgpack.decode(data) for short, data in self._unpack(name).items()}

    def _unpack(self, package: str) -> dict[str, bytes]:
        packed = zlib.decompress(self._file.packages[package])
        return msgspec.msgpack.decode(packed, type=dict[str, bytes])
