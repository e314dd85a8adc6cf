"""
Follows ServiceCIDRs: gives addresses of those that are ready, keeps those that are in use (KEP-1880).

A ServiceCIDR that is deleted gives no more addresses; it goes when every address it had is free, or
in another's range as well.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec

from edgekube.api.errors import AlreadyExists, Expired, NotFound, StatusError
from edgekube.api.kinds.networking_v1 import IP_ADDRESSES, SERVICE_CIDRS
from edgekube.apiserver.addresses.ranges import DEFAULT, Families, Network
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.identity import User
from edgekube.apiserver.registry.meta import timestamp, utcnow
from edgekube.apiserver.registry.parts import STATUS
from edgekube.apiserver.registry.registry import Action, Registry
from edgekube.apiserver.request import Tree
from edgekube.apiserver.route import Target
from edgekube.store.base import StoreUnavailable

log = logging.getLogger(__name__)

SELF = User("system:apiserver", ("system:masters",))
FINALIZER = "networking.k8s.io/service-cidr-finalizer"
LOOK_AGAIN_SECONDS = 1.0
"""Until a range that is in use is looked at again."""
READY = ("True", "", "Kubernetes Service CIDR is ready")
IN_USE = (
    "False", "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
)  # fmt: skip


def networks_of(cidr: Tree) -> Sequence[Network]:
    """Return a ServiceCIDR's networks."""
    return [ipaddress.ip_network(text) for text in cidr["spec"]["cidrs"]]


def conditions(cidr: Tree, wish: tuple[str, str, str], now: str) -> list[Tree]:
    """Return its conditions with Ready as wished (status, reason, message)."""
    status, reason, message = wish
    before = (cidr.get("status") or {}).get("conditions") or []
    old: Tree = next((condition for condition in before if condition["type"] == "Ready"), {})
    since = old.get("lastTransitionTime", now) if old.get("status") == status else now
    ready = {
        "lastTransitionTime": since, "message": message, "reason": reason, "status": status, "type": "Ready",
    }  # fmt: skip
    return [*(condition for condition in before if condition["type"] != "Ready"), ready]


def in_use(mine: Iterable[Network], others: Iterable[Network], taken: Iterable[str]) -> bool:
    """Whether an address that is taken is in one of these networks and in none of the others."""
    mine, others = tuple(mine), tuple(others)
    for text in taken:
        address = ipaddress.ip_address(text)
        if any(address in network for network in mine) and not any(address in network for network in others):
            return True
    return False


class ServiceRanges:
    """Keeps `ranges` and the ServiceCIDRs' status as the ServiceCIDRs say."""

    def __init__(self, caches: Caches, registry: Registry, ranges: Families) -> None:
        self._caches, self._registry, self._ranges = caches, registry, ranges
        self._leaving: set[str] = set()

    async def load(self) -> None:
        """Know the ranges before the first request."""
        for cidr in await self._registry.storage.all(SERVICE_CIDRS):
            self._range(cidr)

    async def run(self) -> None:
        """Follow the ServiceCIDRs until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                with suppress(Expired):
                    await self._follow(group)

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        cache = await self._caches.fresh(SERVICE_CIDRS)
        with cache.watch(None) as watcher:
            for name in self._ranges.cidrs():
                # It went while nobody watched.
                if name != DEFAULT and cache.get("", name) is None:
                    self._ranges.drop(name)
            if cache.get("", DEFAULT) is None:
                await self._provide()
            async for event in watcher:
                try:
                    if event.type.value == "DELETED":
                        self._ranges.drop(event.entry.name)
                        if event.entry.name == DEFAULT:
                            await self._provide()
                        continue
                    await self._changed(msgspec.json.decode(event.entry.raw), group)
                except (StatusError, StoreUnavailable) as error:
                    # Somebody was faster, or the store is away: the next change or start sees to it.
                    log.warning("ServiceCIDR %s: %s", event.entry.name, error)

    async def _provide(self) -> None:
        """Make the ServiceCIDR of the configured range."""
        tree = {
            "metadata": {"name": DEFAULT},
            "spec": {"cidrs": [str(network) for network in self._ranges.networks]},
        }
        target = Target(SERVICE_CIDRS, "", DEFAULT)
        with suppress(AlreadyExists):
            await self._registry.create(Action(target=target, user=SELF), tree)

    def _range(self, cidr: Tree) -> None:
        meta = cidr["metadata"]
        if "deletionTimestamp" in meta:
            self._ranges.drop(meta["name"])
        else:
            self._ranges.put(meta["name"], networks_of(cidr))

    async def _changed(self, cidr: Tree, group: asyncio.TaskGroup) -> None:
        meta = cidr["metadata"]
        name, ours = meta["name"], FINALIZER in (meta.get("finalizers") or ())
        self._range(cidr)
        if "deletionTimestamp" in meta:
            if ours and name not in self._leaving:
                self._leaving.add(name)
                group.create_task(self._leave(name), name=f"service-cidr-{name}")
            return
        if not ours:
            await self._finalizers(name, add=True)
        await self._tell(cidr, READY)

    async def _leave(self, name: str) -> None:
        """Let a deleted one go once its addresses are free."""
        try:
            while True:
                if await self._left(name):
                    break
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
        finally:
            self._leaving.discard(name)

    async def _left(self, name: str) -> bool:
        try:
            target = Target(SERVICE_CIDRS, "", name)
            cidr = await self._registry.storage.find(SERVICE_CIDRS, target.key)
            if cidr is None or "deletionTimestamp" not in cidr["metadata"]:
                return True
            taken = [found["metadata"]["name"] for found in await self._registry.storage.all(IP_ADDRESSES)]
            if in_use(networks_of(cidr), self._ranges.others(name), (*taken, *self._ranges.taken())):
                await self._tell(cidr, IN_USE)
                return False
            await self._finalizers(name, add=False)
        except NotFound:
            return True
        except (StatusError, StoreUnavailable) as error:
            log.warning("ServiceCIDR %s: %s", name, error)
            return False
        return True

    async def _finalizers(self, name: str, *, add: bool) -> None:
        def wish(tree: Tree) -> Tree:
            meta = tree["metadata"]
            others = [finalizer for finalizer in meta.get("finalizers") or () if finalizer != FINALIZER]
            meta["finalizers"] = [*others, FINALIZER] if add else others
            return tree

        target = Target(SERVICE_CIDRS, "", name)
        await self._registry.change(Action(target=target, user=SELF), wish)

    async def _tell(self, cidr: Tree, ready: tuple[str, str, str]) -> None:
        wished = conditions(cidr, ready, timestamp(utcnow()))
        if wished == (cidr.get("status") or {}).get("conditions"):
            return

        def wish(tree: Tree) -> Tree:
            return {**tree, "status": {**(tree.get("status") or {}), "conditions": wished}}

        target = Target(SERVICE_CIDRS, "", cidr["metadata"]["name"], "status")
        await self._registry.change(Action(target=target, user=SELF), wish, part=STATUS)
