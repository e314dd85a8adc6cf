"""Jobs and CronJobs (pkg/apis/batch/v1)."""

from edgekube.api.defaults import pod
from edgekube.api.defaults.fill import Tree, fill, fill_empty, items

_JOB = {"completionMode": "NonIndexed", "suspend": False, "manualSelector": False}
_CRON_JOB = {
    "concurrencyPolicy": "Allow", "suspend": False, "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
}  # fmt: skip
_BACKOFF, _NO_BACKOFF_LIMIT = 6, 2**31 - 1


def job(tree: Tree) -> None:
    """Fill a Job; one without labels gets its template's."""
    spec = tree.setdefault("spec", {})
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    fill(spec, {"parallelism": 1, **_JOB})
    # With a limit of its own for each index the whole Job has none.
    fill(spec, {"backoffLimit": _NO_BACKOFF_LIMIT if "backoffLimitPerIndex" in spec else _BACKOFF})
    _failure_policy(spec)
    template = spec.setdefault("template", {})
    pod.template(template)
    labels = template["metadata"].get("labels")
    if labels and not tree.setdefault("metadata", {}).get("labels"):
        tree["metadata"]["labels"] = dict(labels)


def cron_job(tree: Tree) -> None:
    """Fill a CronJob; the Jobs it makes are filled when they are made, their pods' spec already here."""
    spec = tree.setdefault("spec", {})
    fill_empty(spec, {"concurrencyPolicy": _CRON_JOB["concurrencyPolicy"]})
    fill(spec, _CRON_JOB)
    made = spec.setdefault("jobTemplate", {})
    made.setdefault("metadata", {})
    pod.template(made.setdefault("spec", {}).setdefault("template", {}))
    _on_conditions(made["spec"])


def _failure_policy(spec: Tree) -> None:
    _on_conditions(spec)
    by_default = "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed"
    fill(spec, {"podReplacementPolicy": by_default})


def _on_conditions(spec: Tree) -> None:
    for rule in items(spec.get("podFailurePolicy", {}), "rules"):
        for pattern in items(rule, "onPodConditions"):
            fill_empty(pattern, {"status": "True"})
