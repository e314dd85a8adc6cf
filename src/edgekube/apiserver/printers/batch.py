"""Jobs and CronJobs."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import (
    AGE,
    NONE,
    Printer,
    age,
    columns,
    containers,
    human,
    integer,
    label_selector,
    name,
    since,
    spec,
    status,
)  # fmt: skip
from edgekube.apiserver.registry.meta import parse
from edgekube.apiserver.request import Tree

WIDE = ("Containers", "Images", "Selector")
STATES = ("Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet")
"""The conditions that are a Job's status, the first that holds; without one it is running."""


def _holds(job: Tree, kind: str) -> bool:
    return any(c["type"] == kind and c.get("status") == "True" for c in status(job).get("conditions") or ())


def _state(job: Tree) -> str:
    for kind in ("Complete", "Failed"):
        if _holds(job, kind):
            return kind
    if "deletionTimestamp" in job["metadata"]:
        return "Terminating"
    return next((kind for kind in STATES[2:] if _holds(job, kind)), "Running")


def _completions(job: Tree) -> str:
    wanted, parallelism = spec(job).get("completions"), spec(job).get("parallelism") or 0
    done = status(job).get("succeeded", 0)
    if wanted is not None:
        return f"{done}/{wanted}"
    return f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"


def _duration(job: Tree, now: datetime) -> str:
    started, ended = status(job).get("startTime"), status(job).get("completionTime")
    if not started:
        return ""
    return human(((parse(ended) if ended else now) - parse(started)).total_seconds())


def job_cells(job: Tree, now: datetime) -> list[Any]:
    """Return a Job's cells."""
    names, images = containers((spec(job).get("template") or {}).get("spec") or {})
    return [
        name(job), _state(job), _completions(job), _duration(job, now), age(job, now), names, images,
        label_selector(spec(job).get("selector")),
    ]  # fmt: skip


def cron_job_cells(cron: Tree, now: datetime) -> list[Any]:
    """Return a CronJob's cells."""
    about, state = spec(cron), status(cron)
    made = (about.get("jobTemplate") or {}).get("spec") or {}
    last = since(state["lastScheduleTime"], now) if state.get("lastScheduleTime") else NONE
    return [
        name(cron), about.get("schedule", ""), about.get("timeZone") or NONE,
        "True" if about.get("suspend") else "False", len(state.get("active") or ()), last, age(cron, now),
        *containers((made.get("template") or {}).get("spec") or {}), label_selector(made.get("selector")),
    ]  # fmt: skip


PRINTERS = {
    "jobs.batch": Printer(columns("Status", "Completions", "Duration", AGE, wide=WIDE), job_cells),
    "cronjobs.batch": Printer(
        columns("Schedule", "Timezone", "Suspend", integer("Active"), "Last Schedule", AGE, wide=WIDE),
        cron_job_cells,
    ),
}
