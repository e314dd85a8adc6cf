"""
The cluster's names (Kubernetes DNS-Based Service Discovery 1.1.0), read live from Services and EndpointSlices.

The index follows changes one by one; records are made when asked for.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address

from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, discovery_v1
from edgekube.proxy.dns.message import Answer, Code, Name, Record, Type, pack_name
from edgekube.proxy.endpoints import is_ready
from edgekube.proxy.plan import service_key

TTL = 5
"""Seconds; what CoreDNS has for cluster names."""


@dataclass(frozen=True, slots=True)
class Alias:
    """The name stands for another one (ExternalName), which may have to be looked up elsewhere."""

    record: Record
    target: Name


Records = list[Record]


class Zone:
    """Answers for names under `domain` and for reverse names of services and endpoints."""

    def __init__(self, domain: str, addresses: Sequence[str]) -> None:
        self.domain: Name = tuple(domain.lower().strip(".").split("."))
        self._addresses = addresses
        self._services: dict[Key, core_v1.Service] = {}
        self._namespaces: dict[str, int] = {}
        self._slices: dict[Key, dict[Key, discovery_v1.EndpointSlice]] = {}
        self._reverse: dict[str, list[Name]] | None = None
        self.changes = 0
        """Counts changes: an answer made earlier may be wrong now."""

    def service_changed(self, old: core_v1.Service | None, new: core_v1.Service | None) -> None:
        """Take up a change of a Service."""
        if old is not None and self._services.pop(key_of(old), None) is not None:
            left = self._namespaces[old.metadata.namespace] - 1
            self._namespaces[old.metadata.namespace] = left
            if not left:
                del self._namespaces[old.metadata.namespace]
        if new is not None:
            self._services[key_of(new)] = new
            self._namespaces[new.metadata.namespace] = self._namespaces.get(new.metadata.namespace, 0) + 1
        self._changed()

    def slice_changed(
        self, old: discovery_v1.EndpointSlice | None, new: discovery_v1.EndpointSlice | None
    ) -> None:
        """Take up a change of an EndpointSlice."""
        if old is not None and (service := service_key(old)) is not None:
            held = self._slices.get(service, {})
            held.pop(key_of(old), None)
            if not held:
                self._slices.pop(service, None)
        if new is not None and (service := service_key(new)) is not None:
            self._slices.setdefault(service, {})[key_of(new)] = new
        self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self._reverse = None

    def owns(self, name: Name) -> bool:
        """Tell whether the name is under the cluster's domain."""
        return name[-len(self.domain) :] == self.domain

    def answer(self, name: Name, kind: int) -> Answer | Alias | None:
        """Return what the cluster says of a name; None: nothing, ask somebody else."""
        if not self.owns(name):
            return self._reverse_answer(name, kind)
        found = self._find(name[: -len(self.domain)], name)
        if isinstance(found, Alias):
            return found if kind != Type.CNAME else Answer(answers=(found.record,))
        if found is None:
            return Answer(Code.NXDOMAIN, authority=(self._soa(),))
        wanted = [record for record in found if kind in {record.type, Type.ANY}]
        if not wanted:
            return Answer(authority=(self._soa(),))
        return Answer(answers=wanted, additional=list(self._glue(wanted)))

    def _find(self, labels: Name, name: Name) -> Records | Alias | None:
        """Return all records of a name, [] if only names below it exist, None if it does not exist."""
        if not labels:
            return [self._soa(), Record(name, Type.NS, TTL, pack_name(self._server()))]
        kind, rest = labels[-1], labels[:-1]
        if kind == "svc":
            return self._find_service(rest, name)
        if kind == "pod":
            return _find_pod(rest, name)
        if labels == ("dns-version",):
            return [Record(name, Type.TXT, TTL, b"\x051.1.0")]
        if kind == "dns":
            return _addresses(name, self._addresses) if rest == ("ns",) else None if rest else []
        return None

    def _find_service(self, rest: Name, name: Name) -> Records | Alias | None:
        if len(rest) < 2:
            return [] if not rest or rest[0] in self._namespaces else None
        key, labels = Key(rest[-1], rest[-2]), rest[:-2]
        service = self._services.get(key)
        if service is None or len(labels) > 2:
            return None
        if service.spec.type == "ExternalName":
            return None if labels else _alias(service, name)
        if not labels:
            return self._service_records(key, service, name)
        if len(labels) == 1:
            return self._below(key, service, labels[0], name)
        return self._srv(key, service, name, labels) or None

    def _service_records(self, key: Key, service: core_v1.Service, name: Name) -> Records | None:
        addresses = _cluster_ips(service)
        if not addresses:
            if service.spec.cluster_ip != "None":
                # It will be given an address.
                return []
            addresses = [address for _host, address in self._endpoints(key)]
        records = _addresses(name, dict.fromkeys(addresses))
        return [*records, *self._srv(key, service, name, None)] if records else None

    def _below(self, key: Key, service: core_v1.Service, label: str, name: Name) -> Records | None:
        """`_tcp.web.a.svc`, or an endpoint of a headless service."""
        if label.startswith("_"):
            return [] if any(_protocol(port) == label for port in service.spec.ports) else None
        if _cluster_ips(service):
            return None
        return (
            _addresses(name, dict.fromkeys(ip for host, ip in self._endpoints(key) if host == label)) or None
        )

    def _srv(self, key: Key, service: core_v1.Service, name: Name, wanted: Name | None) -> Records:
        """Return the SRV records of the port `wanted` (`("_http", "_tcp")`), or of all named ports."""
        base = self._service_name(key)
        targets: dict[tuple[int, Name], None] = {}
        for port in service.spec.ports:
            label = (f"_{port.name}".lower(), _protocol(port))
            if not port.name or (wanted is not None and label != wanted):
                continue
            if _cluster_ips(service):
                targets[port.port, base] = None
            else:
                for host, _address, number in self._endpoint_ports(key, port):
                    targets[number, (host, *base)] = None
        weight = max(1, 100 // len(targets)) if targets else 0
        return [
            Record(name, Type.SRV, TTL, struct.pack(">HHH", 0, weight, number) + pack_name(target))
            for number, target in targets
        ]

    def _glue(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the addresses of SRV targets."""
        seen: set[bytes] = set()
        for record in records:
            if record.type == Type.SRV and record.data[6:] not in seen:
                seen.add(record.data[6:])
                target = _unpack(record.data[6:])
                found = self._find(target[: -len(self.domain)], target)
                if isinstance(found, list):
                    yield from (item for item in found if item.type in {Type.A, Type.AAAA})

    def _endpoints(self, key: Key) -> Iterator[tuple[str, str]]:
        """Yield (host label, address) of the ready endpoints."""
        for item in self._slices.get(key, {}).values():
            for endpoint in item.endpoints:
                if is_ready(endpoint):
                    for address in endpoint.addresses:
                        yield endpoint.hostname.lower() or _dashed(address), address

    def _endpoint_ports(self, key: Key, port: core_v1.ServicePort) -> Iterator[tuple[str, str, int]]:
        for item in self._slices.get(key, {}).values():
            numbers = [found.port for found in item.ports if found.name == port.name and found.port]
            for endpoint in item.endpoints if numbers else ():
                if is_ready(endpoint):
                    for address in endpoint.addresses:
                        yield endpoint.hostname.lower() or _dashed(address), address, numbers[0] or 0

    def _reverse_answer(self, name: Name, kind: int) -> Answer | None:
        address = _reversed_address(name)
        if not address:
            return None
        if self._reverse is None:
            self._reverse = self._reversed()
        names = self._reverse.get(address)
        if not names:
            return None
        if kind not in {Type.PTR, Type.ANY}:
            return Answer(authority=(self._soa(),))
        return Answer(answers=[Record(name, Type.PTR, TTL, pack_name(target)) for target in names])

    def _reversed(self) -> dict[str, list[Name]]:
        names: dict[str, list[Name]] = {}
        for key, service in self._services.items():
            base = self._service_name(key)
            for address in _cluster_ips(service):
                names.setdefault(_plain(address), []).append(base)
            if service.spec.cluster_ip == "None":
                for host, address in self._endpoints(key):
                    names.setdefault(_plain(address), []).append((host, *base))
        return names

    def _service_name(self, key: Key) -> Name:
        return (key.name, key.namespace, "svc", *self.domain)

    def _server(self) -> Name:
        return ("ns", "dns", *self.domain)

    def _soa(self) -> Record:
        names = pack_name(self._server()) + pack_name(("hostmaster", *self.domain))
        # The last number is how long resolvers remember that a name does not exist (RFC 2308).
        numbers = struct.pack(">IIIII", self.changes & 0xFFFFFFFF, 7200, 1800, 86400, TTL)
        return Record(self.domain, Type.SOA, TTL, names + numbers)


def _find_pod(rest: Name, name: Name) -> Records | None:
    """`10-244-1-5.default.pod`: says the address in its name, whoever has it."""
    if len(rest) < 2:
        return []
    if len(rest) > 2:
        return None
    for make, mark in ((IPv4Address, "."), (IPv6Address, ":")):
        try:
            return _addresses(name, [str(make(rest[0].replace("-", mark)))])
        except AddressValueError:
            continue
    return None


def _reversed_address(name: Name) -> str:
    """Return the address below `in-addr.arpa` (RFC 1035, 3.5) or `ip6.arpa` (RFC 3596, 2.5); "" for other names."""
    zone, digits = name[-2:], name[-3::-1]
    if zone == ("in-addr", "arpa") and len(digits) == 4:
        return ".".join(digits)
    if zone == ("ip6", "arpa") and len(digits) == 32 and all(len(digit) == 1 for digit in digits):
        with suppress(AddressValueError):
            return str(IPv6Address(":".join("".join(digits[at : at + 4]) for at in range(0, 32, 4))))
    return ""


def _alias(service: core_v1.Service, name: Name) -> Alias | None:
    target = tuple(service.spec.external_name.lower().rstrip(".").split("."))
    if not all(0 < len(label) < 64 and label.isascii() for label in target) or sum(map(len, target)) > 200:
        return None
    return Alias(Record(name, Type.CNAME, TTL, pack_name(target)), target)


def _addresses(name: Name, addresses: Iterable[str] | Mapping[str, None]) -> Records:
    records = []
    for text in addresses:
        try:
            address = ip_address(text)
        except ValueError:
            continue
        records.append(Record(name, Type.A if address.version == 4 else Type.AAAA, TTL, address.packed))
    return records


def _cluster_ips(service: core_v1.Service) -> list[str]:
    spec = service.spec
    return [address for address in spec.cluster_ips or (spec.cluster_ip,) if address and address != "None"]


def _protocol(port: core_v1.ServicePort) -> str:
    return f"_{(port.protocol or 'TCP').lower()}"


def _dashed(address: str) -> str:
    label = address.replace(".", "-").replace(":", "-")
    # No label ends in a dash (RFC 1123): "fd00::" reads "fd00--0".
    return f"{label}0" if label.endswith("-") else label


def _plain(address: str) -> str:
    """Return the one form an IPv6 address has of those people write (RFC 5952)."""
    try:
        return str(ip_address(address))
    except ValueError:
        return address


def _unpack(data: bytes) -> Name:
    labels = []
    offset = 0
    while data[offset]:
        labels.append(data[offset + 1 : offset + 1 + data[offset]].decode("latin-1"))
        offset += data[offset] + 1
    return tuple(labels)
