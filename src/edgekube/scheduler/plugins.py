"""
The tables of filters and scores, and what may make an unschedulable pod schedulable.

Other packages add rows through the entry-point group `edgekube.scheduler`: each entry point
names a FilterRow or a ScoreRow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import entry_points

from edgekube.scheduler import filters, interpod, scores, spread, volumes
from edgekube.scheduler.filters import Filter
from edgekube.scheduler.scores import Score

GROUP = "edgekube.scheduler"


class Change(Enum):
    """Something that happened in the cluster."""

    POD_ADDED = "pod added"
    POD_GONE = "pod gone"
    POD_LABELS = "pod labels changed"
    NODE_ADDED = "node added"
    NODE_RESOURCES = "node resources changed"
    NODE_LABELS = "node labels changed"
    NODE_TAINTS = "node taints changed"
    STORAGE = "a claim, volume or storage class changed"


@dataclass(frozen=True, slots=True)
class FilterRow:
    """
    One filter.

    `wakes`: what may change its answer. `final`: taking pods away (preemption) would not help.
    `crowd`: what it makes depends on the pods of all nodes, so it is made anew for a different crowd.
    `local`: it never refuses all nodes at once, and looks at nothing but the node and the pod's shape
    (see `memory.shape`), so that what it says may be remembered.
    """

    name: str
    make: Filter
    wakes: frozenset[Change]
    final: bool = field(default=True, kw_only=True)
    crowd: bool = field(default=False, kw_only=True)
    local: bool = field(default=False, kw_only=True)


class Normalise(Enum):
    """How measures become 0…100."""

    NONE = "none"
    HIGH = "the highest is best"
    LOW = "the lowest is best"


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One score and how much it counts; `local` as of a FilterRow."""

    name: str
    make: Score
    weight: float
    normalise: Normalise = Normalise.NONE
    local: bool = field(default=False, kw_only=True)


_ADDED = frozenset({Change.NODE_ADDED})
_PODS = frozenset(
    {Change.NODE_ADDED, Change.NODE_LABELS, Change.POD_ADDED, Change.POD_GONE, Change.POD_LABELS}
)

FILTERS: tuple[FilterRow, ...] = (
    FilterRow("NodeUnschedulable", filters.node_unschedulable, _ADDED | {Change.NODE_TAINTS}, local=True),
    FilterRow("NodeName", filters.node_name, _ADDED, local=True),
    FilterRow("TaintToleration", filters.taint_toleration, _ADDED | {Change.NODE_TAINTS}, local=True),
    FilterRow("NodeAffinity", filters.node_affinity, _ADDED | {Change.NODE_LABELS}, local=True),
    FilterRow("NodePorts", filters.node_ports, _ADDED | {Change.POD_GONE}, final=False, local=True),
    FilterRow(
        "NodeResourcesFit", filters.resources_fit, _ADDED | {Change.POD_GONE, Change.NODE_RESOURCES}, final=False,
        local=True,
    ),
    FilterRow("VolumeRestrictions", volumes.restrictions, _ADDED | {Change.POD_GONE}, final=False),
    FilterRow("VolumeBinding", volumes.binding, _ADDED | {Change.NODE_LABELS, Change.STORAGE}),
    FilterRow("VolumeZone", volumes.zone, _ADDED | {Change.NODE_LABELS, Change.STORAGE}),
    FilterRow("PodTopologySpread", spread.topology_spread, _PODS | {Change.NODE_TAINTS}, final=False, crowd=True),
    FilterRow("InterPodAffinity", interpod.inter_pod_affinity, _PODS, final=False, crowd=True),
)  # fmt: skip

SCORES: tuple[ScoreRow, ...] = (
    ScoreRow("LeastAllocated", scores.least_allocated, 1, local=True),
    ScoreRow("BalancedAllocation", scores.balanced_allocation, 1, local=True),
    ScoreRow("TaintToleration", scores.tolerated_taints, 3, Normalise.LOW, local=True),
    ScoreRow("NodeAffinity", scores.preferred_nodes, 2, Normalise.HIGH, local=True),
    ScoreRow("InterPodAffinity", interpod.preferred_pods, 2, Normalise.HIGH),
    ScoreRow("PodTopologySpread", spread.spread_score, 2, Normalise.LOW),
    ScoreRow("ImageLocality", scores.image_locality, 1),
    ScoreRow("BoardHealth", scores.board_health, 3, local=True),
)


@dataclass(frozen=True, slots=True)
class Plugins:
    """What one scheduler decides by."""

    filters: Sequence[FilterRow] = FILTERS
    scores: Sequence[ScoreRow] = SCORES


def installed() -> Plugins:
    """Return the built-in rows and those of other installed packages."""
    extra = [entry.load() for entry in entry_points(group=GROUP)]
    return Plugins(
        (*FILTERS, *(row for row in extra if isinstance(row, FilterRow))),
        (*SCORES, *(row for row in extra if isinstance(row, ScoreRow))),
    )
