"""CronJobs: the clock, and what a night without power owes."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_a_missed_run_and_its_end(k):
    k("create", "cronjob", "tick", f"--image={IMAGE}", "--schedule=* * * * *", "--", "true")
    # As if the machine had been without power for a night: one run is owed, and only one.
    k(
        "patch",
        "cronjob",
        "tick",
        "--subresource=status",
        "--type=merge",
        "-p",
        '{"status":{"lastScheduleTime":"2020-01-01T00:00:00Z"}}',
    )

    def made():
        return k("get", "jobs", "-o", "name").count("job.batch/tick-")

    eventually(lambda: made() >= 1, "the missed run starts")
    assert made() <= 2
    k("delete", "cronjob", "tick")
    eventually(lambda: made() == 0, "its jobs go with it")
