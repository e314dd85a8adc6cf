"""The decision: which node for this pod, or why none. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgekube.scheduler.filters import Check, Refusal
from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot
from edgekube.scheduler.plugins import FilterRow, Normalise, Plugins
from edgekube.scheduler.scores import BEST, Measure

ALL = 100
"""Up to so many nodes are all looked at; of more, a share that shrinks (percentageOfNodesToScore)."""
FINAL = "Preemption is not helpful for scheduling"
HOPELESS = "No preemption victims found for incoming pod"


@dataclass(frozen=True, slots=True)
class Placement:
    """Run it there. `looked` counts the nodes that were asked."""

    node: str
    looked: int


@dataclass(frozen=True, slots=True)
class Unfit:
    """No node will do; `plugins` are the filters that said so."""

    message: str
    plugins: frozenset[str]
    candidates: tuple[NodeInfo, ...] = ()
    """Nodes where it could run if other pods were not there."""
    preemption: str = ""
    """What there is to say of preemption when it does not help."""

    def __str__(self) -> str:
        return f"{self.message} preemption: {self.preemption}" if self.preemption else self.message


Checks = Sequence[tuple[FilterRow, Check]]


def decide(pod: PodInfo, snapshot: Snapshot, plugins: Plugins, *, start: int = 0) -> Placement | Unfit:
    """Choose a node; the search begins at number `start`, so that all get their share."""
    if not snapshot.nodes:
        return Unfit("no nodes available to schedule pods", frozenset({"NodeName"}))
    total = len(snapshot.nodes)
    checks = checks_of(pod, snapshot, plugins)
    if isinstance(checks, Unfit):
        return checks
    promised = _promised(pod, snapshot, checks)
    if promised is not None:
        return Placement(promised.name, 0)
    feasible: list[NodeInfo] = []
    refused: list[tuple[NodeInfo, FilterRow, Sequence[str]]] = []
    enough, looked = _enough(total), 0
    for number in range(total):
        node = snapshot.nodes[(start + number) % total]
        looked += 1
        against = refusal(pod, node, checks, snapshot)
        if against is not None:
            refused.append((node, *against))
            continue
        feasible.append(node)
        if len(feasible) >= enough:
            break
    if not feasible:
        return _unfit(pod, total, refused)
    return Placement(_best(pod, snapshot, feasible, plugins).name, looked)


def checks_of(pod: PodInfo, snapshot: Snapshot, plugins: Plugins) -> Checks | Unfit:
    """Return what to ask of each node, or that it is no use to ask."""
    checks: list[tuple[FilterRow, Check]] = []
    for row in plugins.filters:
        made = row.make(pod, snapshot)
        if isinstance(made, Refusal):
            head = f"0/{len(snapshot.nodes)} nodes are available"
            final = f"{head}: {len(snapshot.nodes)} {FINAL}."
            return Unfit(f"{head}: {made.reason}.", frozenset({row.name}), preemption=final)
        if made is not None:
            checks.append((row, made))
    return checks


def refusal(
    pod: PodInfo, node: NodeInfo, checks: Checks, snapshot: Snapshot
) -> tuple[FilterRow, Sequence[str]] | None:
    """Return the first filter that refuses the node, and why; None when it will do."""
    if snapshot.nominated and (coming := _coming(pod, node, snapshot)):
        # Room that was made for more important pods is theirs, though they are not there yet.
        against = _first(node.changed(more=coming), checks)
        if against is not None:
            return against
    return _first(node, checks)


def _first(node: NodeInfo, checks: Checks) -> tuple[FilterRow, Sequence[str]] | None:
    for row, check in checks:
        if why := check(node):
            return row, why
    return None


def _coming(pod: PodInfo, node: NodeInfo, snapshot: Snapshot) -> list[PodInfo]:
    coming = snapshot.nominated.get(node.name, ())
    return [other for other in coming if other.uid != pod.uid and other.priority >= pod.priority]


def _promised(pod: PodInfo, snapshot: Snapshot, checks: Checks) -> NodeInfo | None:
    """Return the node that was nominated for the pod, if it will do now."""
    name = pod.pod.status.nominated_node_name
    if not name:
        return None
    node = next((node for node in snapshot.nodes if node.name == name), None)
    return node if node is not None and refusal(pod, node, checks, snapshot) is None else None


def _unfit(pod: PodInfo, total: int, refused: Sequence[tuple[NodeInfo, FilterRow, Sequence[str]]]) -> Unfit:
    head = f"0/{total} nodes are available"
    reasons = Counter(reason for _, _, why in refused for reason in why)
    text = f"{head}: {_listed(reasons)}."
    blamed = frozenset(row.name for _, row, _ in refused)
    if pod.pod.spec.preemption_policy == "Never":
        return Unfit(text, blamed, preemption="not eligible due to preemptionPolicy=Never.")
    preemption = Counter(FINAL if row.final else HOPELESS for _, row, _ in refused)
    candidates = tuple(node for node, row, _ in refused if not row.final)
    return Unfit(text, blamed, candidates, f"{head}: {_listed(preemption)}.")


def _best(pod: PodInfo, snapshot: Snapshot, nodes: Sequence[NodeInfo], plugins: Plugins) -> NodeInfo:
    if len(nodes) == 1:
        return nodes[0]
    totals = [0.0] * len(nodes)
    for row in plugins.scores:
        measure = row.make(pod, snapshot)
        if measure is None:
            continue
        for number, points in enumerate(_measured(measure, nodes, row.normalise)):
            totals[number] += row.weight * points
    number = max(range(len(nodes)), key=lambda n: (totals[n], -len(nodes[n].pods), nodes[n].name))
    return nodes[number]


def _measured(measure: Measure, nodes: Sequence[NodeInfo], how: Normalise) -> list[float]:
    points = [measure(node) for node in nodes]
    if how is Normalise.NONE:
        return points
    low, high = min(points), max(points)
    if low == high:
        return [0.0] * len(points)
    scale = BEST / (high - low)
    if how is Normalise.HIGH:
        return [(value - low) * scale for value in points]
    return [(high - value) * scale for value in points]


def _enough(total: int) -> int:
    if total <= ALL:
        return total
    return max(ALL, total * max(50 - total // 125, 5) // 100)


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
