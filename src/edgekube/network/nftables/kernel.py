"""A table of ours in the kernel, in one or two families: a socket, its thread, and whether the table is whole."""

import asyncio
import errno
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgekube.network.netlink import NETFILTER, Netlink, NetlinkError, attributes, text
from edgekube.network.nftables.transaction import BUFFER, Transaction, commit, count_rules

T = TypeVar("T")

_GET_ELEMENT, _GET_GENERATION = 10 << 8 | 13, 10 << 8 | 16

Count = tuple[int, Mapping[str, int]]
"""How many rules a table should hold, and how many elements by set."""


class Kernel:
    """A table of the network namespace the process runs in. Blocking methods are for use within `do`."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.sent_bytes = self.sent_steps = 0
        """Of netlink batches since the start, in bytes and in messages."""
        self._generation = -1
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=table)
        self._netlink: Netlink | None = None

    async def do(self, work: Callable[[], T]) -> T:
        """Run blocking work in the table's thread, one after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Let the socket and the thread go; the rules stay in the kernel."""
        self._executor.shutdown()
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def commit(self, *changes: Transaction) -> None:
        """Do them all in one batch (blocking)."""
        try:
            self.sent_bytes += commit(self._socket(), changes)
            self.sent_steps += sum(len(change.steps) for change in changes)
        finally:
            # Somebody may have changed the ruleset since: look closely at the next check.
            self._generation = -1

    def holds(self, count: Callable[[], Mapping[int, Count]]) -> bool:
        """
        Tell whether the table has as many rules and elements as `count` says by family (blocking).

        It is asked only when the kernel's ruleset generation moved; another program's change of its
        own tables moves it too.
        """
        netlink = self._socket()
        generation = _generation(netlink)
        if generation == self._generation:
            return True
        try:
            if not all(self._is_whole(netlink, family, *held) for family, held in count().items()):
                return False
        except NetlinkError as error:
            if error.number == errno.ENOENT:
                return False
            raise
        self._generation = generation
        return True

    def _socket(self) -> Netlink:
        if self._netlink is None:
            self._netlink = Netlink(NETFILTER, buffer=BUFFER)
        return self._netlink

    def _is_whole(self, netlink: Netlink, family: int, rules: int, elements: Mapping[str, int]) -> bool:
        if count_rules(netlink, self.table, family=family) != rules:
            return False
        return all(self._elements(netlink, family, name) == held for name, held in elements.items())

    def _elements(self, netlink: Netlink, family: int, name: str) -> int:
        body = bytes([family, 0, 0, 0]) + text(1, self.table) + text(2, name)
        return sum(_listed(answer) for answer in netlink.dump(f"elements of {name}", _GET_ELEMENT, body))


def _generation(netlink: Netlink) -> int:
    answer = netlink.get("generation", _GET_GENERATION, b"\0\0\0\0")
    return int.from_bytes(attributes(answer, 4).get(1, b""), "big")


def _listed(answer: bytes) -> int:
    listed = attributes(answer, 4).get(3, b"")
    count = offset = 0
    while offset + 4 <= len(listed):
        offset += (int.from_bytes(listed[offset : offset + 2], "little") + 3) & ~3
        count += 1
    return count
