"""
Limits of what an interface sends: a token bucket (tc-tbf(8)) as its root queue.

What the host's end of a pod's pair sends is what the pod receives; what `eth0` in its namespace sends
is what the pod sends. That one is made before the pod's processes are, but a container with NET_ADMIN
could take it away.
"""

import errno
import struct

from edgekube.network.base import NetworkError
from edgekube.network.links import Link
from edgekube.network.netlink import CREATE, REPLACE, ROUTE, Netlink, NetlinkError, attribute, nest, text

_NEWQDISC, _DELQDISC = 36, 37
_TCMSG = struct.Struct("=BxxxiIII")
_ROOT = 0xFFFFFFFF
_KIND, _OPTIONS = 1, 2
_PARMS, _RATE64, _BURST = 1, 4, 6
_RATE = struct.Struct("=BBHhHI")
"""struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate."""
_ETHERNET = 1
"""TC_LINKLAYER_ETHERNET: the kernel works lengths out itself, no rate table is needed."""
_TBF = "tbf"
_LEAST_BURST = 32 << 10
"""Bytes: some full packets. Timers fire every few milliseconds, so a bucket must hold that much of the rate."""
_MOMENT = 20
"""The bucket holds a 20th of a second, and as much again may wait (CNI's bandwidth plugin: 25 ms)."""


def limit(link: Link, rate: int) -> None:
    """
    Let the interface send at most `rate` bits per second; 0: as much as it likes. May be repeated.

    NetworkError when the kernel has no token buckets.
    """
    if not rate and link.queue != _TBF:
        return
    with Netlink(ROUTE) as netlink:
        if rate:
            _put(netlink, link, rate // 8)
        else:
            body = _TCMSG.pack(0, link.index, 0, _ROOT, 0)
            netlink.request(f"delete queue of {link.name}", _DELQDISC, 0, body)


def _put(netlink: Netlink, link: Link, rate: int) -> None:
    burst = max(rate // _MOMENT, _LEAST_BURST)
    shape = _RATE.pack(0, _ETHERNET, 0, 0, 0, min(rate, (1 << 32) - 1))
    parameters = shape + _RATE.pack(0, 0, 0, 0, 0, 0) + struct.pack("=III", 2 * burst, 0, 0)
    options = [attribute(_PARMS, parameters), attribute(_BURST, struct.pack("=I", burst))]
    if rate >= 1 << 32:
        options.append(attribute(_RATE64, struct.pack("=Q", rate)))
    body = _TCMSG.pack(0, link.index, 0, _ROOT, 0) + text(_KIND, _TBF) + nest(_OPTIONS, *options)
    try:
        netlink.request(f"limit of {link.name}", _NEWQDISC, CREATE | REPLACE, body)
    except NetlinkError as error:
        if error.number in {errno.ENOENT, errno.EOPNOTSUPP}:
            raise NetworkError(
                "the pod's bandwidth annotations cannot be honoured: this kernel lacks the token bucket filter "
                "(module sch_tbf); load it, or remove the annotations"
            ) from error
        raise
