"""
How policies look in nftables: a table in each family, two base chains on the way from pod to pod.

Pure: these functions only write messages into a Transaction. `nft list table ip edgekube-policies`
shows: `isolated-egress` and `isolated-ingress` (pod's address : goto the chain of those that the
same policies are about), a chain for each policy and direction that accepts what it lets through,
a set for each selector of peers. The node's own traffic passes `output` and `input`, which are
not hooked: it is never judged. Peers come and go by elements, chains change with their policy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from itertools import product

from edgekube.network.nftables import expressions as nft
from edgekube.network.nftables.families import FAMILIES, Family
from edgekube.network.nftables.transaction import (
    ANONYMOUS_SET,
    FORWARD,
    PORT,
    PROTOCOL,
    Field,
    Hook,
    Transaction,
)
from edgekube.network.policy import LAST_PORT, Direction, Grant, Place, Policing, Policy, PortRange

TABLE = "edgekube-policies"
SELF = "itself"
FIXED_RULES = 6
"""How many rules `write_frame` writes."""
_LONGEST = 200
"""Bytes a name may take before it is cut; the kernel's limit is 256."""
_PRIORITIES = {Direction.EGRESS: -1, Direction.INGRESS: 0}
"""Outgoing is judged first: `accept` ends one base chain, the other one still follows."""

Keys = frozenset[bytes]


def part_of(wish: Policing, family: Family) -> Policing:
    """Return what of a wish is about addresses of a family; nothing if no pod with one is isolated."""
    ours = family.__contains__
    isolated = {pod: names for pod, names in wish.isolated.items() if ours(pod.address)}
    if not isolated:
        return Policing()
    return Policing(
        isolated=isolated,
        policies={
            policy: tuple(replace(grant, cidrs=tuple(filter(ours, grant.cidrs))) for grant in grants)
            for policy, grants in wish.policies.items()
        },
        addresses={name: frozenset(filter(ours, held)) for name, held in wish.addresses.items()},
        places={
            name: frozenset(place for place in held if ours(place.address))
            for name, held in wish.places.items()
        },
        titles=wish.titles,
    )


def isolated(direction: Direction) -> str:
    """Return the name of the map of isolated pods."""
    return f"isolated-{direction.value}"


def chain_of(policy: Policy) -> str:
    """Return the policy's chain."""
    name = str(policy)
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{_digest(name)}"


def group_of(direction: Direction, policies: tuple[Policy, ...]) -> str:
    """Return the chain of the pods that these policies are about."""
    return f"pods-{direction.value}-{_digest(' '.join(map(str, policies)))}"


def peers_of(name: str) -> str:
    """Return the set of peers."""
    return f"peers-{name}"


def ports_of(name: str) -> str:
    """Return the set of named ports."""
    return f"ports-{name}" if len(name) <= _LONGEST else f"ports-{_digest(name)}"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class Layout:
    """What the table of a family holds for its part of a wish."""

    wish: Policing = field(default_factory=Policing)
    family: Family = FAMILIES[0]

    @cached_property
    def groups(self) -> dict[str, tuple[Policy, ...]]:
        """Chains of pods, and the policies' chains they visit."""
        return {group_of(pod.direction, names): names for pod, names in self.wish.isolated.items()}

    @cached_property
    def chains(self) -> dict[str, tuple[Direction, tuple[Grant, ...]]]:
        """Chains of policies."""
        return {chain_of(policy): (policy.direction, grants) for policy, grants in self.wish.policies.items()}

    @cached_property
    def pods(self) -> dict[tuple[str, bytes], str]:
        """(map, key) → chain of the isolated pods."""
        return {
            (isolated(pod.direction), nft.any_address_key(pod.address)): group_of(pod.direction, names)
            for pod, names in self.wish.isolated.items()
        }

    @cached_property
    def itself(self) -> Keys:
        """Pairs of every isolated pod's address with itself."""
        return frozenset(key * 2 for _map, key in self.pods)

    @cached_property
    def sets(self) -> dict[str, frozenset[str] | frozenset[Place]]:
        """Sets by name."""
        peers = {peers_of(name): held for name, held in self.wish.addresses.items()}
        return {**peers, **{ports_of(name): held for name, held in self.wish.places.items()}}

    def count(self) -> tuple[int, Mapping[str, int]]:
        """Return the number of rules, and of elements by set."""
        rules = FIXED_RULES + sum(len(names) + 1 for names in self.groups.values())
        rules += sum(len(_conditions(grant)) for _way, grants in self.chains.values() for grant in grants)
        elements = {name: len(held) for name, held in self.sets.items()}
        elements[SELF] = len(self.itself)
        for direction in Direction:
            name = isolated(direction)
            elements[name] = sum(1 for held, _key in self.pods if held == name)
        return rules, elements


def write_frame(change: Transaction, family: Family = FAMILIES[0]) -> None:
    """Write what is there whatever the policies are, into an empty table."""
    change.add_set(SELF, [family.field, family.field])
    for direction, priority in _PRIORITIES.items():
        change.add_verdict_map(isolated(direction), [family.field])
        chain = f"judge-{direction.value}"
        change.add_chain(chain, hook=Hook("filter", FORWARD, priority))
        change.add_rule(chain, nft.ongoing(), nft.accept(), comment="answers")
        source, target = family.source(nft.FIRST), family.destination(nft.FIRST + family.registers)
        change.add_rule(
            chain, source, target, nft.lookup(SELF), nft.accept(), comment="pods that reach themselves"
        )
        pod = (family.source if direction is Direction.EGRESS else family.destination)(nft.FIRST)
        change.add_rule(chain, pod, nft.lookup(isolated(direction), into=nft.VERDICT))


