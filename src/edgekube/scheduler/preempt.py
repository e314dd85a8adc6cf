"""Which less important pods have to go so that a pod gets a node (DefaultPreemption in kube-scheduler). Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgekube.api.resource import Key, key_of
from edgekube.api.types import policy_v1
from edgekube.control.clock import seconds
from edgekube.control.selectors import matches
from edgekube.scheduler.decide import Checks, Unfit, checks_of, refusal
from edgekube.scheduler.infos import NodeInfo, PodInfo, Snapshot
from edgekube.scheduler.plugins import Plugins

LEAST, SHARE = 100, 10
"""At least so many candidates are looked at, or one node in so many of a larger cluster."""
_BIAS = 2**31
"""Makes all priorities count as positive, so that more victims are never the lesser harm."""
WAITING = "not eligible due to a terminating pod on the nominated node."


@dataclass(frozen=True, slots=True)
class Preemption:
    """Take `victims` off `node`; `broken` of them against a disruption budget."""

    node: str
    victims: tuple[PodInfo, ...]
    broken: int


def waits(pod: PodInfo, snapshot: Snapshot) -> bool:
    """Tell whether pods are on their way out already to make room for this one."""
    name = pod.pod.status.nominated_node_name
    node = next((node for node in snapshot.nodes if node.name == name), None) if name else None
    return node is not None and any(
        other.priority < pod.priority and other.pod.metadata.deletion_timestamp
        for other in node.pods.values()
    )


def preempt(
    pod: PodInfo, snapshot: Snapshot, plugins: Plugins, *, candidates: Sequence[NodeInfo],
    budgets: Iterable[policy_v1.PodDisruptionBudget] = (),
) -> Preemption | None:  # fmt: skip
    """Return the least harm that lets `pod` run on one of `candidates`; None when nothing helps."""
    budgets, found = tuple(budgets), []
    limit = max(LEAST, len(snapshot.nodes) // SHARE)
    checks = checks_of(pod, snapshot, plugins)
    if isinstance(checks, Unfit):
        return None
    for node in candidates:
        harm = _victims(_Trial(pod, snapshot, plugins, checks), node, budgets)
        if harm is not None:
            found.append(harm)
            if len(found) >= limit:
                break
    return min(found, key=_harm, default=None)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Asks whether the pod would fit on a changed node."""

    pod: PodInfo
    snapshot: Snapshot
    plugins: Plugins
    checks: Checks

    def fits(self, node: NodeInfo) -> bool:
        checks = self.checks
        if any(row.crowd for row, _ in checks):
            crowd = self.snapshot.instead(node)
            anew = checks_of(self.pod, crowd, Plugins([row for row in self.plugins.filters if row.crowd], ()))
            if isinstance(anew, Unfit):
                return False
            checks = [*((row, check) for row, check in checks if not row.crowd), *anew]
        return refusal(self.pod, node, checks, self.snapshot) is None


def _victims(
    trial: _Trial, node: NodeInfo, budgets: Sequence[policy_v1.PodDisruptionBudget]
) -> Preemption | None:
    lesser = [other for other in node.pods.values() if other.priority < trial.pod.priority]
    if not lesser:
        return None
    left = node.changed(gone=[other.uid for other in lesser])
    if not trial.fits(left):
        return None
    lesser.sort(key=_importance)
    guarded = _breaking(lesser, budgets)
    victims: list[PodInfo] = []
    broken = 0
    # Spare whom one can: those under a budget first, then the most important.
    for other in sorted(lesser, key=lambda pod: pod.uid not in guarded):
        spared = left.changed(more=[other])
        if trial.fits(spared):
            left = spared
        else:
            victims.append(other)
            broken += other.uid in guarded
    return Preemption(node.name, tuple(sorted(victims, key=_importance)), broken) if victims else None


def _breaking(pods: Iterable[PodInfo], budgets: Sequence[policy_v1.PodDisruptionBudget]) -> frozenset[str]:
    """Return the uids of those whose going breaks a budget, the most important going first."""
    allowed: dict[Key, int] = {
        key_of(budget): (budget.status.disruptions_allowed or 0) if budget.status else 0 for budget in budgets
    }
    by_key: Mapping[Key, policy_v1.PodDisruptionBudget] = {key_of(budget): budget for budget in budgets}
    guarded = set()
    for pod in pods:
        for key, budget in by_key.items():
            disrupted = budget.status.disrupted_pods if budget.status else {}
            if key.namespace != pod.key.namespace or pod.key.name in disrupted:
                continue
            if budget.spec is None or not matches(budget.spec.selector, pod.labels):
                continue
            allowed[key] -= 1
            if allowed[key] < 0:
                guarded.add(pod.uid)
    return frozenset(guarded)


def _importance(pod: PodInfo) -> tuple[int, float]:
    """Order pods, the most important and longest running first."""
    return -pod.priority, _since(pod)


def _since(pod: PodInfo) -> float:
    return seconds(pod.pod.status.start_time or pod.pod.metadata.creation_timestamp)


def _harm(choice: Preemption) -> tuple[float, ...]:
    """Order choices: budgets broken, the highest priority, all priorities, how many, how long they ran."""
    highest = max(victim.priority for victim in choice.victims)
    oldest = min(_since(victim) for victim in choice.victims if victim.priority == highest)
    return (
        choice.broken,
        highest,
        sum(victim.priority + _BIAS for victim in choice.victims),
        len(choice.victims),
        -oldest,
    )
