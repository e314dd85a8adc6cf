"""The HorizontalPodAutoscaler loop."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from edgekube.api.errors import StatusError
from edgekube.api.kinds import autoscaling_v2 as autoscaling
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, Resource, key_of
from edgekube.api.selectors import parse_labels
from edgekube.api.types import autoscaling_v1 as v1
from edgekube.api.types import autoscaling_v2 as v2
from edgekube.api.types import core_v1
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.autoscale.plan import Memory, Plan, failed, plan, scaled
from edgekube.controllers.autoscale.readings import Readings, Subject
from edgekube.controllers.context import Context

PERIOD = 15.0
"""Seconds between two looks at the metrics (--horizontal-pod-autoscaler-sync-period)."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last look at an autoscaler (Unix seconds), and what to remember of it."""

    uid: str = ""
    generation: int | None = None
    time: float = 0.0
    memory: Memory = field(default_factory=Memory)


class Autoscalers:
    """Size each target by its metrics."""

    def __init__(self, context: Context) -> None:
        self.autoscalers = context.informers.of(autoscaling.HORIZONTAL_POD_AUTOSCALERS)
        self._client, self._scheme = context.client, context.options.scheme
        self._pods = Index(context.informers.of(core.PODS), lambda pod: [pod.metadata.namespace])
        self._writer = Writer(context.client, self.autoscalers)
        self._clock = context.clock
        self._events = context.events.recorder("horizontal-pod-autoscaler")
        self._readings = Readings(context.client, self._scheme)
        self._seen: dict[Key, _Seen] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Look at one target, once in a period however often its autoscaler changes."""
        owner = self.autoscalers.get(key)
        if owner is None or owner.metadata.deletion_timestamp:
            self._seen.pop(key, None)
            return None
        seen, now = self._seen.get(key, _Seen()), self._clock()
        same = (seen.uid, seen.generation) == (owner.metadata.uid, owner.metadata.generation)
        if same and 0 <= now - seen.time < PERIOD:
            return PERIOD - (now - seen.time)
        if seen.uid != owner.metadata.uid:
            seen = _Seen()
        self._seen[key] = _Seen(owner.metadata.uid, owner.metadata.generation, now, seen.memory)
        await self._look(owner)
        return PERIOD

    async def _look(self, owner: v2.HorizontalPodAutoscaler) -> None:
        about, namespace = owner.spec.scale_target_ref, owner.metadata.namespace
        row = self._scheme.by_kind(about.api_version or "v1", about.kind)
        if row is None:
            await self._failed(owner, f'no matches for kind "{about.kind}" in group "{about.api_version}"')
            return
        resource = dataclasses.replace(row, type=v1.Scale)
        try:
            scale = await self._client.get(resource, Key(namespace, about.name), subresource="scale")
        except StatusError as error:
            await self._failed(owner, str(error))
            return
        await self._size(owner, scale, resource)

    async def _failed(self, owner: v2.HorizontalPodAutoscaler, why: str) -> None:
        self._events.warning(owner, "FailedGetScale", why)
        text = f"the HPA controller was unable to get the target's current scale: {why}"
        await self._write(owner, failed(owner, self._clock(), "FailedGetScale", text))

    async def _size(
        self, owner: v2.HorizontalPodAutoscaler, scale: v1.Scale, row: Resource[v1.Scale]
    ) -> None:
        now, current = self._clock(), scale.spec.replicas or 0
        selector = scale.status.selector if scale.status else ""
        subject = Subject(
            owner, tuple(self._matching(owner.metadata.namespace, selector)), selector, current,
            scale.status.replicas if scale.status else 0, now,
        )  # fmt: skip
        low = 1 if owner.spec.min_replicas is None else owner.spec.min_replicas
        readings = []
        if low <= current <= owner.spec.max_replicas and current:
            readings = [await self._readings.read(subject, metric) for metric in owner.spec.metrics]
        key = key_of(owner)
        decided = plan(owner, current, readings, self._seen[key].memory, now)
        if decided.warning:
            self._events.warning(owner, *decided.warning)
        if decided.desired != current:
            decided = await self._scale(owner, scale, row, decided=decided, current=current)
        self._seen[key] = dataclasses.replace(self._seen[key], memory=decided.memory)
        await self._write(owner, decided.status)

    async def _scale(
        self,
        owner: v2.HorizontalPodAutoscaler,
        scale: v1.Scale,
        row: Resource[v1.Scale],
        *,
        decided: Plan,
        current: int,
    ) -> Plan:
        wanted = msgspec.structs.replace(scale, spec=v1.ScaleSpec(replicas=decided.desired))
        try:
            await self._client.update(row, wanted, subresource="scale")
        except StatusError as error:
            self._events.warning(owner, "FailedRescale", f"New size: {decided.desired}; reason: {decided.reason}; error: {error}")  # fmt: skip
            raise
        self._events.normal(
            owner, "SuccessfulRescale", f"New size: {decided.desired}; reason: {decided.reason}"
        )
        return scaled(decided, current, self._clock())

    def _matching(self, namespace: str, selector: str) -> Iterable[core_v1.Pod]:
        if not selector:
            return []
        wanted = parse_labels(selector)
        return [pod for pod in self._pods.of(namespace) if wanted.matches(pod.metadata.labels)]

    async def _write(
        self, owner: v2.HorizontalPodAutoscaler, status: v2.HorizontalPodAutoscalerStatus
    ) -> None:
        if status != owner.status:
            await self._writer.update(msgspec.structs.replace(owner, status=status), subresource="status")


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = Autoscalers(context)
    controller = Controller("horizontal-pod-autoscaler", logic)
    controller.watch(logic.autoscalers, lambda owner: [key_of(owner)])
    return controller
