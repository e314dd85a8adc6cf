"""What a person may choose about a node's resources, written as the kubelet's own flags are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekube.api import quantity
from edgekube.node.config import ImageGcSettings
from edgekube.node.eviction.settings import BadThreshold, EvictionSettings, parse_amount

SHARED_DISK = ("--eviction-hard", "memory.available<100Mi", "--image-gc-high-threshold", "100")
"""For nodes in sandboxes: how full the disk is under them is not their business, and none could free it."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """Options of `edgekube agent` about resources; times in seconds."""

    max_pods: int = 110
    oom_score_adj: int = -999
    """Of the agent; each container has its own, by its pod's class."""
    kube_reserved: Mapping[str, str] = field(default_factory=dict)
    system_reserved: Mapping[str, str] = field(default_factory=dict)
    eviction: EvictionSettings = field(default_factory=EvictionSettings)
    image_gc: ImageGcSettings = field(default_factory=ImageGcSettings)
    manifests: Path | None = None
    """The folder of static pods; None: `manifests` below the data directory."""
    shutdown_grace: float = 0.0
    """How long the pods may take together when the machine is shut down; 0: they are not ended, as at the kubelet."""
    shutdown_grace_critical: float = 0.0
    """The part of it that is kept for critical pods."""


def duration(text: str) -> float:
    """Return the seconds of `90s`, `1m30s`, `5m`; raises ValueError."""
    rest = _DURATION.sub("", text)
    if rest or not text:
        if text == "0":
            return 0.0
        raise ValueError(f"{text!r} is no duration; 90s, 5m and 1h30m are")
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


def resources(text: str) -> dict[str, str]:
    """Return `cpu=100m,memory=100Mi` as a mapping; raises ValueError."""
    found = _pairs(text, "=")
    for name, amount in found.items():
        if name not in ("cpu", "memory", "ephemeral-storage", "pid"):
            raise ValueError(f"cannot reserve {name!r}: cpu, memory and ephemeral-storage can be")
        _quantity(amount)
    return found


def thresholds(text: str) -> dict[str, str]:
    """Return `memory.available<100Mi,nodefs.available<10%` as a mapping; raises ValueError."""
    return _checked(_pairs(text, "<"))


def reclaims(text: str) -> dict[str, str]:
    """Return `nodefs.available=1Gi` as a mapping; raises ValueError."""
    return _checked(_pairs(text, "="))


def graces(text: str) -> dict[str, float]:
    """Return `memory.available=1m30s` as a mapping of seconds; raises ValueError."""
    return {name: duration(value) for name, value in _checked(_pairs(text, "="), values=False).items()}


def _checked(found: dict[str, str], *, values: bool = True) -> dict[str, str]:
    for signal, value in found.items():
        try:
            parse_amount(signal, value if values else "0")
        except BadThreshold as error:
            raise ValueError(str(error)) from error
    return found


def _pairs(text: str, sign: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (word.strip() for word in text.split(","))):
        name, there, value = part.partition(sign)
        if not there or not value:
            raise ValueError(f"{part!r} should be name{sign}value")
        if name in found:
            raise ValueError(f"{name} is there twice")
        found[name] = value
    return found


def _quantity(text: str) -> None:
    try:
        quantity.parse(text)
    except quantity.InvalidQuantity as error:
        raise ValueError(str(error)) from error
