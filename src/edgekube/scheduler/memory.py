"""
What was found of a node for pods of one shape, good while the node and its pods stay as they are.

The pods of one Deployment ask the same of every node, and one placed pod changes one node: of a
thousand nodes nine hundred and ninety-nine need no second look. Only rows marked `local` are
remembered, those that look at nothing but the node and the pod's shape (KEP-5598 has the same idea).
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot
from edgekube.scheduler.plugins import FilterRow, Normalise, Plugins, ScoreRow
from edgekube.scheduler.scores import Measure

SHAPES = 64
"""Pod shapes remembered at once; those not asked for the longest are forgotten."""

Against = tuple[FilterRow, Sequence[str]]
Finding = tuple[int, Against | None, float, tuple[float, ...]]
"""The node's version, what speaks against it, its weighted points, and its measures still to be normalised."""
Look = Callable[[NodeInfo], Finding]


class Memory:
    """Findings by shape and node; one for all profiles of a scheduler."""

    def __init__(self) -> None:
        self._shapes: OrderedDict[tuple[int, bytes], dict[NodeInfo, Finding]] = OrderedDict()
        self.looks = 0
        """How often a node was really looked at."""

    def of(self, pod: PodInfo, plugins: Plugins, nodes: int) -> dict[NodeInfo, Finding]:
        """Return the findings for pods like this one, to be read and added to; `nodes` is how many there are."""
        key = (id(plugins), shape(pod))
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = {}
            if len(self._shapes) > SHAPES:
                self._shapes.popitem(last=False)
        else:
            self._shapes.move_to_end(key)
        if len(found) > 2 * nodes:
            # Nodes that are gone.
            found.clear()
        return found


def shape(pod: PodInfo) -> bytes:
    """Return all that local rows may look at in a pod."""
    spec = pod.pod.spec
    affinity = spec.affinity.node_affinity if spec.affinity else None
    names = (spec.node_name, [container.image for container in spec.containers])
    return msgspec.msgpack.encode(
        (pod.requests, pod.weight, pod.ports, spec.node_selector, affinity, spec.tolerations, names)
    )


class Looker:
    """Asks the local rows about one node at a time."""

    def __init__(self, pod: PodInfo, snapshot: Snapshot, plugins: Plugins, memory: Memory) -> None:
        self._memory = memory
        self._checks = [
            (row, check)
            for row in plugins.filters
            if row.local and callable(check := row.make(pod, snapshot))
        ]
        self._fixed: list[tuple[ScoreRow, Measure]] = []
        self._open: list[Measure] = []
        self.relative: list[ScoreRow] = []
        """The rows of a finding's measures, in order."""
        for row in plugins.scores:
            measure = row.make(pod, snapshot) if row.local else None
            if measure is None:
                continue
            if row.normalise is Normalise.NONE:
                self._fixed.append((row, measure))
            else:
                self._open.append(measure)
                self.relative.append(row)

    def look(self, node: NodeInfo) -> Finding:
        """Ask everything about one node."""
        self._memory.looks += 1
        for row, check in self._checks:
            if why := check(node):
                return node.version, (row, why), 0.0, ()
        points = sum(row.weight * measure(node) for row, measure in self._fixed)
        return node.version, None, points, tuple(measure(node) for measure in self._open)
