"""Rows of the batch group."""

from edgekube.api.resource import Resource
from edgekube.api.types import batch_v1 as t

JOBS = Resource("batch", "v1", "Job", "jobs", t.Job, categories=("all",), subresources=("status",))
CRON_JOBS = Resource(
    "batch", "v1", "CronJob", "cronjobs", t.CronJob, short_names=("cj",), categories=("all",),
    subresources=("status",),
)  # fmt: skip

RESOURCES = (JOBS, CRON_JOBS)
