"""
The pod network's own table of family ip6: traffic that leaves the cluster takes the node's address.

And what IPv4 has a kernel setting for (rp_filter): packets of pods that are not from where they say are dropped.
"""

from ipaddress import IPv6Network

from edgekube.network.netlink import NETFILTER, Netlink
from edgekube.network.nftables.expressions import (
    FIRST,
    compare,
    counter,
    drop,
    expression,
    masquerade,
    number,
    payload,
)
from edgekube.network.nftables.pods import TABLE
from edgekube.network.nftables.transaction import (
    IPV6,
    POSTROUTING,
    PREROUTING,
    Hook,
    Transaction,
    count_rules,
)

RULES = 2
_NETWORK = 1
_IIFNAME = 6
_FROM_HERE = 1 | 8 | 0x20
"""Flags of a route lookup: for the source address, out of the interface it came in by, and only whether there is one."""
_RAW = -300
_SOURCE, _DESTINATION = 8, 24
"""Offsets in the IPv6 header (RFC 8200)."""


def program(pod_cidr: str, cluster_cidr: str) -> None:
    """Make the table afresh; prefix lengths must be multiples of 8."""
    change = Transaction(TABLE, family=IPV6)
    change.start_afresh("edgekube: pods")
    change.add_chain("postrouting", hook=Hook("nat", POSTROUTING, 100))
    rule = (
        _within(_SOURCE, pod_cidr, equal=True),
        _within(_DESTINATION, cluster_cidr, equal=False),
        # Multicast and link-local are the link's business.
        _within(_DESTINATION, "ff00::/8", equal=False),
        _within(_DESTINATION, "fe80::/16", equal=False),
        counter(),
        masquerade(),
    )
    change.add_rule("postrouting", *rule, comment="pods to the world")
    change.add_chain("prerouting", hook=Hook("filter", PREROUTING, _RAW))
    change.add_rule("prerouting", *_forged(), counter(), drop(), comment="forged source addresses")
    with Netlink(NETFILTER) as netlink:
        change.commit(netlink)


def ensure(pod_cidr: str, cluster_cidr: str) -> None:
    """Make the table if it is not whole."""
    with Netlink(NETFILTER) as netlink:
        if count_rules(netlink, TABLE, family=IPV6) == RULES:
            return
    program(pod_cidr, cluster_cidr)


def clear() -> None:
    """Remove the table, if it is there."""
    change = Transaction(TABLE, family=IPV6)
    change.add_table()
    change.delete_table()
    with Netlink(NETFILTER) as netlink:
        change.commit(netlink)


def _forged() -> tuple[bytes, ...]:
    """Say `iifname "ek*" fib saddr . iif oif missing`."""
    return (
        expression("meta", number(1, FIRST), number(2, _IIFNAME)),
        compare(b"ek"),
        expression("fib", number(1, FIRST), number(2, 1), number(3, _FROM_HERE)),
        compare(bytes(4)),
    )


def _within(offset: int, cidr: str, *, equal: bool) -> bytes:
    """Compare the prefix's bytes alone, as nft(8) does for prefixes of whole bytes."""
    network = IPv6Network(cidr)
    size = network.prefixlen // 8
    return payload(_NETWORK, offset, size, FIRST) + compare(
        network.network_address.packed[:size], equal=equal
    )
