"""
One pod's worker: look, plan, report, do; then sleep until something changes.

It owns no state that matters: what it remembers only saves work and words.
"""

import asyncio
import logging

from edgekube.api.resource import key_of
from edgekube.api.types import core_v1
from edgekube.lib.backoff import Backoff
from edgekube.lib.errors import EdgekubeError
from edgekube.node.aio import unless
from edgekube.node.folders import PodFolder
from edgekube.node.host import Host
from edgekube.node.labels import CONTAINER_NAME
from edgekube.node.pod.allocation import Room, wished
from edgekube.node.pod.messages import termination_message
from edgekube.node.pod.plan import TERMINAL_PHASES, plan
from edgekube.node.pod.resize import IN_PROGRESS, report
from edgekube.node.pod.spec import container_named, full_name, grace_of
from edgekube.node.pod.state import Doom, EnsureImage, Finish, Memory, Observed, Plan, RunContainer, Step
from edgekube.node.pod.steps import Steps
from edgekube.node.pod.view import View, views
from edgekube.node.probes.check import Answer, Target
from edgekube.node.probes.prober import ProbeKey, Wish
from edgekube.node.probes.state import UNKNOWN, Health, ProbeKind, judge
from edgekube.runtime.base import Phase

log = logging.getLogger(__name__)

ENOUGH = 200
"""Rounds without a pause after which a plan that never ends is taken for a defect."""


