"""Eviction thresholds as the kubelet's configuration writes them: signal → amount or percentage of capacity."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekube.api import quantity
from edgekube.lib.errors import EdgekubeError

MEMORY, DISK, PIDS = "MemoryPressure", "DiskPressure", "PIDPressure"
SIGNALS: Mapping[str, tuple[str, str]] = {
    "memory.available": (MEMORY, "memory"),
    "nodefs.available": (DISK, "ephemeral-storage"),
    "nodefs.inodesFree": (DISK, "inodes"),
    "imagefs.available": (DISK, "ephemeral-storage"),
    "imagefs.inodesFree": (DISK, "inodes"),
    "pid.available": (PIDS, "pids"),
}
"""Signal → node condition, and the name of what is short. In the order in which they are looked after."""
HARD: Mapping[str, str] = {
    "memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%",
    "imagefs.available": "15%", "imagefs.inodesFree": "5%",
}  # fmt: skip
"""The kubelet's defaults."""


class BadThreshold(EdgekubeError):
    """A threshold is no signal, no amount, or has no grace period."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Bytes (or inodes, processes), or a share of the capacity."""

    units: int = 0
    share: float = 0.0

    def of(self, capacity: int) -> int:
        """Return units."""
        return int(capacity * self.share) if self.share else self.units


@dataclass(frozen=True, slots=True)
class Threshold:
    """Less than `amount` available for `grace` seconds is too little; hard when `grace` is None."""

    signal: str
    amount: Amount
    grace: float | None = None
    reclaim: Amount = Amount()
    """How much more than the threshold must be free again."""

    @property
    def condition(self) -> str:
        """The node condition it stands for."""
        return SIGNALS[self.signal][0]

    @property
    def resource(self) -> str:
        """The name of what is short, in messages."""
        return SIGNALS[self.signal][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionSettings:
    """The kubelet's evictionHard, evictionSoft and so on; times in seconds."""

    hard: Mapping[str, str] = field(default_factory=lambda: HARD)
    soft: Mapping[str, str] = field(default_factory=dict)
    soft_grace: Mapping[str, float] = field(default_factory=dict)
    minimum_reclaim: Mapping[str, str] = field(default_factory=dict)
    transition: float = 300.0
    """How long a pressure must be over before the node says so."""
    max_pod_grace: float = 0.0
    """The longest a pod may take to end when a soft threshold is met."""
    period: float = 10.0
    """Seconds between two looks."""

    def thresholds(self) -> tuple[Threshold, ...]:
        """Return them all; raises BadThreshold."""
        found = []
        for table, hard in ((self.hard, True), (self.soft, False)):
            for signal, text in table.items():
                amount = parse_amount(signal, text)
                if not amount.units and not amount.share:
                    continue  # 0 and 0% switch a threshold off.
                if not hard and signal not in self.soft_grace:
                    raise BadThreshold(
                        f"grace period must be specified for the soft eviction threshold {signal}"
                    )
                reclaim = parse_amount(signal, self.minimum_reclaim.get(signal, "0"))
                found.append(Threshold(signal, amount, None if hard else self.soft_grace[signal], reclaim))
        return tuple(found)


def parse_amount(signal: str, text: str) -> Amount:
    """Return `100Mi` or `15%`; raises BadThreshold."""
    if signal not in SIGNALS:
        raise BadThreshold(f"unsupported eviction signal {signal}; there are {', '.join(SIGNALS)}")
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if not 0 <= share <= 1:
                raise BadThreshold(f"eviction percentage threshold {signal} must be >= 0% and <= 100%")
            return Amount(share=share)
        units = quantity.value(text)
    except (ValueError, quantity.InvalidQuantity) as error:
        raise BadThreshold(
            f"eviction threshold {signal}: {text!r} is neither a quantity nor a percentage"
        ) from error
    if units < 0:
        raise BadThreshold(f"eviction threshold {signal} must be positive")
    return Amount(units)
