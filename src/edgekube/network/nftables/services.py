"""ServiceRules in the kernel: table `edgekube`, one atomic netlink batch per step, no subprocess."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from edgekube.network.base import Flows, Forwarding, Frontend, NetworkError, Transport
from edgekube.network.nftables import layout
from edgekube.network.nftables.conntrack import flows, forget
from edgekube.network.nftables.expressions import address_key
from edgekube.network.nftables.kernel import Count, Kernel
from edgekube.network.nftables.transaction import IPV4, Transaction

log = logging.getLogger(__name__)


class NftablesServiceRules:
    """Programs the network namespace the process runs in."""

    def __init__(self, ranges: layout.Ranges, *, table: str = "edgekube") -> None:
        self.kernel = Kernel(table)
        self._ranges = ranges
        self._rules: dict[Frontend, Forwarding] = {}
        self._hairpins: Counter[str] = Counter()

    async def replace(self, rules: Mapping[Frontend, Forwarding]) -> None:
        """Build the table anew in one batch."""
        await self.kernel.do(lambda: self._replace(dict(rules)))

    async def change(self, put: Mapping[Frontend, Forwarding], drop: Collection[Frontend]) -> None:
        """Change some frontends in one batch."""
        await self.kernel.do(lambda: self._change(dict(put), list(drop)))

    async def intact(self) -> bool:
        """
        Compare the kernel's ruleset generation with the last one seen.

        Another program's change of its own tables moves it too: then our rules are counted.
        """
        return await self.kernel.do(lambda: self.kernel.holds(self._count))

    async def flows(self) -> Flows:
        """Return how full the kernel's table of connections is."""
        return await self.kernel.do(flows)

    async def clear(self) -> None:
        """Remove the table."""
        await self.kernel.do(self._clear)

    def close(self) -> None:
        """Let the socket and the thread go; the rules stay in the kernel."""
        self.kernel.close()

    def _replace(self, rules: dict[Frontend, Forwarding]) -> None:
        change = Transaction(self.kernel.table)
        change.start_afresh("edgekube: services")
        layout.write_frame(change, self._ranges)
        for frontend, forwarding in rules.items():
            layout.write_frontend(change, frontend, None, forwarding, cluster_cidr=self._ranges.cluster_cidr)
        layout.add_elements(change, layout.elements(rules))
        hairpins = Counter(layout.hairpins(rules.values(), self._ranges.cluster_cidr))
        change.add_elements(layout.HAIRPIN, _pairs(hairpins))
        self.kernel.commit(change)
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
        change = Transaction(self.kernel.table)
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
        self.kernel.commit(change)
        for frontend in drop:
            self._rules.pop(frontend, None)
        self._rules |= put
        self._hairpins = hairpins
        self._forget(frontend for frontend in touched if _lost(old.get(frontend), put.get(frontend)))

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

    def _count(self) -> dict[int, Count]:
        """Return how many rules there should be, and elements by set."""
        rules = layout.FIXED_RULES + sum(map(layout.rule_count, self._rules.values()))
        held: Counter[str] = Counter(name for name, _key in layout.elements(self._rules))
        names = (layout.SERVICES, layout.NODE_PORTS, layout.REFUSED, layout.REFUSED_PORTS)
        elements = {**{name: held[name] for name in names}, layout.HAIRPIN: len(self._hairpins)}
        return {IPV4: (rules, elements)}

    def _clear(self) -> None:
        change = Transaction(self.kernel.table)
        change.add_table()
        change.delete_table()
        self.kernel.commit(change)
        self._rules, self._hairpins = {}, Counter()


def _lost(old: Forwarding | None, new: Forwarding | None) -> bool:
    """Tell whether flows may lead elsewhere than they should: to a backend that is gone, or to none at all."""
    if old is None or new is None or not old.backends:
        return True
    return bool(set(old.everywhere) - set(new.everywhere))


def _pairs(addresses: Iterable[str]) -> list[bytes]:
    return [address_key(address) * 2 for address in addresses]
