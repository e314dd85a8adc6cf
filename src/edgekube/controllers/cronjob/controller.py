"""The CronJob loop."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from edgekube.api import cron
from edgekube.api.errors import AlreadyExists
from edgekube.api.kinds import batch_v1 as batch
from edgekube.api.resource import Key, key_of
from edgekube.api.types import batch_v1, meta_v1
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller, Terminal
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.cronjob.plan import WARNING, Plan, job_name, plan, started
from edgekube.controllers.ownership import controller_of, owned_by, owner_keys, owner_or_namespace

KIND = "CronJob"
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
WORKERS = 2


class CronJobs:
    """Start each CronJob's Jobs when their time has come."""

    def __init__(self, context: Context) -> None:
        self.cron_jobs = context.informers.of(batch.CRON_JOBS)
        self.jobs = context.informers.of(batch.JOBS)
        self._writer = Writer(context.client, self.cron_jobs)
        self._job_writer = Writer(context.client, self.jobs)
        self._clock = context.clock
        self._events = context.events.recorder("cronjob-controller")
        self._by_owner = Index(self.jobs, owner_or_namespace)

    async def reconcile(self, key: Key) -> float | None:
        """Start what is due, forget what has ended."""
        owner = self.cron_jobs.get(key)
        if owner is None:
            return None
        decided = plan(owner, self._by_owner.of(owner.metadata.uid), self._clock())
        for note in decided.notes:
            tell = self._events.warning if note.type == WARNING else self._events.normal
            tell(owner, note.reason, note.message)
        for job in (*decided.clean, *decided.stop):
            if await self._job_writer.delete(job, propagation="Background"):
                self._events.normal(owner, "SuccessfulDelete", f"Deleted job: {job.metadata.name}")
        await self._start(owner, decided)
        return decided.again

    async def _start(self, owner: batch_v1.CronJob, decided: Plan) -> None:
        status = decided.status
        if decided.start is not None:
            try:
                job = await self._job_writer.create(_job(owner, decided.start))
                self._events.normal(owner, "SuccessfulCreate", f"Created job: {job.metadata.name}")
            except AlreadyExists:
                # The cache is behind, or somebody took the name.
                name = Key(owner.metadata.namespace, job_name(owner, decided.start))
                found = await self._job_writer.live(name)
                if found is None or not _controls(owner, found):
                    raise
                job = found
            status = started(status, job, decided.start)
        if status != owner.status:
            await self._writer.update(msgspec.structs.replace(owner, status=status), subresource="status")


def _controls(owner: batch_v1.CronJob, job: batch_v1.Job) -> bool:
    reference = controller_of(job)
    return reference is not None and reference.uid == owner.metadata.uid


def _job(owner: batch_v1.CronJob, due: float) -> batch_v1.Job:
    template = owner.spec.job_template
    if template.spec is None:
        raise Terminal(f"{owner.metadata.name}: no spec.jobTemplate.spec")
    meta = template.metadata or meta_v1.ObjectMeta()
    zone = cron.parse(owner.spec.schedule, owner.spec.time_zone).zone
    when = datetime.fromtimestamp(due, zone).isoformat().replace("+00:00", "Z")
    return batch_v1.Job(
        metadata=meta_v1.ObjectMeta(
            name=job_name(owner, due), namespace=owner.metadata.namespace, labels=meta.labels,
            annotations={**meta.annotations, SCHEDULED: when}, owner_references=(owned_by(owner),),
        ),
        spec=template.spec,
    )  # fmt: skip


def _owner(job: batch_v1.Job) -> Iterable[Key]:
    return owner_keys(job, KIND)


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = CronJobs(context)
    controller = Controller("cronjob", logic, workers=WORKERS)
    controller.watch(logic.cron_jobs, lambda cron_job: [key_of(cron_job)])
    controller.watch(logic.jobs, _owner)
    return controller