class PodWorker:
    """Keeps one pod as its spec says until it is gone."""

    def __init__(self, host: Host, pod: core_v1.Pod) -> None:
        self.pod = pod
        self.finished = False
        self.memory = Memory()
        self._host = host
        self._steps = Steps(host, self.memory)
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._backoff = Backoff[str](first=0.5, limit=60.0)
        self._reported: core_v1.PodStatus | None = None
        self._told: set[tuple[str, str]] = set()
        self._recall()
        infos = host.containers.of_pod(pod.metadata.uid)
        self.memory.granted = host.allocations.load(pod, infos)
        self.update(pod)

    def _recall(self) -> None:
        """Take up what was known before the agent was restarted, lest ready pods leave their services."""
        status = self._host.recall.load(self.pod.metadata.uid)
        if status is None:
            return
        self.memory.status = status
        self.memory.final = status.phase in TERMINAL_PHASES
        if status.reason and not self.memory.final:
            # The node was ending it. Only then has a pod that has not ended a reason.
            disrupted = any(condition.type == "DisruptionTarget" for condition in status.conditions)
            self.doom(Doom(reason=status.reason, message=status.message, disrupted=disrupted))
        for container in (*status.init_container_statuses, *status.container_statuses):
            if container.started or container.ready:
                identity = container.container_id.partition("://")[2]
                known = Health(started=container.started or None, ready=container.ready or None)
                self.memory.health[identity] = known

    def update(self, pod: core_v1.Pod) -> None:
        """Take the pod's new form."""
        before, self.pod = self.pod, pod
        if self.memory.removed and not self.finished:
            # It was only away for a moment, as when the mirror is filled anew.
            self.memory.removed = False
            if not pod.metadata.deletion_timestamp:
                self._ending.clear()
        if before.spec != pod.spec:
            self.memory.failures.clear()
            self.memory.resize = None
        if (before.metadata.labels, before.metadata.annotations) != (
            pod.metadata.labels,
            pod.metadata.annotations,
        ):
            self.memory.volumes_stale = True
        if pod.metadata.deletion_timestamp:
            if self._ending.is_set() and grace_of(pod) < grace_of(before):
                self._steps.hurry.set()
            self._ending.set()
        self.wake()

    def remove(self) -> None:
        """The pod was deleted behind our back: end it."""
        self.memory.removed = True
        self._ending.set()
        self.wake()

    @property
    def active(self) -> bool:
        """Whether the pod runs, or is to."""
        return not (self.finished or self.memory.final or self.memory.removed)

    @property
    def settled(self) -> bool:
        """Whether the pod has ended and given back its disk."""
        return self.finished or (self.memory.final and self.memory.volumes_removed)

    def doom(self, doom: Doom) -> None:
        """End the pod for a reason of the node's own; harmless when it has ended, or is about to."""
        if self.active and self.memory.doom is None:
            self.memory.doom = doom
            if self._ending.is_set() and doom.grace is not None and doom.grace < grace_of(self.pod):
                self._steps.hurry.set()
            self._ending.set()
            self.wake()

    def sources_changed(self) -> None:
        """A ConfigMap or Secret the pod uses changed."""
        self.memory.volumes_stale = True
        self.memory.sandbox = None
        for name, failure in tuple(self.memory.failures.items()):
            if failure.reason == "CreateContainerConfigError":
                del self.memory.failures[name]
        self.wake()

    def retry_images(self) -> None:
        """New images came from an archive: do not wait for a back-off."""
        for name, failure in tuple(self.memory.failures.items()):
            if failure.reason.startswith("ErrImage"):
                del self.memory.failures[name]
        self.wake()

    def wake(self) -> None:
        """Look again soon."""
        self._wake.set()

    async def run(self) -> None:
        """Work until the pod is gone."""
        while not self.finished:
            await self._wake.wait()
            self._wake.clear()
            self._sleep(await self._guarded())
        self._host.prober.wish(self.pod.metadata.uid, {}, self._verdict)
        self._host.recall.forget(self.pod.metadata.uid)
        self._host.allocations.forget(self.pod.metadata.uid)
        self._sleep(None)

    async def _guarded(self) -> float | None:
        try:
            again = await self._look()
        except EdgekubeError as error:
            log.warning("pod %s: %s", full_name(self.pod), error)
            return self._backoff.next("pod")
        except Exception:
            # As in the control loop: one bad pod must not stop the others.
            log.exception("pod %s", full_name(self.pod))
            return self._backoff.next("pod")
        self._backoff.forget("pod")
        return again

    def _sleep(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.wake)

    async def _look(self) -> float | None:
        for _ in range(ENOUGH):
            observed = self._observe()
            todo = plan(self.pod, observed, self.memory, self._host.clock())
            self._tell(todo)
            self._probe(observed)
            if not todo.steps:
                return todo.again
            for step in todo.steps:
                ending = self._ending.is_set()
                if not await self._perform(step) or self._ending.is_set() != ending:
                    break
                if isinstance(step, Finish):
                    self.finished = True
                    return None
        raise EdgekubeError(f"no end of steps: {todo.steps}")

    async def _perform(self, step: Step) -> bool:
        """Do a step; pulling and postStart hooks are dropped when the pod is to end."""
        if not isinstance(step, EnsureImage | RunContainer) or self._ending.is_set():
            return await self._steps.perform(self.pod, step)
        done, _ = await unless(self._ending, self._steps.perform(self.pod, step))
        return bool(done)

    def _observe(self) -> Observed:
        host = self._host
        uid = self.pod.metadata.uid
        infos = host.containers.of_pod(uid)
        folder = PodFolder.of(host.config.pods_dir, self.pod)
        for info in infos:
            if info.phase is Phase.EXITED and info.id not in self.memory.messages:
                container = container_named(self.pod, info.labels.get(CONTAINER_NAME, ""))
                text = termination_message(folder, container, info) if container else ""
                self.memory.messages[info.id] = text
        return Observed(
            containers=infos,
            node_ip=host.config.node_ip,
            node_ip6=host.config.node_ip6,
            boot_id=host.facts.boot_id,
            network_ready=host.network is not None,
            room=self._room(),
        )

    def _room(self) -> Room | None:
        """Return what the node has for this pod; only looked at while it asks for something else than it has."""
        host, pod = self._host, self.pod
        if wished(pod) == self.memory.granted:
            return None
        return host.allocations.room(pod.metadata.uid, host.mirror.pods, host.allocatable())

    def _tell(self, todo: Plan) -> None:
        if _resizes(self.memory.status) and not _resizes(todo.status) and not todo.final:
            self._host.event(self.pod, "ResizeCompleted", f"Pod resize completed: {report(self.pod)}")
        self.memory.status = todo.status
        self.memory.final = self.memory.final or todo.final
        self._report(todo.status)
        for notice in todo.notices:
            if (notice.reason, notice.once) not in self._told:
                self._told.add((notice.reason, notice.once))
                warning = notice.type == "Warning"
                self._host.event(
                    self.pod, notice.reason, notice.message, warning=warning, container=notice.container
                )

    def _report(self, status: core_v1.PodStatus) -> None:
        """Report what is news; after a restart of the agent once, since a report may have been lost with it."""
        if status == self._reported or status is self.pod.status or self.memory.removed:
            return
        self._reported = status
        uid = self.pod.metadata.uid
        self._host.recall.keep(uid, status)
        self._host.reporter.pod_status(key_of(self.pod), uid, status)

    # --- probes ---

    def _probe(self, observed: Observed) -> None:
        wishes: dict[ProbeKey, Wish] = {}
        if not self.memory.final:
            for row in views(self.pod, observed, self.memory):
                wishes |= self._wishes(row)
        if self._ending.is_set():
            # Who still serves while the pod ends is asked on; nobody is started anew.
            wishes = {key: wish for key, wish in wishes.items() if key.kind is ProbeKind.READINESS}
        self._host.prober.wish(self.pod.metadata.uid, wishes, self._verdict)

    def _wishes(self, row: View) -> dict[ProbeKey, Wish]:
        info, container = row.current, row.container
        if info is None or not row.running:
            return {}
        probes = {
            ProbeKind.READINESS: container.readiness_probe,
            ProbeKind.LIVENESS: container.liveness_probe,
        }
        if container.startup_probe is not None and row.health.started is not True:
            probes = {ProbeKind.STARTUP: container.startup_probe}
        attachment = self.memory.attachment
        address = self._host.config.node_ip if attachment is None else attachment.address
        target = Target(container=container, id=info.id, address=address)
        return {
            ProbeKey(info.id, kind): Wish(probe=probe, target=target, since=info.started_at)
            for kind, probe in probes.items()
            if probe is not None
        }

    def _verdict(self, key: ProbeKey, answer: Answer, verdict: bool | None) -> None:  # noqa: FBT001 - a Verdict
        name = self._name_of(key.container)
        if not answer.success:
            text = f"{key.kind.title} probe failed: {answer.output}"
            self._host.event(self.pod, "Unhealthy", text, warning=True, container=name)
        if verdict is None:
            return
        message = f"Container {name} failed {key.kind.value} probe, will be restarted"
        known = self.memory.health.get(key.container, UNKNOWN)
        self.memory.health[key.container] = judge(known, key.kind, verdict=verdict, message=message)
        if self._ending.is_set():
            # The worker is busy stopping; whether the pod still serves is told meanwhile.
            self._tell(plan(self.pod, self._observe(), self.memory, self._host.clock()))
        self.wake()

    def _name_of(self, identity: str) -> str:
        infos = self._host.containers.of_pod(self.pod.metadata.uid)
        return next((info.labels.get(CONTAINER_NAME, "") for info in infos if info.id == identity), "")


def _resizes(status: core_v1.PodStatus | None) -> bool:
    """Tell whether a status says that a resize is under way."""
    return status is not None and any(condition.type == IN_PROGRESS for condition in status.conditions)
