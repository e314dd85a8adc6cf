"""What a family's table of services holds, and the messages that change it."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import count

from edgekube.network.base import Forwarding, Frontend, NetworkError
from edgekube.network.nftables import layout
from edgekube.network.nftables.kernel import Count
from edgekube.network.nftables.transaction import Transaction

Rules = Mapping[Frontend, Forwarding]


class ServiceTable:
    """Remembers what was programmed: write a change, commit it, then `settle` it."""

    def __init__(self, part: layout.Part, name: str) -> None:
        self.rules: dict[Frontend, Forwarding] = {}
        self._part, self._name = part, name
        self._hairpins: Counter[str] = Counter()
        """This node's pods behind services, and how often."""
        self._frame = 0
        """Rules that are there whatever the services are."""
        self._maps = count(1)

    def afresh(self, rules: Rules) -> Transaction:
        """Return what makes the table anew."""
        change = self._transaction()
        change.start_afresh("edgekube: services")
        before = len(change.steps)
        layout.write_frame(change, self._part)
        self._frame = sum(step.is_rule for step in change.steps[before:])
        self._write(change, rules, ())
        return change

    def change(self, put: Rules, drop: Collection[Frontend]) -> Transaction:
        """Return what sets some frontends and removes others; raises NetworkError for one that is not there."""
        for frontend in drop:
            if frontend not in self.rules:
                raise NetworkError(f"no rule for {frontend}")
        change = self._transaction()
        self._write(change, put, drop)
        return change

    def settle(self, put: Rules, drop: Iterable[Frontend]) -> None:
        """Take note that this was programmed."""
        drop = tuple(drop)
        moved = self._moved(put, drop)
        self._hairpins.update(moved)
        for address in moved:
            if not self._hairpins[address]:
                del self._hairpins[address]
        for frontend in drop:
            del self.rules[frontend]
        self.rules |= put

    def count(self) -> Count:
        """Return how many rules there should be, and elements by set."""
        rules = self._frame + sum(map(layout.rule_count, self.rules.values()))
        held = Counter(name for name, _key in layout.elements(self.rules, self._part.family))
        names = (layout.SERVICES, layout.NODE_PORTS, layout.REFUSED, layout.REFUSED_PORTS)
        return rules, {**{name: held[name] for name in names}, layout.HAIRPIN: len(self._hairpins)}

    def _transaction(self) -> Transaction:
        return Transaction(self._name, family=self._part.family.number, numbered=self._maps)

    def _write(self, change: Transaction, put: Rules, drop: Collection[Frontend]) -> None:
        part, known = self._part, self.rules
        old = {frontend: known[frontend] for frontend in (*put, *drop) if frontend in known}
        before, after = layout.elements(old, part.family), layout.elements(put, part.family)
        layout.delete_elements(change, before.keys() - after.keys())
        for frontend in (*put, *drop):
            layout.write_frontend(change, frontend, old.get(frontend), put.get(frontend), part=part)
        layout.add_elements(change, {key: chain for key, chain in after.items() if key not in before})
        moved = self._moved(put, drop)
        gone = [address for address, times in moved.items() if times and times + self._hairpins[address] == 0]
        new = [address for address, times in moved.items() if times and not self._hairpins[address]]
        change.delete_elements(layout.HAIRPIN, self._pairs(gone))
        change.add_elements(layout.HAIRPIN, self._pairs(new))

    def _moved(self, put: Rules, drop: Collection[Frontend]) -> Counter[str]:
        """Return by how much this changes how often pods are behind services."""
        old = [self.rules[frontend] for frontend in (*put, *drop) if frontend in self.rules]
        moved = Counter(layout.hairpins(put.values(), self._part.cluster_cidr))
        moved.subtract(layout.hairpins(old, self._part.cluster_cidr))
        return moved

    def _pairs(self, addresses: Iterable[str]) -> list[bytes]:
        return [self._part.family.pack(address) * 2 for address in addresses]
