"""The decision: which node for this pod, or why none. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgekube.scheduler.filters import Check, Refusal
from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot
from edgekube.scheduler.memory import Finding, Looker, Memory
from edgekube.scheduler.plugins import FilterRow, Normalise, Plugins, ScoreRow
from edgekube.scheduler.scores import BEST

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


def decide(
    pod: PodInfo, snapshot: Snapshot, plugins: Plugins, *, start: int = 0, memory: Memory | None = None
) -> Placement | Unfit:
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
    memory = memory or Memory()
    looker = Looker(pod, snapshot, plugins, memory)
    found = _search(pod, snapshot, checks, looker, known=memory.of(pod, plugins, total), start=start)
    if not found.feasible:
        return _unfit(pod, total, found.refused)
    return Placement(_best(pod, snapshot, found, looker.relative, plugins).name, found.looked)


@dataclass(slots=True)
class _Found:
    """Nodes that will do, with what is known of each, and the others."""

    feasible: list[NodeInfo] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    refused: list[tuple[NodeInfo, FilterRow, Sequence[str]]] = field(default_factory=list)
    looked: int = 0


def _search(
    pod: PodInfo, snapshot: Snapshot, checks: Checks, looker: Looker, *, known: dict[NodeInfo, Finding], start: int
) -> _Found:  # fmt: skip
    """Look at nodes until enough will do."""
    found, nodes, total = _Found(), snapshot.nodes, len(snapshot.nodes)
    rest = [(row, check) for row, check in checks if not row.local]
    feasible, enough, nominated = found.feasible, _enough(total), snapshot.nominated
    for number in range(start, start + total):
        node = nodes[number % total]
        finding = known.get(node)
        if finding is None or finding[0] != node.version:
            finding = known[node] = looker.look(node)
        against = finding[1]
        if against is None:
            against = (_first(node, rest) if rest else None) or (
                _first_of_all(pod, node, checks, snapshot) if nominated else None
            )
        if against is not None:
            found.refused.append((node, *against))
            continue
        feasible.append(node)
        found.findings.append(finding)
        if len(feasible) >= enough:
            break
    found.looked = number - start + 1
    return found


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
    return _first_of_all(pod, node, checks, snapshot) or _first(node, checks)


def _first_of_all(
    pod: PodInfo, node: NodeInfo, checks: Checks, snapshot: Snapshot
) -> tuple[FilterRow, Sequence[str]] | None:
    """Return what speaks against it once those have come for whom room was made there."""
    # Room that was made for more important pods is theirs, though they are not there yet.
    coming = _coming(pod, node, snapshot) if snapshot.nominated else None
    return _first(node.changed(more=coming), checks) if coming else None


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


def _best(
    pod: PodInfo, snapshot: Snapshot, found: _Found, relative: Sequence[ScoreRow], plugins: Plugins
) -> NodeInfo:
    nodes = found.feasible
    if len(nodes) == 1:
        return nodes[0]
    totals = [finding[2] for finding in found.findings]
    for number, row in enumerate(relative):
        _count(totals, [finding[3][number] for finding in found.findings], row)
    for row in plugins.scores:
        measure = None if row.local else row.make(pod, snapshot)
        if measure is not None:
            _count(totals, [measure(node) for node in nodes], row)
    most = max(totals)
    best = (node for node, points in zip(nodes, totals, strict=True) if points == most)
    return max(best, key=lambda node: (-len(node.pods), node.name))


def _count(totals: list[float], measures: Sequence[float], row: ScoreRow) -> None:
    """Add one row's measures to the totals."""
    low, high = min(measures), max(measures)
    if row.normalise is Normalise.NONE:
        low, scale = 0.0, row.weight
    elif low == high:
        return
    else:
        scale = row.weight * BEST / (high - low)
        if row.normalise is Normalise.LOW:
            low, scale = high, -scale
    for number, measure in enumerate(measures):
        totals[number] += (measure - low) * scale


def _enough(total: int) -> int:
    if total <= ALL:
        return total
    return max(ALL, total * max(50 - total // 125, 5) // 100)


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
