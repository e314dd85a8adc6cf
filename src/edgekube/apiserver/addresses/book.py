"""
IPAddress objects: who has which address, for everybody to see (KEP-1880).

One is written before its Service, and removed after it. A crash in between leaves one too many,
which `plan` finds; one that somebody else wrote keeps its address from being given to a Service.
"""

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from edgekube.api.kinds.networking_v1 import IP_ADDRESSES
from edgekube.api.resource import Durability, Key
from edgekube.apiserver.addresses.services import addresses_of
from edgekube.apiserver.codec import encode
from edgekube.apiserver.registry.meta import parse, timestamp
from edgekube.apiserver.registry.storage import Storage
from edgekube.apiserver.request import Tree
from edgekube.store.base import KeyExists, Mismatch, StoreUnavailable

log = logging.getLogger(__name__)

FAMILY = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
MANAGER = "ipallocator.k8s.io"


def record(address: str, owner: Key, now: datetime) -> Tree:
    """Return the IPAddress of a Service."""
    family = "IPv6" if ":" in address else "IPv4"
    return {
        "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": address, "uid": str(uuid.uuid4()), "creationTimestamp": timestamp(now),
            "labels": {FAMILY: family, MANAGED_BY: MANAGER},
        },
        "spec": {
            "parentRef": {
                "group": "", "resource": "services", "namespace": owner.namespace, "name": owner.name,
            },
        },
    }  # fmt: skip


def owner_of(address: Tree) -> Key | None:
    """Return the Service an IPAddress is for; None when it is none of ours."""
    if (address["metadata"].get("labels") or {}).get(MANAGED_BY) != MANAGER:
        return None
    parent = address["spec"]["parentRef"]
    return Key(parent.get("namespace", ""), parent["name"])


@dataclass(frozen=True, slots=True)
class Plan:
    """Which addresses lack their object, and which objects no Service has."""

    missing: Mapping[str, Key]
    stale: Sequence[str]


def plan(services: Iterable[Tree], addresses: Iterable[Tree], before: datetime) -> Plan:
    """Compare; objects made since `before` may be those of writes under way."""
    wanted = {
        address: Key(service["metadata"]["namespace"], service["metadata"]["name"])
        for service in services
        for address in addresses_of(service)
    }
    missing, stale = dict(wanted), []
    for found in addresses:
        meta, owner = found["metadata"], owner_of(found)
        if owner is None or wanted.get(meta["name"]) == owner:
            missing.pop(meta["name"], None)
        elif parse(meta["creationTimestamp"]) < before:
            stale.append(meta["name"])
        else:
            missing.pop(meta["name"], None)
    return Plan(missing, stale)


class Book:
    """Reads and writes IPAddress objects."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def all(self) -> Iterable[Tree]:
        """Return every IPAddress."""
        return await self._storage.all(IP_ADDRESSES)

    async def has(self, address: str) -> bool:
        """Whether there is one for this address."""
        return await self._storage.read(IP_ADDRESSES, Key("", address)) is not None

    async def claim(self, address: str, owner: Key, now: datetime) -> bool:
        """Write the IPAddress of a Service; False when there is one."""
        value, key = encode(record(address, owner, now)), Key("", address)
        try:
            # What a power cut takes is made again from the Services.
            await self._storage.write(IP_ADDRESSES, key, value, expected=0, durability=Durability.SOFT)
        except KeyExists:
            return False
        return True

    async def free(self, address: str, owner: Key) -> None:
        """Remove the IPAddress of a Service that has it no more."""
        key = Key("", address)
        try:
            stored = await self._storage.read(IP_ADDRESSES, key)
            if stored is not None and owner_of(stored.tree()) == owner:
                await self._storage.remove(IP_ADDRESSES, key, expected=stored.revision)
        except Mismatch:
            log.info("IPAddress %s changed while its Service went", address)
        except StoreUnavailable as error:
            log.warning("IPAddress %s: %s; it is removed later", address, error)

    async def repair(self, services: Sequence[Tree], now: datetime, grace: timedelta) -> None:
        """Make IPAddress objects agree with the Services."""
        addresses = tuple(await self.all())
        owners = {address["metadata"]["name"]: owner_of(address) for address in addresses}
        found = plan(services, addresses, now - grace)
        for address in found.stale:
            if (owner := owners[address]) is not None:
                await self.free(address, owner)
        for address, service in found.missing.items():
            await self.claim(address, service, now)
