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
from edgekube.apiserver.addresses.book import Book
from edgekube.apiserver.addresses.pool import Ledger, Pool, port_band
from edgekube.apiserver.addresses.ranges import Ranges, number_of
from edgekube.apiserver.addresses.services import (
    HEADLESS,
    addresses_of,
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

    def __init__(self, ranges: Ranges, book: Book, node_ports: tuple[int, int] = (30000, 32767)) -> None:
        self.ranges, self.book = ranges, book
        self.taken_ports = Ledger()
        first, last = node_ports
        self.ports = Pool(first, last, ledger=self.taken_ports, band=port_band(last - first + 1))

    async def load(self, services: Iterable[Tree]) -> None:
        """Take what stored Services have; their IPAddress objects are put right."""
        services = tuple(services)
        for service in services:
            for address in addresses_of(service):
                self.ranges.ledger.take(number_of(address))
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
            addresses = [number_of(address) for service in found for address in addresses_of(service)]
            leaked = self.ranges.ledger.settle(addresses, before)
            ports = self.taken_ports.settle((port for service in found for port in ports_of(service)), before)
            if leaked or ports:
                shown = [*map(self.ranges.address, leaked), *map(str, ports)]
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
        if attributes.old is None:
            self._check_families(attributes)
        asked = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        if old["spec"].get("clusterIP"):
            # It stays; a different one is refused by the validation that follows.
            return
        given = asked if asked == HEADLESS else await self._allocate(attributes, asked)
        spec["clusterIP"] = given
        spec["clusterIPs"] = [given, *(spec.get("clusterIPs") or ())[1:]]

    def _check_families(self, attributes: Attributes) -> None:
        spec, mine = attributes.obj["spec"], f"IPv{self.ranges.network.version}"
        if spec.get("ipFamilyPolicy") == "RequireDualStack":
            message = (
                'Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services'
            )
            raise _invalid(attributes, "spec.ipFamilyPolicy", message)
        for index, family in enumerate(spec.get("ipFamilies") or ()):
            if family in {"IPv4", "IPv6"} and family != mine:
                message = f'Invalid value: "{family}": not configured on this cluster'
                raise _invalid(attributes, f"spec.ipFamilies[{index}]", message)

    async def _allocate(self, attributes: Attributes, asked: str) -> str:
        number = self._asked(attributes, asked) if asked else await self._draw()
        attributes.undo.append(partial(self.ranges.ledger.give, number))
        return self.ranges.address(number)

    async def _draw(self) -> int:
        while (number := self.ranges.draw()) is not None:
            if not await self.book.has(self.ranges.address(number)):
                return number
            # Somebody else's IPAddress: it stays taken until the next repair finds it free.
        raise InternalError("Internal error occurred: failed to allocate a serviceIP: range is full")

    def _asked(self, attributes: Attributes, asked: str) -> int:
        failed = f'Invalid value: ["{asked}"]: failed to allocate IP {asked}: '
        try:
            number = number_of(asked)
        except ValueError:
            message = (
                f'Invalid value: "{asked}": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
            )
            raise _invalid(attributes, "spec.clusterIPs[0]", message) from None
        if number not in self.ranges:
            why = f"the provided IP ({asked}) is not in the valid range. The range of valid IPs is {self.ranges}"
            raise _invalid(attributes, "spec.clusterIPs", failed + why)
        if not self.ranges.ledger.take(number):
            raise _invalid(attributes, "spec.clusterIPs", failed + "provided IP is already allocated")
        return number

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
            self.ranges.ledger.give(number_of(address))
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
