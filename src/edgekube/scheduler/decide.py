"""The decision: which node for this pod, or why none. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot
from edgekube.scheduler.plugins import Normalise, Plugins
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


def decide(pod: PodInfo, snapshot: Snapshot, plugins: Plugins, *, start: int = 0) -> Placement | Unfit:
    """Choose a node; the search begins at number `start`, so that all get their share."""
    if not snapshot.nodes:
        return Unfit("no nodes available to schedule pods", frozenset({"NodeName"}))
    checks = [(row, check) for row in plugins.filters if (check := row.make(pod, snapshot)) is not None]
    total = len(snapshot.nodes)
    enough = _enough(total)
    feasible: list[NodeInfo] = []
    reasons: Counter[str] = Counter()
    preemption: Counter[str] = Counter()
    blamed: set[str] = set()
    looked = 0
    for number in range(total):
        node = snapshot.nodes[(start + number) % total]
        looked += 1
        for row, check in checks:
            if why := check(node):
                reasons.update(why)
                preemption[FINAL if row.final else HOPELESS] += 1
                blamed.add(row.name)
                break
        else:
            feasible.append(node)
            if len(feasible) >= enough:
                break
    if not feasible:
        return Unfit(_message(pod, total, reasons, preemption), frozenset(blamed))
    return Placement(_best(pod, snapshot, feasible, plugins).name, looked)


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


def _message(pod: PodInfo, total: int, reasons: Counter[str], preemption: Counter[str]) -> str:
    head = f"0/{total} nodes are available"
    text = f"{head}: {_listed(reasons)}."
    if pod.pod.spec.preemption_policy == "Never":
        return f"{text} preemption: not eligible due to preemptionPolicy=Never."
    return f"{text} preemption: {head}: {_listed(preemption)}."


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
