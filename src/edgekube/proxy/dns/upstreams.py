"""
Whom to ask for names the cluster does not have: the node's servers, or what the ConfigMap kube-system/edgekube-dns says.

Its keys are kube-dns's: `stubDomains`, a JSON object of domains to lists of servers, and
`upstreamNameservers`, a JSON list of servers. A server is `address` or `address:port`.
"""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.control.dns import DNS_CONFIG
from edgekube.lib.errors import EdgekubeError
from edgekube.proxy.dns.forward import Forwarder, Server
from edgekube.proxy.dns.message import Name

log = logging.getLogger(__name__)

STUBS, UPSTREAMS = "stubDomains", "upstreamNameservers"


class BadUpstreams(EdgekubeError):
    """The ConfigMap cannot be used; `str()` says why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the ConfigMap says."""

    stubs: Mapping[Name, tuple[Server, ...]] = field(default_factory=dict)
    servers: tuple[Server, ...] = ()
    """For all other names; (): the node's own."""


def server_of(text: str) -> Server:
    """Return address and port; raises BadUpstreams."""
    host, _colon, port = text.strip().partition(":")
    try:
        server = str(IPv4Address(host)), int(port or "53")
    except ValueError as error:
        raise BadUpstreams(f"{text!r} is no IPv4 address with or without a port") from error
    if not 0 < server[1] < 65536:
        raise BadUpstreams(f"{text!r}: no such port")
    return server


def parse_wish(data: Mapping[str, str]) -> Wish:
    """Return what the ConfigMap's data says; raises BadUpstreams."""
    stubs = _json(data, STUBS, dict)
    return Wish(
        {_domain(name): _servers(f"{STUBS}: {name}", given) for name, given in stubs.items()},
        _servers(UPSTREAMS, _json(data, UPSTREAMS, list)),
    )


def _json(data: Mapping[str, str], key: str, kind: type) -> Any:
    try:
        found = json.loads(data.get(key) or "null")
    except ValueError as error:
        raise BadUpstreams(f"{key} is not JSON: {error}") from error
    if found is not None and not isinstance(found, kind):
        raise BadUpstreams(f"{key} must be a JSON {'object' if kind is dict else 'list'}")
    return kind() if found is None else found


def _servers(what: str, given: object) -> tuple[Server, ...]:
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise BadUpstreams(f"{what}: must be a list of strings")
    return tuple(map(server_of, given))


def _domain(text: str) -> Name:
    labels = tuple(text.strip(".").lower().split("."))
    if not all(labels):
        raise BadUpstreams(f"{STUBS}: {text!r} is no domain")
    return labels


class Upstreams:
    """The forwarders, by domain. `own` are our addresses, which are never asked."""

    def __init__(self, servers: Sequence[Server], own: Collection[Server]) -> None:
        self._defaults = tuple(servers)
        self._own = frozenset(own)
        self._wish = Wish()
        self._stubs: dict[Name, Forwarder] = {}
        self._others = self._forwarder(self._defaults)

    def of(self, name: Name) -> Forwarder:
        """Return whom to ask for a name: those of the longest stub domain that it is in."""
        if self._stubs:
            for start in range(len(name)):
                stub = self._stubs.get(name[start:])
                if stub is not None:
                    return stub
        return self._others

    def config_changed(self, old: core_v1.ConfigMap | None, new: core_v1.ConfigMap | None) -> bool:
        """Follow the ConfigMap; tells whether others are asked from now on. A bad one changes nothing."""
        meta = (new or old or core_v1.ConfigMap()).metadata
        if Key(meta.namespace, meta.name) != DNS_CONFIG:
            return False
        try:
            wish = parse_wish(new.data) if new is not None else Wish()
        except BadUpstreams as error:
            log.warning("%s: %s; going on as before", DNS_CONFIG, error)
            return False
        if wish == self._wish:
            return False
        self._wish = wish
        # What was remembered may be another server's word.
        self._stubs = {name: self._forwarder(servers) for name, servers in wish.stubs.items()}
        self._others = self._forwarder(wish.servers or self._defaults)
        return True

    def _forwarder(self, servers: Sequence[Server]) -> Forwarder:
        return Forwarder([server for server in servers if server not in self._own])
