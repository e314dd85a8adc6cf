"""
Service addresses and node ports: each is given once, and again only after its Service is gone.

What is taken is known in memory, from the stored Services on; taking is one step without waiting, so
concurrent creates cannot get the same. IPAddress objects are written when nothing can refuse the
Service any more, and removed after it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial

from edgekube.api.errors import Cause, InternalError, Invalid
from edgekube.api.resource import Key
from edgekube.apiserver.addresses import families
from edgekube.apiserver.addresses.book import Book
from edgekube.apiserver.addresses.pool import Ledger, Pool, port_band
from edgekube.apiserver.addresses.ranges import Families, family_of, number_of
from edgekube.apiserver.addresses.services import (
    HEADLESS,
    addresses_of,
    canonical,
    needs_health_port,
    needs_node_ports,
    ports_of,
)
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.registry.meta import utcnow
from edgekube.apiserver.request import Tree

log = logging.getLogger(__name__)

REPAIR_SECONDS = 180.0
IN_FLIGHT_SECONDS = 120.0
"""How long a write may take, and so what it was given be without a Service."""
WRITES = frozenset({"create", "update", "delete"})
SERVICES = frozenset({"services"})


class Addresses:
    """Gives Services addresses and node ports, before they are validated."""

    verbs = WRITES
    resources = SERVICES

    def __init__(self, ranges: Families, book: Book, node_ports: tuple[int, int] = (30000, 32767)) -> None:
        self.ranges, self.book = ranges, book
        self.taken_ports = Ledger()
        first, last = node_ports
        self.ports = Pool(first, last, ledger=self.taken_ports, band=port_band(last - first + 1))

    async def load(self, services: Iterable[Tree]) -> None:
        """Take what stored Services have; their IPAddress objects are put right."""
        services = tuple(services)
        for service in services:
            for address in addresses_of(service):
                self.ranges.take(address)
            for port in ports_of(service):
                self.taken_ports.take(port)
        # Nothing is under way yet.
        await self.book.repair(services, utcnow(), timedelta())

    async def repair(self, services: Callable[[], Awaitable[Iterable[Tree]]]) -> None:
        """Look every few minutes for what leaked, or was given by another server; until cancelled."""
        while True:
            await asyncio.sleep(REPAIR_SECONDS)
            before, found = time.monotonic() - IN_FLIGHT_SECONDS, tuple(await services())
            await self.book.repair(found, utcnow(), timedelta(seconds=IN_FLIGHT_SECONDS))
            addresses = [address for service in found for address in addresses_of(service)]
            leaked = self.ranges.settle(addresses, before)
            ports = self.taken_ports.settle((port for service in found for port in ports_of(service)), before)
            if leaked or ports:
                shown = [*leaked, *map(str, ports)]
                log.warning("took back what no Service has: %s", ", ".join(shown))

    async def admit(self, attributes: Attributes) -> None:
        """Fill in addresses and ports; give back those no longer used when the write is done."""
        if attributes.verb == "delete":
            gone, ports = addresses_of(attributes.obj), ports_of(attributes.obj)
            attributes.done.append(partial(self._give, attributes, gone, ports))
            return
        old = attributes.old or {"spec": {}}
        await self._address(attributes, old)
        self._node_ports(attributes, old)
        self._health_port(attributes, old)
        gone = sorted(set(addresses_of(old)) - set(addresses_of(attributes.obj)))
        ports = sorted(set(ports_of(old)) - set(ports_of(attributes.obj)))
        if gone or ports:
            attributes.done.append(partial(self._give, attributes, gone, ports))

    async def _address(self, attributes: Attributes, old: Tree) -> None:
        spec = attributes.obj["spec"]
        if spec.get("type", "ClusterIP") == "ExternalName":
            return
        before = old["spec"] if attributes.old is not None else None
        if wrong := families.settle(spec, before, self.ranges.names):
            raise _invalid(attributes, wrong.field, wrong.message)
        asked = list(spec.get("clusterIPs") or ())
        if asked[:1] == [HEADLESS]:
            return
        if old["spec"].get("clusterIP") and asked[:1] != [old["spec"]["clusterIP"]]:
            # It stays; a different one is refused by the validation that follows.
            return
        had = addresses_of(old)
        for index, family in enumerate(spec["ipFamilies"]):
            if family not in self.ranges.names:
                # Nor is it one that the validation which follows lets pass.
                break
            if index >= len(asked):
                asked.append(await self._allocate(attributes, family))
            elif canonical(asked[index]) not in had:
                self._take(attributes, asked[index], index)
        if asked:
            spec["clusterIP"], spec["clusterIPs"] = asked[0], asked

    async def _allocate(self, attributes: Attributes, family: str) -> str:
        ranges = self.ranges.of(family)
        while (number := ranges.draw()) is not None:
            address = ranges.address(number)
            if not await self.book.has(address):
                attributes.undo.append(partial(self.ranges.give, address))
                return address
            # Somebody else's IPAddress: it stays taken until the next repair finds it free.
        raise InternalError("Internal error occurred: failed to allocate a serviceIP: range is full")

    def _take(self, attributes: Attributes, asked: str, index: int) -> None:
        failed = f'Invalid value: ["{asked}"]: failed to allocate IP {asked}: '
        try:
            number = number_of(asked)
        except ValueError:
            message = (
                f'Invalid value: "{asked}": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
            )
            raise _invalid(attributes, f"spec.clusterIPs[{index}]", message) from None
        try:
            ranges = self.ranges.of(family_of(asked))
        except KeyError:
            message = f'Invalid value: "{family_of(asked)}": not configured on this cluster'
            raise _invalid(attributes, f"spec.ipFamilies[{index}]", message) from None
        if number not in ranges:
            why = f"the provided IP ({asked}) is not in the valid range. The range of valid IPs is {ranges}"
            raise _invalid(attributes, "spec.clusterIPs", failed + why)
        if not ranges.ledger.take(number):
            raise _invalid(attributes, "spec.clusterIPs", failed + "provided IP is already allocated")
        attributes.undo.append(partial(self.ranges.give, asked))

    def _node_ports(self, attributes: Attributes, old: Tree) -> None:
        spec, before = attributes.obj["spec"], old["spec"]
        if spec.get("type") not in {"NodePort", "LoadBalancer"}:
            return
        every = needs_node_ports(spec)
        had, mine = set(ports_of(old)), set[int]()
        kept = {(p.get("protocol"), p.get("port")): p.get("nodePort") for p in before.get("ports") or ()}
        for index, port in enumerate(spec.get("ports") or ()):
            number = port.get("nodePort")
            if not number and not every:
                continue
            number = number or kept.get((port.get("protocol"), port.get("port")))
            # One port of a Service may serve TCP and UDP alike.
            if number not in had and number not in mine:
                number = self._port(attributes, f"spec.ports[{index}].nodePort", number)
            mine.add(number)
            port["nodePort"] = number

    def _health_port(self, attributes: Attributes, old: Tree) -> None:
        spec, before = attributes.obj["spec"], old["spec"]
        if not needs_health_port(spec) or (needs_health_port(before) and before.get("healthCheckNodePort")):
            return
        asked = spec.get("healthCheckNodePort")
        spec["healthCheckNodePort"] = self._port(attributes, "spec.healthCheckNodePort", asked)

    def _port(self, attributes: Attributes, field: str, asked: int | None) -> int:
        if not asked:
            number = self.ports.draw()
            if number is None:
                raise InternalError("Internal error occurred: failed to allocate a nodePort: range is full")
        else:
            number = asked
            if number not in self.ports:
                why = f"provided port is not in the valid range. The range of valid ports is {self.ports.first}-{self.ports.last}"
                raise _invalid(attributes, field, f"Invalid value: {number}: {why}")
            if not self.taken_ports.take(number):
                raise _invalid(
                    attributes, field, f"Invalid value: {number}: provided port is already allocated"
                )
        attributes.undo.append(partial(self.taken_ports.give, number))
        return number

    async def _give(self, attributes: Attributes, addresses: Sequence[str], ports: Sequence[int]) -> None:
        for address in addresses:
            await self.book.free(address, owner(attributes))
            self.ranges.give(address)
        for port in ports:
            self.taken_ports.give(port)


class AddressClaims:
    """Writes the IPAddress of a Service that nobody refused."""

    verbs = frozenset({"create", "update"})
    resources = SERVICES

    def __init__(self, book: Book) -> None:
        self.book = book

    async def validate(self, attributes: Attributes) -> None:
        """Claim new addresses; raises Invalid when somebody else was faster."""
        if attributes.dry_run:
            return
        before = addresses_of(attributes.old) if attributes.old else ()
        for address in addresses_of(attributes.obj):
            if address in before:
                continue
            if not await self.book.claim(address, owner(attributes), utcnow()):
                message = f'Invalid value: ["{address}"]: failed to allocate IP {address}: provided IP is already allocated'
                raise _invalid(attributes, "spec.clusterIPs", message)
            attributes.undo.append(partial(self.book.free, address, owner(attributes)))


def owner(attributes: Attributes) -> Key:
    """Return the Service written."""
    return Key(attributes.target.namespace, attributes.obj["metadata"].get("name", ""))


def _invalid(attributes: Attributes, field: str, message: str) -> Invalid:
    name = attributes.obj["metadata"].get("name", "")
    return Invalid(
        f'Service "{name}" is invalid: {field}: {message}',
        kind="Service", name=name, causes=[Cause("FieldValueInvalid", message, field)],
    )  # fmt: skip
