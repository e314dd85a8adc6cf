"""The Job loop."""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from edgekube.api.errors import StatusError
from edgekube.api.kinds import batch_v1 as batch
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import batch_v1, core_v1
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.selectors import empty, matches
from edgekube.control.writer import Writer, metadata_patch
from edgekube.controllers.context import Context
from edgekube.controllers.job.plan import Plan, Wanted, plan
from edgekube.controllers.job.pods import TRACKING, new_pod, tracked
from edgekube.controllers.job.verdict import COMPLETE, FAILED, ended
from edgekube.controllers.ownership import controller_of, owner_keys, owner_or_namespace, take

KIND = "Job"
WORKERS = 4
MANAGED_BY = "kubernetes.io/job-controller"


class Jobs:
    """Run each Job's pods to their end."""

    def __init__(self, context: Context) -> None:
        self.jobs = context.informers.of(batch.JOBS)
        self.pods = context.informers.of(core.PODS)
        self._writer = Writer(context.client, self.jobs)
        self._pod_writer = Writer(context.client, self.pods)
        self._clock = context.clock
        self._events = context.events.recorder("job-controller")
        self._by_owner = Index(self.pods, owner_or_namespace)
        self._in_namespace = Index(self.jobs, lambda job: [job.metadata.namespace])
        self._by_job = Index(self.pods, _job_key)

    def keys_of_pod(self, pod: core_v1.Pod) -> Iterable[Key]:
        """Return the Jobs a pod matters to."""
        if controller_of(pod) is not None:
            return _job_key(pod)
        namesakes = self._in_namespace.of(pod.metadata.namespace)
        return [key_of(job) for job in namesakes if matches(job.spec.selector, pod.metadata.labels)]

    async def reconcile(self, key: Key) -> float | None:
        """Bring one Job nearer to its end."""
        job = self.jobs.get(key)
        await self._free_orphans(key, job)
        if job is None or job.spec.managed_by not in {"", MANAGED_BY}:
            return None
        selector = job.spec.selector
        if selector is None or empty(selector):
            return None
        candidates = (*self._by_owner.of(job.metadata.uid), *self._by_owner.of(job.metadata.namespace))
        pods = await take(job, selector, candidates, owners=self._writer, objects=self._pod_writer)
        decided = plan(job, pods, self._clock())
        await self._write(job, decided.status)
        for pod in decided.release:
            await self._release(pod)
        await self._manage(job, decided)
        return decided.again

    async def _free_orphans(self, key: Key, job: batch_v1.Job | None) -> None:
        """Let pods of a Job that is gone go as well: nobody will count them."""
        for pod in self._by_job.of(key):
            reference = controller_of(pod)
            if tracked(pod) and reference and (job is None or job.metadata.uid != reference.uid):
                live = await self._writer.live(key)
                if live is None or live.metadata.uid != reference.uid:
                    await self._release(pod)

    async def _manage(self, job: batch_v1.Job, decided: Plan) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for pod in decided.withdraw:
                    group.create_task(self._withdraw(job, pod))
                for pod in decided.delete:
                    group.create_task(self._delete(job, pod))
            await self._create_all(job, decided.create)
        except ExceptionGroup as group_error:
            error = group_error.exceptions[0]
            if isinstance(error, StatusError):
                self._events.warning(job, "FailedCreate", f"Error creating: {error}")
            raise error from group_error

    async def _create_all(self, job: batch_v1.Job, wanted: Sequence[Wanted]) -> None:
        batch_size, left = 1, list(wanted)
        while left:
            # Doubling batches: a template the API refuses costs one refusal, not hundreds.
            now, left = left[:batch_size], left[batch_size:]
            async with asyncio.TaskGroup() as group:
                for one in now:
                    group.create_task(self._create(job, one))
            batch_size *= 2

    async def _create(self, job: batch_v1.Job, wanted: Wanted) -> None:
        pod = await self._pod_writer.create(new_pod(job, wanted.index, failures=wanted.failures))
        self._events.normal(job, "SuccessfulCreate", f"Created pod: {pod.metadata.name}")

    async def _withdraw(self, job: batch_v1.Job, pod: core_v1.Pod) -> None:
        await self._release(pod)
        await self._delete(job, pod)

    async def _delete(self, job: batch_v1.Job, pod: core_v1.Pod) -> None:
        if await self._pod_writer.delete(pod):
            self._events.normal(job, "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")

    async def _release(self, pod: core_v1.Pod) -> None:
        if not tracked(pod):
            return
        left = [finalizer for finalizer in pod.metadata.finalizers if finalizer != TRACKING]
        patch = metadata_patch(
            pod.metadata.uid, finalizers=left, resourceVersion=pod.metadata.resource_version
        )
        await self._pod_writer.patch(key_of(pod), patch)

    async def _write(self, job: batch_v1.Job, status: batch_v1.JobStatus) -> None:
        if status == job.status:
            return
        await self._writer.update(msgspec.structs.replace(job, status=status), subresource="status")
        if not ended(status):
            return
        for condition in status.conditions:
            if condition.type == COMPLETE:
                self._events.normal(job, "Completed", "Job completed")
            elif condition.type == FAILED:
                self._events.warning(job, condition.reason, condition.message)


def _job_key(pod: core_v1.Pod) -> Iterable[Key]:
    return owner_keys(pod, KIND)


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = Jobs(context)
    controller = Controller("job", logic, workers=WORKERS)
    controller.watch(logic.jobs, lambda job: [key_of(job)])
    controller.watch(logic.pods, logic.keys_of_pod)
    return controller
