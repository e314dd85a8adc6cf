"""The pod network's own table: traffic that leaves the cluster takes the node's address."""

from edgekube.network.netlink import NETFILTER, Netlink
from edgekube.network.nftables.expressions import counter, destination, masquerade, source, within
from edgekube.network.nftables.transaction import POSTROUTING, Hook, Transaction, count_rules

TABLE = "edgekube-pods"
RULES = 1


def program(pod_cidr: str, cluster_cidr: str) -> None:
    """Make the table afresh."""
    change = Transaction(TABLE)
    change.start_afresh("edgekube: pods")
    change.add_chain("postrouting", hook=Hook("nat", POSTROUTING, 100))
    rule = (
        source(),
        within(pod_cidr),
        destination(),
        within(cluster_cidr, equal=False),
        # Multicast is link-local business.
        destination(),
        within("224.0.0.0/4", equal=False),
        counter(),
        masquerade(),
    )
    change.add_rule("postrouting", *rule, comment="pods to the world")
    with Netlink(NETFILTER) as netlink:
        change.commit(netlink)


def ensure(pod_cidr: str, cluster_cidr: str) -> None:
    """Make the table if it is not whole: another program may have flushed it."""
    with Netlink(NETFILTER) as netlink:
        if count_rules(netlink, TABLE) == RULES:
            return
    program(pod_cidr, cluster_cidr)


def clear() -> None:
    """Remove the table, if it is there."""
    change = Transaction(TABLE)
    change.add_table()
    change.delete_table()
    with Netlink(NETFILTER) as netlink:
        change.commit(netlink)
