"""
Charging quotas: never more than their limits, however many writers there are.

Charges of one namespace that come together are judged one after the other and written as one
compare-and-swap of each quota's status. What is charged for a write that then fails is given
back with the next charge, unless the quota was counted anew meanwhile.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgekube.api import quota
from edgekube.api.errors import Conflict
from edgekube.api.kinds.core_v1 import RESOURCE_QUOTAS
from edgekube.api.resource import AnyResource, Durability, Key
from edgekube.apiserver.codec import encode
from edgekube.apiserver.registry.storage import Stored
from edgekube.apiserver.registry.strategy import strategy_of
from edgekube.apiserver.request import Tree
from edgekube.store.base import Mismatch

TRIES = 20
Cost = Mapping[str, str]


class Vault(Protocol):
    """Where quotas are kept."""

    async def stored_within(self, row: AnyResource, namespace: str) -> Sequence[Stored]:
        """Return a namespace's objects as they are now."""
        ...

    async def write(
        self, row: AnyResource, key: Key, value: bytes, *, expected: int, durability: Durability
    ) -> Stored:
        """Write if unchanged since `expected`; raises Mismatch."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """A write that asks to be charged."""

    evaluator: quota.Evaluator
    obj: Tree
    old: Tree | None
    dry_run: bool
    refusal: str | None = None
    """None until judged; "" when it may go on."""
    paid: dict[str, Cost] = field(default_factory=dict)
    """What each quota was charged."""


@dataclass(slots=True)
class _Open:
    """What one namespace waits for, and what it is to be given back."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: list[Request] = field(default_factory=list)
    refunds: dict[str, tuple[int, list[Cost]]] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)


class Bank:
    """All namespaces' accounts."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._open: dict[str, _Open] = {}

    async def charge(self, namespace: str, request: Request) -> str:
        """Charge what the write costs; return "" or why it may not be."""
        account = self._open.setdefault(namespace, _Open())
        account.waiting.append(request)
        try:
            async with account.lock:
                if request.refusal is None:
                    await self._settle(namespace, account)
        except BaseException:
            if request in account.waiting:
                account.waiting.remove(request)
            self.refund(namespace, request)
            raise
        assert request.refusal is not None
        return request.refusal

    def refund(self, namespace: str, request: Request) -> None:
        """Give back what a write was charged that did not happen."""
        account = self._open.get(namespace)
        if account is None:
            return
        for name, cost in request.paid.items():
            last = account.written.get(name, 0)
            revision, costs = account.refunds.get(name, (last, []))
            account.refunds[name] = (last, [*costs, cost] if revision == last else [cost])
        request.paid = {}

    async def _settle(self, namespace: str, account: _Open) -> None:
        """Judge and charge everybody who waits."""
        batch, account.waiting = account.waiting, []
        try:
            for _ in range(TRIES):
                if await self._round(namespace, account, batch):
                    return
                await asyncio.sleep(0)
        except BaseException:
            # The others judge again themselves.
            account.waiting = [r for r in batch if r.refusal is None] + account.waiting
            raise
        raise Conflict(f"the quotas of namespace {namespace} change too often", retry_after=1)

    async def _round(self, namespace: str, account: _Open, batch: Sequence[Request]) -> bool:
        """Try once; False when somebody else changed a quota meanwhile."""
        found = await self._vault.stored_within(RESOURCE_QUOTAS, namespace)
        trees: dict[str, Tree] = {}
        before: dict[str, tuple[Tree, int]] = {}
        returned: dict[str, int] = {}
        for stored in found:
            tree = stored.tree()
            name = tree["metadata"]["name"]
            before[name] = (tree, stored.revision)
            known, costs = account.refunds.get(name, (0, []))
            due = costs if known == stored.revision else []
            returned[name] = len(costs)
            trees[name] = _given_back(tree, due)
        verdicts = [(request, _judge(trees, request)) for request in batch]
        for name, tree in trees.items():
            old, revision = before[name]
            if tree == old:
                continue
            key = Key(namespace, name)
            if not await self._write(account, key, tree, revision=revision, returned=returned[name]):
                return False
            for request, verdict in verdicts:
                request.paid.update({n: cost for n, cost in verdict.charges if n == name})
        for request, verdict in verdicts:
            request.refusal = verdict.refusal
            if verdict.refusal:
                self.refund(namespace, request)
        return True

    async def _write(self, account: _Open, key: Key, tree: Tree, *, revision: int, returned: int) -> bool:
        durability = strategy_of(RESOURCE_QUOTAS).status_durability
        try:
            stored = await self._vault.write(
                RESOURCE_QUOTAS, key, encode(tree), expected=revision, durability=durability
            )
        except Mismatch:
            return False
        account.written[key.name] = stored.revision
        # What was given back while we wrote is not in what we wrote.
        later = account.refunds.pop(key.name, (0, []))[1][returned:]
        if later:
            account.refunds[key.name] = (stored.revision, later)
        return True


def _given_back(tree: Tree, costs: Sequence[Cost]) -> Tree:
    for cost in costs:
        tree = quota.refunded(tree, cost)
    return tree


def _judge(trees: dict[str, Tree], request: Request) -> quota.Verdict:
    """Judge one write by what those before it left; what it paid in an earlier round is not paid again."""
    now: list[Any] = [
        quota.refunded(tree, request.paid[name]) if name in request.paid else tree
        for name, tree in trees.items()
    ]
    verdict = quota.judge(now, request.evaluator, request.obj, request.old)
    if verdict.refusal or request.dry_run:
        return quota.Verdict(verdict.refusal)
    charges = tuple((name, cost) for name, cost in verdict.charges if name not in request.paid)
    for name, cost in charges:
        trees[name] = quota.charged(trees[name], cost)
    return quota.Verdict(charges=charges)