def write_change(change: Transaction, old: Layout, new: Layout) -> None:
    """Write what turns `old` into `new`."""
    fresh = {name: held for name, held in new.sets.items() if name not in old.sets}
    for name in fresh:
        change.add_set(name, _key_of(name, new.family))
    altered = {name for name in new.chains.keys() & old.chains.keys() if new.chains[name] != old.chains[name]}
    added = [*(new.chains.keys() - old.chains.keys()), *(new.groups.keys() - old.groups.keys())]
    gone = [*(old.groups.keys() - new.groups.keys()), *(old.chains.keys() - new.chains.keys())]
    for chain in sorted(added):
        change.add_chain(chain)
    for chain in (*gone, *sorted(altered)):
        change.flush_chain(chain)
    _take_out(change, old, new)
    for chain in sorted(altered | (new.chains.keys() - old.chains.keys())):
        _write_policy(change, chain, new)
    for chain in sorted(new.groups.keys() - old.groups.keys()):
        _write_group(change, chain, new.groups[chain])
    _put_in(change, old, new)
    for chain in gone:
        change.delete_chain(chain)
    for name in old.sets.keys() - new.sets.keys():
        change.delete_set(name)


def _take_out(change: Transaction, old: Layout, new: Layout) -> None:
    for name in old.sets.keys() & new.sets.keys():
        change.delete_elements(name, _keys(old.sets[name] - new.sets[name]))
    change.delete_elements(SELF, old.itself - new.itself)
    for direction in Direction:
        name = isolated(direction)
        keys = [
            key
            for (held, key), chain in old.pods.items()
            if held == name and new.pods.get((held, key)) != chain
        ]
        change.delete_elements(name, keys)


def _put_in(change: Transaction, old: Layout, new: Layout) -> None:
    empty: frozenset[str] = frozenset()
    for name, held in new.sets.items():
        change.add_elements(name, _keys(held - old.sets.get(name, empty)))
    change.add_elements(SELF, new.itself - old.itself)
    for direction in Direction:
        name = isolated(direction)
        verdicts = [
            (key, nft.goto_chain(chain))
            for (held, key), chain in new.pods.items()
            if held == name and old.pods.get((held, key)) != chain
        ]
        change.add_verdicts(name, verdicts)


def _write_group(change: Transaction, chain: str, policies: tuple[Policy, ...]) -> None:
    for policy in policies:
        change.add_rule(chain, nft.jump(chain_of(policy)))
    names = ", ".join(policy.name for policy in policies)
    change.add_rule(chain, nft.counter(), nft.drop(), comment=f"not let through by {names}"[:120])


def _write_policy(change: Transaction, chain: str, layout: Layout) -> None:
    direction, grants = layout.chains[chain]
    family, titles = layout.family, layout.wish.titles
    peer = (family.source if direction is Direction.INGRESS else family.destination)(nft.FIRST)
    for grant in grants:
        for who, where in _conditions(grant):
            words: list[bytes] = []
            if isinstance(who, str):
                words += [peer, nft.lookup(peers_of(who))]
            elif who:
                words += [peer, nft.lookup(ANONYMOUS_SET, set_id=change.anonymous_ranges(who))]
            words += _port_words(where, family)
            about = [titles[name] for name in (who, where) if isinstance(name, str) and name in titles]
            change.add_rule(chain, *words, nft.counter(), nft.accept(), comment=", ".join(about))


def _conditions(
    grant: Grant,
) -> list[tuple[str | tuple[str, ...] | None, str | PortRange | None]]:
    """Return what a rule each asks: a set of peers, or CIDRs, or nothing; ports, or a set of them, or nothing."""
    who: list[str | tuple[str, ...] | None] = (
        [None] if grant.anyone else [*grant.peers, *([grant.cidrs] if grant.cidrs else [])]
    )
    where: list[str | PortRange | None] = [*grant.ports, *grant.places] or [None]
    return list(product(who, where))


def _port_words(where: str | PortRange | None, family: Family) -> Iterator[bytes]:
    if isinstance(where, str):
        after = nft.FIRST + family.registers
        yield family.destination(nft.FIRST)
        yield nft.protocol(after)
        yield nft.port(after + 1)
        yield nft.lookup(ports_of(where))
    elif where is not None:
        yield nft.of_protocol(where.transport)
        if (where.first, where.last) != (0, LAST_PORT):
            yield nft.ports(where.first, where.last)


def _key_of(name: str, family: Family) -> list[Field]:
    return [family.field, PROTOCOL, PORT] if name.startswith("ports-") else [family.field]


def _keys(held: frozenset[str] | frozenset[Place]) -> list[bytes]:
    return [
        nft.any_address_key(item)
        if isinstance(item, str)
        else nft.any_address_key(item.address) + nft.transport_key(item.transport) + nft.port_key(item.port)
        for item in held
    ]
