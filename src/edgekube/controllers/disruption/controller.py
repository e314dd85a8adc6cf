"""The PodDisruptionBudget loop: keeps each budget's status, which evictions go by."""

from collections.abc import Iterable, Sequence

import msgspec

from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import policy_v1 as policy
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, policy_v1
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.selectors import matches
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.disruption.owners import Owners, UnknownScale, Wanted
from edgekube.controllers.disruption.plan import goal, needs_scale, plan, unknown

UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the "
    "status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these "
    'pods please set ".spec.minAvailable" field of the PDB to an integer value.'
)


class Disruption:
    """Keys are budgets."""

    def __init__(self, context: Context) -> None:
        self.budgets = context.informers.of(policy.POD_DISRUPTION_BUDGETS)
        self.pods = context.informers.of(core.PODS)
        self.owners = Owners(context)
        self._by_namespace = Index(self.pods, lambda pod: [pod.metadata.namespace])
        self._budgets = Index(self.budgets, lambda budget: [budget.metadata.namespace])
        self._writer = Writer(context.client, self.budgets)
        self._events = context.events.recorder("controllermanager")
        self._clock = context.clock

    def of_pod(self, pod: core_v1.Pod) -> Iterable[Key]:
        """Return the budgets that select a pod."""
        budgets = self._budgets.of(pod.metadata.namespace)
        return [key_of(b) for b in budgets if matches(b.spec.selector, pod.metadata.labels)]

    async def reconcile(self, key: Key) -> float | None:
        """Bring one status up to date."""
        budget = self.budgets.get(key)
        if budget is None or budget.metadata.deletion_timestamp:
            return None
        selector = budget.spec.selector
        pods = [p for p in self._by_namespace.of(key.namespace) if matches(selector, p.metadata.labels)]
        if not pods:
            self._events.normal(budget, "NoPods", "No matching pods found")
        try:
            wanted = await self._wanted(budget, pods)
        except UnknownScale as error:
            why = str(error)
            message = f"Failed to calculate the number of expected pods: {why}"
            self._events.warning(budget, "CalculateExpectedPodCountFailed", message)
            await self._write(budget, unknown(budget, why, now=self._clock()))
            return 60.0
        aim = goal(budget.spec, pods=len(pods), scale=wanted.scale)
        decided = plan(budget, pods, aim, now=self._clock())
        for pod in decided.late:
            message = f"Pod was expected by PDB {key.namespace}/{key.name} to be deleted but it wasn't"
            self._events.warning(pod, "NotDeleted", message)
        await self._write(budget, decided.status)
        return decided.again

    async def _wanted(self, budget: policy_v1.PodDisruptionBudget, pods: Sequence[core_v1.Pod]) -> Wanted:
        if not needs_scale(budget.spec):
            return Wanted(0, ())
        wanted = await self.owners.wanted(pods)
        if wanted.unmanaged:
            selector = msgspec.json.encode(budget.spec.selector).decode()
            self._events.warning(budget, "UnmanagedPods", UNMANAGED.format(selector=selector))
        return wanted

    async def _write(
        self, budget: policy_v1.PodDisruptionBudget, status: policy_v1.PodDisruptionBudgetStatus
    ) -> None:
        if status != budget.status:
            await self._writer.update(msgspec.structs.replace(budget, status=status), subresource="status")


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = Disruption(context)
    controller = Controller("disruption", logic)
    controller.watch(logic.budgets, lambda budget: [key_of(budget)])
    controller.watch(logic.pods, logic.of_pod)
    return controller
