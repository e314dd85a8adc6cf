"""ServiceRules in the kernel: table `edgekube` of family ip, and of ip6 if need be; no subprocess."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from edgekube.network.base import Flows, Forwarding, Frontend, NetworkError, Transport
from edgekube.network.netlink import NetlinkError
from edgekube.network.nftables import layout
from edgekube.network.nftables.conntrack import SETTINGS, flows, forget
from edgekube.network.nftables.kernel import Count, Kernel
from edgekube.network.nftables.servicetable import ServiceTable
from edgekube.network.nftables.transaction import IPV4, IPV6, Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")


class NftablesServiceRules:
    """
    Programs the network namespace the process runs in.

    Both families' changes are one batch. The table of ip6 is made in a dual-stack cluster, and for
    IPv6 frontends; a kernel that refuses it has that of ip alone.
    """

    def __init__(self, ranges: layout.Ranges, *, table: str = "edgekube", settings: Path = SETTINGS) -> None:
        self.kernel = Kernel(table)
        self._settings = settings
        """Where the kernel tells of its table of connections."""
        self._parts = {part.family.number: part for part in ranges.parts}
        self._tables: dict[int, ServiceTable] = {}
        """By family, of those that have a table."""
        self._refused = ""
        """Why the kernel has no table of IPv6."""
        self._swept = False
        """Whether it is known that none was left by another process."""

    async def replace(self, rules: Mapping[Frontend, Forwarding]) -> None:
        """Build the tables anew in one batch."""
        await self.kernel.do(lambda: self._replace(dict(rules)))

    async def change(self, put: Mapping[Frontend, Forwarding], drop: Collection[Frontend]) -> None:
        """Change some frontends in one batch."""
        await self.kernel.do(lambda: self._change(dict(put), list(drop)))

    async def intact(self) -> bool:
        """
        Compare the kernel's ruleset generation with the last one seen.

        Another program's change of its own tables moves it too: then our rules are counted.
        """
        return await self.kernel.do(lambda: bool(self._tables) and self.kernel.holds(self._count))

    async def flows(self) -> Flows:
        """Return how full the kernel's table of connections is."""
        return await self.kernel.do(lambda: flows(self._settings))

    async def clear(self) -> None:
        """Remove the tables."""
        await self.kernel.do(self._clear)

    def close(self) -> None:
        """Let the socket and the thread go; the rules stay in the kernel."""
        self.kernel.close()

    def _replace(self, rules: dict[Frontend, Forwarding]) -> None:
        divided = _by_family(rules)
        wanted = [IPV4, IPV6] if divided[IPV6] or self._parts[IPV6].service_cidr else [IPV4]
        tables = {number: ServiceTable(self._parts[number], self.kernel.table) for number in wanted}
        changes = {number: table.afresh(divided[number]) for number, table in tables.items()}
        refused = ""
        try:
            self.kernel.commit(*changes.values())
        except NetlinkError as error:
            if IPV6 not in changes:
                raise
            # Whatever is wrong with IPv6, IPv4 goes on.
            self.kernel.commit(changes[IPV4])
            del tables[IPV6]
            refused = str(error)
        self._complain(refused)
        self._swept = self._swept and IPV6 not in tables
        if IPV6 not in tables and not self._swept:
            self._sweep()
        for number, table in tables.items():
            table.settle(divided[number], ())
        self._tables = tables
        self._forget(rules)

    def _change(self, put: dict[Frontend, Forwarding], drop: list[Frontend]) -> None:
        puts, drops = _by_family(put), _by_family(dict.fromkeys(drop))
        tables, changes = dict(self._tables), []
        for number in (IPV4, IPV6):
            if not (puts[number] or drops[number]) or (number == IPV6 and self._refused):
                continue
            if number in tables:
                changes.append(tables[number].change(puts[number], drops[number]))
            elif drops[number]:
                raise NetworkError(f"no rule for {next(iter(drops[number]))}")
            else:
                tables[number] = ServiceTable(self._parts[number], self.kernel.table)
                changes.append(tables[number].afresh(puts[number]))
        self.kernel.commit(*changes)
        touched = (*put, *drop)
        lost = [frontend for frontend in touched if _lost(self._known(frontend), put.get(frontend))]
        for number, table in tables.items():
            table.settle(puts[number], drops[number])
        self._tables = tables
        self._swept = self._swept and IPV6 not in tables
        self._forget({frontend: put.get(frontend) for frontend in lost})

    def _known(self, frontend: Frontend) -> Forwarding | None:
        return next(
            (table.rules[frontend] for table in self._tables.values() if frontend in table.rules), None
        )

    def _complain(self, refused: str) -> None:
        if refused and refused != self._refused:
            log.warning("no service rules for IPv6: %s", refused)
        self._refused = refused

    def _sweep(self) -> None:
        """Remove the IPv6 table another process, or a service that is gone, may have left."""
        try:
            self.kernel.commit(self._removal(IPV6))
        except NetlinkError as error:
            # A kernel without IPv6 has nothing to remove.
            log.debug("%s", error)
        self._swept = True

    def _forget(self, rules: Mapping[Frontend, Forwarding | None]) -> None:
        """Cure UDP clients of backends that are gone; a failure costs them two minutes, not us our rules."""
        try:
            forget(
                {
                    frontend: rule.everywhere if rule is not None else ()
                    for frontend, rule in rules.items()
                    if frontend.transport is Transport.UDP
                }
            )
        except NetworkError as error:
            log.warning("stale UDP flows stay: %s", error)

    def _count(self) -> dict[int, Count]:
        return {number: table.count() for number, table in self._tables.items()}

    def _clear(self) -> None:
        self.kernel.commit(self._removal(IPV4))
        self._sweep()
        self._tables = {}

    def _removal(self, family: int) -> Transaction:
        change = Transaction(self.kernel.table, family=family)
        change.add_table()
        change.delete_table()
        return change


def _by_family(rules: Mapping[Frontend, T]) -> dict[int, dict[Frontend, T]]:
    """Divide by family."""
    four: dict[Frontend, T] = {}
    six: dict[Frontend, T] = {}
    for frontend, rule in rules.items():
        (six if ":" in frontend.address else four)[frontend] = rule
    return {IPV4: four, IPV6: six}


def _lost(old: Forwarding | None, new: Forwarding | None) -> bool:
    """Tell whether flows may lead elsewhere than they should: to a backend that is gone, or to none at all."""
    if old is None or new is None or not old.backends:
        return True
    return bool(set(old.everywhere) - set(new.everywhere))
