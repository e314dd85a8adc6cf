"""
Service addresses: a ClusterIP is given once, and again only after its Service is gone.

The pool lives in memory; it is filled from the stored Services before the first request. Taking
an address is one step without waiting, so concurrent creates cannot get the same one.
"""

import asyncio
import ipaddress
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from itertools import chain

from edgekube.api.errors import Cause, InternalError, Invalid
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.request import Tree

log = logging.getLogger(__name__)

HEADLESS = "None"
KUBERNETES, DNS = 1, 10
REPAIR_SECONDS = 180.0
IN_FLIGHT_SECONDS = 120.0
"""How long a write may take, and so what it was given be without a Service."""
"""Offsets that are only given by name: the API's Service and the cluster's DNS."""


class Pool:
    """Numbers from `first` to `last`; new ones are drawn from the upper band first (KEP-3070)."""

    def __init__(self, first: int, last: int, *, reserved: Iterable[int] = ()) -> None:
        self.first, self.last = first, last
        self.reserved = frozenset(reserved)
        self._taken: dict[int, float] = {}
        """Since when (monotonic seconds)."""
        size = last - first + 1
        self._band = first + min(max(16, size // 16), 256, size - 1)

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def take(self, number: int) -> bool:
        """Take this one; False when it is taken."""
        if number in self._taken:
            return False
        self._taken[number] = time.monotonic()
        return True

    def give(self, number: int) -> None:
        """Take it back."""
        self._taken.pop(number, None)

    def settle(self, used: Iterable[int], before: float) -> set[int]:
        """Hold exactly what is used, and what was taken since `before`; return what had leaked."""
        used = set(used)
        leaked = {n for n, since in self._taken.items() if n not in used and since < before}
        for number in leaked:
            del self._taken[number]
        for number in used - self._taken.keys():
            self._taken[number] = before
        return leaked

    def draw(self) -> int | None:
        """Take any; None when none is left."""
        for low, high in ((self._band, self.last), (self.first, self._band - 1)):
            if low > high:
                continue
            start = random.randint(low, high)  # noqa: S311 - spreading, no secret
            for number in chain(range(start, high + 1), range(low, start)):
                if number not in self.reserved and self.take(number):
                    return number
        return None


class Addresses:
    """Allocation of ClusterIPs and node ports for Services."""

    verbs = frozenset({"create", "update", "delete"})
    resources = frozenset({"services"})

    def __init__(self, cidr: str, node_ports: tuple[int, int] = (30000, 32767)) -> None:
        network = ipaddress.ip_network(cidr)
        base = int(network.network_address)
        self.network = network
        self.addresses = Pool(
            base + 1, int(network.broadcast_address) - 1, reserved=(base + KUBERNETES, base + DNS)
        )
        self.ports = Pool(*node_ports)

    def load(self, services: Iterable[Tree]) -> None:
        """Take what stored Services have."""
        for service in services:
            for address in _addresses(service):
                self.addresses.take(_number(address))
            for port in _node_ports(service):
                self.ports.take(port)

    async def repair(self, services: Callable[[], Awaitable[Iterable[Tree]]]) -> None:
        """Look every few minutes for what leaked, or was given by another server; until cancelled."""
        while True:
            await asyncio.sleep(REPAIR_SECONDS)
            before, found = time.monotonic() - IN_FLIGHT_SECONDS, tuple(await services())
            addresses = [_number(address) for service in found for address in _addresses(service)]
            leaked = self.addresses.settle(addresses, before)
            ports = self.ports.settle((port for service in found for port in _node_ports(service)), before)
            if leaked or ports:
                shown = [*(str(ipaddress.ip_address(n)) for n in leaked), *map(str, ports)]
                log.warning("took back what no Service has: %s", ", ".join(shown))

    async def admit(self, attributes: Attributes) -> None:
        """Fill in addresses and ports; give back those no longer used when the write is done."""
        if attributes.verb == "delete":
            attributes.done.append(
                lambda: self._give(_addresses(attributes.obj), _node_ports(attributes.obj))
            )
            return
        old = attributes.old or {"spec": {}}
        self._address(attributes, old)
        self._node_ports(attributes, old)
        gone = set(_addresses(old)) - set(_addresses(attributes.obj))
        ports = set(_node_ports(old)) - set(_node_ports(attributes.obj))
        if gone or ports:
            attributes.done.append(lambda: self._give(gone, ports))

    def _address(self, attributes: Attributes, old: Tree) -> None:
        spec = attributes.obj["spec"]
        if spec.get("type", "ClusterIP") == "ExternalName":
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
            return
        asked = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        before = old["spec"].get("clusterIP", "")
        if before and asked and asked != before:
            raise _invalid(
                attributes, "spec.clusterIPs[0]", f'Invalid value: "{asked}": may not change once set'
            )
        if not before:
            asked = asked if asked == HEADLESS else self._allocate(attributes, asked)
        spec["clusterIP"] = asked or before
        spec["clusterIPs"] = [spec["clusterIP"]]

    def _allocate(self, attributes: Attributes, asked: str) -> str:
        if not asked:
            number = self.addresses.draw()
            if number is None:
                raise InternalError("Internal error occurred: failed to allocate a serviceIP: range is full")
        else:
            number = self._asked(attributes, asked)
        attributes.undo.append(lambda: self.addresses.give(number))
        return str(ipaddress.ip_address(number))

    def _asked(self, attributes: Attributes, asked: str) -> int:
        failed = f'Invalid value: ["{asked}"]: failed to allocate IP {asked}: '
        try:
            number = int(ipaddress.ip_address(asked))
        except ValueError:
            message = (
                f'Invalid value: "{asked}": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
            )
            raise _invalid(attributes, "spec.clusterIPs[0]", message) from None
        if number not in self.addresses:
            why = f"the provided IP ({asked}) is not in the valid range. The range of valid IPs is {self.network}"
            raise _invalid(attributes, "spec.clusterIPs", failed + why)
        if not self.addresses.take(number):
            raise _invalid(attributes, "spec.clusterIPs", failed + "provided IP is already allocated")
        return number

    def _node_ports(self, attributes: Attributes, old: Tree) -> None:
        spec = attributes.obj["spec"]
        wanted = spec.get("type") == "NodePort" or (
            spec.get("type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True)
        )
        had, mine = set(_node_ports(old)), set[int]()
        by_port = {
            (p.get("protocol"), p.get("port")): p.get("nodePort") for p in old["spec"].get("ports") or ()
        }
        for index, port in enumerate(spec.get("ports") or ()):
            if not wanted:
                if spec.get("type", "ClusterIP") == "ClusterIP":
                    port.pop("nodePort", None)
                continue
            number = port.get("nodePort") or by_port.get((port.get("protocol"), port.get("port")))
            # One port of a Service may serve TCP and UDP alike.
            if number not in had and number not in mine:
                number = self._port(attributes, index, number)
            mine.add(number)
            port["nodePort"] = number

    def _port(self, attributes: Attributes, index: int, asked: int | None) -> int:
        field = f"spec.ports[{index}].nodePort"
        if asked is None:
            number = self.ports.draw()
            if number is None:
                raise InternalError("Internal error occurred: failed to allocate a nodePort: range is full")
        else:
            number = asked
            if number not in self.ports:
                why = f"provided port is not in the valid range. The range of valid ports is {self.ports.first}-{self.ports.last}"
                raise _invalid(attributes, field, f"Invalid value: {number}: {why}")
            if not self.ports.take(number):
                raise _invalid(
                    attributes, field, f"Invalid value: {number}: provided port is already allocated"
                )
        attributes.undo.append(lambda: self.ports.give(number))
        return number

    def _give(self, addresses: Iterable[str], ports: Iterable[int]) -> None:
        for address in addresses:
            self.addresses.give(_number(address))
        for port in ports:
            self.ports.give(port)


def _number(address: str) -> int:
    return int(ipaddress.ip_address(address))


def _addresses(service: Tree) -> list[str]:
    address = (service.get("spec") or {}).get("clusterIP", "")
    return [address] if address and address != HEADLESS else []


def _node_ports(service: Tree) -> list[int]:
    return [p["nodePort"] for p in (service.get("spec") or {}).get("ports") or () if p.get("nodePort")]


def _invalid(attributes: Attributes, field: str, message: str) -> Invalid:
    name = attributes.obj["metadata"].get("name", "")
    return Invalid(
        f'Service "{name}" is invalid: {field}: {message}',
        kind="Service", name=name, causes=[Cause("FieldValueInvalid", message, field)],
    )  # fmt: skip
