"""Looks at what is left, frees what can be freed, and evicts pods one at a time until there is enough."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.board.base import Board
from edgekube.control.mirror import NodeEvent
from edgekube.control.taints import tolerates
from edgekube.lib.errors import EdgekubeError
from edgekube.node.admission import rejected
from edgekube.node.eviction import plan
from edgekube.node.eviction.rank import (
    PodUse,
    has_limits,
    is_critical,
    limits_layers,
    message,
    overdrawn,
    rank,
)
from edgekube.node.eviction.settings import DISK, MEMORY, Threshold
from edgekube.node.eviction.signals import Meter, observations
from edgekube.node.host import Host
from edgekube.node.pod.spec import qos_class
from edgekube.node.pod.state import Doom

log = logging.getLogger(__name__)

EVICTED = "Evicted"
MEASURE_LIMITS = 60.0
"""Seconds between two measurements of pods with limits on local storage."""
PATIENCE = 30.0
"""Seconds an evicted pod's containers may take to end before the next is looked for."""
POLL = 0.5
HARD_GRACE = 1.0
MEMORY_TAINT = core_v1.Taint(key="node.kubernetes.io/memory-pressure", effect="NoSchedule")


class Victim(Protocol):
    """A pod's worker, as far as evictions go."""

    pod: core_v1.Pod

    @property
    def active(self) -> bool:
        """Whether it runs, or is to."""
        ...

    @property
    def settled(self) -> bool:
        """Whether it has ended and given back its disk."""
        ...

    def doom(self, doom: Doom) -> None:
        """End it."""
        ...


Pods = Callable[[], Iterable[Victim]]
Reclaim = Callable[[], Awaitable[None]]


class Evictor:
    """
    The eviction manager. `pods()` are the node's; each of `reclaim` frees disk space.

    `changed` is called when a condition came or went.
    """

    def __init__(
        self, host: Host, board: Board, pods: Pods, *, reclaim: Iterable[Reclaim], changed: Callable[[], None]
    ) -> None:  # fmt: skip
        self._host, self._board, self._pods = host, board, pods
        self._reclaim, self._changed = tuple(reclaim), changed
        self._settings = host.config.eviction
        self._thresholds = self._settings.thresholds()
        self._meter = Meter(host)
        self._state = plan.State()
        self._limits_at = 0.0
        self._helpless = False
        """Whether it was told that nobody can be evicted: once is enough."""

    @property
    def conditions(self) -> frozenset[str]:
        """The pressure conditions that are true: MemoryPressure, DiskPressure, PIDPressure."""
        return self._state.conditions

    def refuses(self, pod: core_v1.Pod) -> Doom | None:
        """Return why a pod may not begin here now; None when it may."""
        pressures = self.conditions
        if not pressures or is_critical(pod):
            return None
        if pressures == {MEMORY} and (
            qos_class(pod) != "BestEffort" or any(tolerates(t, MEMORY_TAINT) for t in pod.spec.tolerations)
        ):
            return None
        names = " ".join(sorted(pressures))
        return rejected(EVICTED, f"The node had condition: [{names}]. ")

    async def run(self) -> None:
        """Look until cancelled."""
        await self._host.containers.synced.wait()
        while True:
            wait = self._settings.period
            try:
                wait = await self._look()
            except (EdgekubeError, OSError) as error:
                log.warning("eviction: %s", error)
            await asyncio.sleep(wait)

    async def _look(self) -> float:
        seen = self._observe()
        now = self._host.clock()
        if await self._enforce_limits(now):
            return POLL
        if not self._state.met:
            self._helpless = False
        elif await self._act(self._state.met[0]):
            return POLL
        return plan.next_look(self._state, self._thresholds, seen, now=now, period=self._settings.period)

    def _observe(self) -> plan.Observations:
        """Look at the board and take over what follows from it."""
        seen = observations(self._board.usage(), memory=self._host.facts.memory)
        before = self._state
        self._state = plan.look(
            before, self._thresholds, seen, now=self._host.clock(), transition=self._settings.transition
        )
        if before.conditions != self._state.conditions:
            short = ", ".join(f"{t.signal} {seen[t.signal].available}" for t in self._state.first)
            log.warning("pressures: %s", f"{' '.join(sorted(self._state.conditions)) or 'none'} ({short})")
            self._changed()
        return seen

    async def _act(self, threshold: Threshold) -> bool:
        """Free space, or evict one pod; False when nothing could be done."""
        resource = threshold.resource
        self._tell("EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if self._may_free(threshold) and await self._free():
            return False
        seen = self._observe()
        if threshold not in self._state.met:
            return False
        victims = {v.pod.metadata.uid: v for v in self._pods() if v.active and not is_critical(v.pod)}
        uses = await self._meter.measure([v.pod for v in victims.values()], disk=threshold.condition == DISK)
        if not uses:
            if not self._helpless:
                log.error("%s is short, and no pod may be evicted", resource)
            self._helpless = True
            return False
        use = rank(uses, resource)[0]
        grace = HARD_GRACE if threshold.grace is None else max(self._settings.max_pod_grace, HARD_GRACE)
        text = message(threshold, seen[threshold.signal], use)
        await self._evict(victims[use.pod.metadata.uid], text, grace)
        return True

    def _may_free(self, threshold: Threshold) -> bool:
        """Tell whether images and dead containers lie on the disk that is short."""
        apart = self._board.usage().image_disk_capacity > 0
        return threshold.condition == DISK and (not apart or threshold.signal.startswith("imagefs."))

    async def _free(self) -> bool:
        """Remove what nobody uses; True when that was enough."""
        for reclaim in self._reclaim:
            try:
                await reclaim()
            except (EdgekubeError, OSError) as error:
                log.warning("freeing space: %s", error)
            self._observe()
            if not any(threshold.condition == DISK for threshold in self._state.met):
                return True
        return False

    async def _evict(self, victim: Victim, text: str, grace: float) -> None:
        pod = victim.pod
        log.warning("evicting pod %s/%s: %s", pod.metadata.namespace, pod.metadata.name, text)
        self._host.event(pod, EVICTED, text, warning=True)
        victim.doom(Doom(reason=EVICTED, message=text, grace=grace, disrupted=True))
        for _ in range(int((PATIENCE + grace) / POLL)):
            if victim.settled:
                return
            await asyncio.sleep(POLL)

    async def _enforce_limits(self, now: float) -> bool:
        """Evict pods over their own limits on local storage; True when some were."""
        if now - self._limits_at < MEASURE_LIMITS:
            return False
        limited = {v.pod.metadata.uid: v for v in self._pods() if v.active and has_limits(v.pod)}
        self._limits_at = now
        if not limited:
            return False
        pods = [v.pod for v in limited.values()]
        uses: list[PodUse] = await self._meter.measure(
            pods, disk=True, layers_too=any(map(limits_layers, pods))
        )
        over = [(use, text) for use in uses if (text := overdrawn(use)) and not is_critical(use.pod)]
        for use, text in over:
            await self._evict(limited[use.pod.metadata.uid], text, HARD_GRACE)
        return bool(over)

    def _tell(self, reason: str, text: str) -> None:
        name = self._host.config.node_name
        self._host.reporter.event(
            NodeEvent(
                path="v1/nodes", key=Key("", name), uid=name, type="Warning", reason=reason, message=text
            )
        )
