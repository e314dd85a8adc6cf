"""
Flows the kernel remembers (ctnetlink): UDP flows outlive the backend they were translated to.

A TCP client notices and connects anew; a UDP client goes on with its socket, and the kernel with
its memory, until nobody has sent for two minutes.
"""

import errno
import socket
import struct
from collections.abc import Collection, Mapping
from pathlib import Path

from edgekube.network.base import Backend, Flows, Frontend, NetworkError
from edgekube.network.netlink import NETFILTER, Netlink, NetlinkError, attribute, attributes, nest

_SUBSYSTEM = 1 << 8
_GET, _DELETE = 1, 2
_HEADERS: dict[int, bytes] = {
    family: struct.pack("=BBH", family, 0, 0) for family in (socket.AF_INET, socket.AF_INET6)
}
_HEADER_SIZE = 4
_ORIGINAL, _REPLY, _ID = 1, 2, 12
_NESTED = 0x8000
SETTINGS = Path("/proc/sys/net/netfilter")

End = tuple[bytes, bytes]
"""An address and a port, packed as the kernel packs them."""


def flows(settings: Path = SETTINGS) -> Flows:
    """Return how full the table of this namespace is (nf_conntrack-sysctl); raises NetworkError."""
    try:
        known, most = (
            int((settings / name).read_text()) for name in ("nf_conntrack_count", "nf_conntrack_max")
        )
    except (OSError, ValueError) as error:
        raise NetworkError(f"the table of connections cannot be read: {error}") from error
    return Flows(known, most)


def forget(allowed: Mapping[Frontend, Collection[Backend]]) -> int:
    """Delete the flows to these frontends that lead to none of the allowed backends; return how many."""
    families: dict[int, Wanted] = {}
    for frontend, backends in allowed.items():
        family = socket.AF_INET6 if ":" in frontend.address else socket.AF_INET
        address = b"" if frontend.is_node_port else socket.inet_pton(family, frontend.address)
        families.setdefault(family, {})[frontend.transport.value, address, _PORT.pack(frontend.port)] = {
            (socket.inet_pton(family, backend.address), _PORT.pack(backend.port)) for backend in backends
        }
    return sum(_forget(family, wanted) for family, wanted in families.items())


Wanted = dict[tuple[int, bytes, bytes], Collection[End]]
_PORT = struct.Struct(">H")


def _forget(family: int, wanted: Wanted) -> int:
    protocols, header = {key[0] for key in wanted}, _HEADERS[family]
    with Netlink(NETFILTER, buffer=8 << 20) as netlink:
        flows = netlink.dump("flows", _SUBSYSTEM | _GET, header)
        stale = [body for body in flows if _is_stale(body, family, wanted, protocols)]
        for body in stale:
            _delete(netlink, body, header)
    return len(stale)


def _is_stale(body: bytes, family: int, wanted: Wanted, protocols: Collection[int]) -> bool:
    values = attributes(body, _HEADER_SIZE)
    original = attributes(values.get(_ORIGINAL, b""))
    ports = attributes(original.get(2, b""))
    protocol = ports.get(1, b"\0")[0]
    if protocol not in protocols:
        return False
    source, destination = (_SOURCE6, _TARGET6) if family == socket.AF_INET6 else (_SOURCE, _TARGET)
    target, port = attributes(original.get(1, b"")).get(destination, b""), ports.get(3, b"")
    backends = wanted.get((protocol, target, port), wanted.get((protocol, b"", port)))
    if backends is None:
        return False
    reply = attributes(values.get(_REPLY, b""))
    answering = (attributes(reply.get(1, b"")).get(source, b""), attributes(reply.get(2, b"")).get(2, b""))
    return answering not in backends


def _delete(netlink: Netlink, body: bytes, header: bytes) -> None:
    values = attributes(body, _HEADER_SIZE)
    # With its id, so that a new flow between the same ends is not hit.
    which = attribute(_ORIGINAL | _NESTED, values[_ORIGINAL]) + attribute(_ID, values[_ID])
    try:
        netlink.request("delete flow", _SUBSYSTEM | _DELETE, 0, header + which)
    except NetlinkError as error:
        if error.number != errno.ENOENT:
            raise


def forget_pod(address: str) -> int:
    """
    Delete every flow of a pod that is gone; return how many.

    The next pod with that address would inherit them: answers to it pass without being judged.
    """
    family, kind = (socket.AF_INET6, _SOURCE6) if ":" in address else (socket.AF_INET, _SOURCE)
    ends, header = socket.inet_pton(family, address), _HEADERS[family]
    gone = 0
    with Netlink(NETFILTER, buffer=8 << 20) as netlink:
        # As client, and as server behind whatever translation.
        for which, flags in ((_ORIGINAL, _FILTER_ORIGINAL), (_REPLY, _FILTER_REPLY)):
            wanted = b""
            if family == socket.AF_INET:
                # Kernels before 5.8 do not know the filter and list all flows; with IPv6 addresses
                # others (6.18 too) list those that do not match.
                wanted = nest(which, nest(1, attribute(kind, ends)))
                wanted += nest(_FILTER, attribute(flags, struct.pack("=I", _BY_SOURCE)))
            listed = netlink.dump("flows", _SUBSYSTEM | _GET, header + wanted)
            flows = [body for body in listed if _from(body, which).get(kind) == ends]
            for body in flows:
                _delete(netlink, body, header)
            gone += len(flows)
    return gone


_FILTER, _FILTER_ORIGINAL, _FILTER_REPLY = 25, 1, 2
_BY_SOURCE = 1
_SOURCE, _TARGET, _SOURCE6, _TARGET6 = 1, 2, 3, 4


def _from(body: bytes, which: int) -> dict[int, bytes]:
    """Return the addresses of a flow in one direction, by attribute."""
    values = attributes(body, _HEADER_SIZE)
    return attributes(attributes(values.get(which, b"")).get(1, b""))
