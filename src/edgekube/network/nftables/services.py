"""ServiceRules in the kernel: table `edgekube`, one atomic netlink batch per step, no subprocess."""

import asyncio
import errno
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgekube.network.base import Forwarding, Frontend, NetworkError, Transport
from edgekube.network.netlink import NETFILTER, Netlink, NetlinkError, attributes, text
from edgekube.network.nftables import layout
from edgekube.network.nftables.conntrack import forget
from edgekube.network.nftables.expressions import address_key
from edgekube.network.nftables.transaction import BUFFER, Transaction, count_rules

log = logging.getLogger(__name__)

T = TypeVar("T")

_GET_ELEMENT, _GET_GENERATION = 10 << 8 | 13, 10 << 8 | 16
_HEADER = b"\2\0\0\0"


class NftablesServiceRules:
    """Programs the network namespace the process runs in."""

    def __init__(self, ranges: layout.Ranges, *, table: str = "edgekube") -> None:
        self._ranges = ranges
        self._table = table
        self._rules: dict[Frontend, Forwarding] = {}
        self._hairpins: Counter[str] = Counter()
        self._generation = -1
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="nftables")
        self._netlink: Netlink | None = None
        self.sent_bytes = 0
        """Of netlink batches since the start."""

    async def replace(self, rules: Mapping[Frontend, Forwarding]) -> None:
        """Build the table anew in one batch."""
        await self._do(lambda: self._replace(dict(rules)))

    async def change(self, put: Mapping[Frontend, Forwarding], drop: Collection[Frontend]) -> None:
        """Change some frontends in one batch."""
        await self._do(lambda: self._change(dict(put), list(drop)))

    async def intact(self) -> bool:
        """
        Compare the kernel's ruleset generation with the last one seen.

        Another program's change of its own tables moves it too: then our rules are counted.
        """
        return await self._do(self._intact)

    async def clear(self) -> None:
        """Remove the table."""
        await self._do(self._clear)

    def close(self) -> None:
        """Let the socket and the thread go; the rules stay in the kernel."""
        self._executor.shutdown()
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _replace(self, rules: dict[Frontend, Forwarding]) -> None:
        change = Transaction(self._table)
        change.start_afresh("edgekube: services")
        layout.write_frame(change, self._ranges)
        for frontend, forwarding in rules.items():
            layout.write_frontend(change, frontend, None, forwarding, cluster_cidr=self._ranges.cluster_cidr)
        layout.add_elements(change, layout.elements(rules))
        hairpins = Counter(layout.hairpins(rules.values(), self._ranges.cluster_cidr))
        change.add_elements(layout.HAIRPIN, _pairs(hairpins))
        self._commit(change)
        self._rules, self._hairpins = rules, hairpins
        self._forget(rules)

    def _change(self, put: dict[Frontend, Forwarding], drop: list[Frontend]) -> None:
        absent = [frontend for frontend in drop if frontend not in self._rules]
        if absent:
            raise NetworkError(f"no rule for {absent[0]}")
        touched = [*put, *drop]
        old = {frontend: self._rules[frontend] for frontend in touched if frontend in self._rules}
        before, after = layout.elements(old), layout.elements(put)
        hairpins = self._hairpins.copy()
        hairpins.subtract(layout.hairpins(old.values(), self._ranges.cluster_cidr))
        hairpins.update(layout.hairpins(put.values(), self._ranges.cluster_cidr))
        hairpins = +hairpins
        change = Transaction(self._table)
        layout.delete_elements(change, before.keys() - after.keys())
        for frontend in touched:
            layout.write_frontend(
                change,
                frontend,
                old.get(frontend),
                put.get(frontend),
                cluster_cidr=self._ranges.cluster_cidr,
            )
        layout.add_elements(change, {key: after[key] for key in after.keys() - before.keys()})
        change.delete_elements(layout.HAIRPIN, _pairs(self._hairpins.keys() - hairpins.keys()))
        change.add_elements(layout.HAIRPIN, _pairs(hairpins.keys() - self._hairpins.keys()))
        self._commit(change)
        for frontend in drop:
            self._rules.pop(frontend, None)
        self._rules |= put
        self._hairpins = hairpins
        self._forget(frontend for frontend in touched if _lost(old.get(frontend), put.get(frontend)))

    def _socket(self) -> Netlink:
        if self._netlink is None:
            self._netlink = Netlink(NETFILTER, buffer=BUFFER)
        return self._netlink

    def _commit(self, change: Transaction) -> None:
        try:
            self.sent_bytes += change.commit(self._socket())
        finally:
            # Somebody may have changed the ruleset since: look closely at the next check.
            self._generation = -1

    def _forget(self, touched: Iterable[Frontend]) -> None:
        """Cure UDP clients of backends that are gone; a failure costs them two minutes, not us our rules."""
        datagrams = [frontend for frontend in touched if frontend.transport is Transport.UDP]
        rules = {frontend: self._rules.get(frontend) for frontend in datagrams}
        try:
            forget(
                {frontend: rule.everywhere if rule is not None else () for frontend, rule in rules.items()}
            )
        except NetworkError as error:
            log.warning("stale UDP flows stay: %s", error)

    def _intact(self) -> bool:
        netlink = self._socket()
        generation = _generation(netlink)
        if generation == self._generation:
            return True
        if not self._complete(netlink):
            return False
        self._generation = generation
        return True

    def _complete(self, netlink: Netlink) -> bool:
        rules = layout.FIXED_RULES + sum(map(layout.rule_count, self._rules.values()))
        held: Counter[str] = Counter(name for name, _key in layout.elements(self._rules))
        held[layout.HAIRPIN] = len(self._hairpins)
        names = (layout.SERVICES, layout.NODE_PORTS, layout.REFUSED, layout.REFUSED_PORTS, layout.HAIRPIN)
        try:
            if count_rules(netlink, self._table) != rules:
                return False
            return all(self._count(netlink, name) == held[name] for name in names)
        except NetlinkError as error:
            if error.number == errno.ENOENT:
                return False
            raise

    def _count(self, netlink: Netlink, name: str) -> int:
        body = _HEADER + text(1, self._table) + text(2, name)
        return sum(_elements(answer) for answer in netlink.dump(f"elements of {name}", _GET_ELEMENT, body))

    def _clear(self) -> None:
        change = Transaction(self._table)
        change.add_table()
        change.delete_table()
        self._commit(change)
        self._rules, self._hairpins = {}, Counter()


def _lost(old: Forwarding | None, new: Forwarding | None) -> bool:
    """Tell whether flows may lead elsewhere than they should: to a backend that is gone, or to none at all."""
    if old is None or new is None or not old.backends:
        return True
    return bool(set(old.everywhere) - set(new.everywhere))


def _generation(netlink: Netlink) -> int:
    answer = netlink.get("generation", _GET_GENERATION, b"\0\0\0\0")
    return int.from_bytes(attributes(answer, 4).get(1, b""), "big")


def _elements(answer: bytes) -> int:
    listed = attributes(answer, 4).get(3, b"")
    count = offset = 0
    while offset + 4 <= len(listed):
        offset += (int.from_bytes(listed[offset : offset + 2], "little") + 3) & ~3
        count += 1
    return count


def _pairs(addresses: Iterable[str]) -> list[bytes]:
    return [address_key(address) * 2 for address in addresses]
