"""Delete Jobs so many seconds after they ended (pkg/controller/ttlafterfinished in Kubernetes)."""

from edgekube.api.kinds import batch_v1 as batch
from edgekube.api.resource import Key, key_of
from edgekube.api.types import batch_v1
from edgekube.control.clock import seconds
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context

ENDED = frozenset({"Complete", "Failed"})


def expires(job: batch_v1.Job) -> float | None:
    """Return when (Unix seconds) the Job goes, None while it runs or when it stays."""
    ttl = job.spec.ttl_seconds_after_finished
    if ttl is None or job.metadata.deletion_timestamp:
        return None
    for condition in job.status.conditions:
        if condition.type in ENDED and condition.status == "True":
            return seconds(condition.last_transition_time) + ttl
    return None


class JobTtl:
    """Delete what has expired."""

    def __init__(self, context: Context) -> None:
        self.jobs = context.informers.of(batch.JOBS)
        self._writer = Writer(context.client, self.jobs)
        self._clock = context.clock

    async def reconcile(self, key: Key) -> float | None:
        """Wait for one Job's time, then delete it with its pods."""
        job = self.jobs.get(key)
        due = None if job is None else expires(job)
        if job is None or due is None:
            return None
        if due <= self._clock():
            # The TTL may just have been raised: what counts is what the API has.
            job = await self._writer.live(key)
            due = None if job is None else expires(job)
            if job is None or due is None:
                return None
            if due <= self._clock():
                await self._writer.delete(job, propagation="Foreground")
                return None
        return due - self._clock()


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = JobTtl(context)
    controller = Controller("ttl-after-finished", logic)
    controller.watch(logic.jobs, lambda job: [key_of(job)] if expires(job) is not None else [])
    return controller
