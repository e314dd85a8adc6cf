"""What pods may have of the node: capacity less what is kept for the system, the agent, and the eviction thresholds."""

from collections.abc import Iterable, Mapping

from edgekube.api import quantity
from edgekube.node.eviction.settings import Threshold

GUARDED: Mapping[str, str] = {"memory.available": "memory", "nodefs.available": "ephemeral-storage"}
"""Hard thresholds that pods may never come near, and the resource they take from."""


def allocatable_of(
    capacity: Mapping[str, str], reserved: Iterable[Mapping[str, str]], thresholds: Iterable[Threshold] = ()
) -> dict[str, str]:
    """Return the allocatable resources as quantities (kubelet's cm/node_container_manager)."""
    taken: dict[str, int] = {}
    for amounts in reserved:
        for name, amount in amounts.items():
            taken[name] = taken.get(name, 0) + quantity.milli(amount)
    for threshold in thresholds:
        name = GUARDED.get(threshold.signal, "")
        if name in capacity and threshold.grace is None:
            taken[name] = taken.get(name, 0) + 1000 * threshold.amount.of(quantity.value(capacity[name]))
    found = dict(capacity)
    for name, much in taken.items():
        if name in found:
            left = max(quantity.milli(found[name]) - much, 0)
            text = f"{left}m" if name == "cpu" or left % 1000 else f"{left // 1000}"
            binary = name in ("memory", "ephemeral-storage")
            found[name] = quantity.canonical(f"{left // 1024_000}Ki" if binary else text)
    return found
