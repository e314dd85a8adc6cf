"""Jobs (pkg/apis/batch/validation)."""

from typing import Any

from edgekube.api import cron
from edgekube.api.validation import names, pod_failure, workload
from edgekube.api.validation.label_selector import label_selector, matches
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
INDEXED = "Indexed"
MOST_INDEXED = 100_000
CRON_NAME_LENGTH = 52
_EXPLICIT_ZONE = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
MANY_COMPLETIONS, MOST_PARALLEL_THEN, MOST_FAILED_THEN = 100_000, 10_000, 10_000
_NUMBERS = (
    "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "backoffLimitPerIndex", "maxFailedIndexes",
    "ttlSecondsAfterFinished",
)  # fmt: skip
_FROZEN = (
    "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy", "selector",
)  # fmt: skip
_RESTARTS = ("Never", "OnFailure")
_UID, _NAME = "controller-uid", "job-name"
_PREFIX = "batch.kubernetes.io/"
_WHILE_SUSPENDED = ("nodeSelector", "tolerations", "schedulingGates")


def job(tree: Tree, problems: Problems) -> None:
    """Check a Job."""
    spec = tree.get("spec", {})
    _generated(tree, problems)
    job_spec(spec, "spec", problems)
    chosen = spec.get("selector")
    template = spec.get("template", {}).get("metadata", {}).get("labels", {})
    if chosen is None:
        problems.required("spec.selector")
    else:
        label_selector(chosen, "spec.selector", problems)
        if not matches(chosen, template):
            problems.invalid(
                "spec.template.metadata.labels", template, "`selector` does not match template `labels`"
            )
    last = (spec.get("completions") or 0) - 1
    if spec.get("completionMode") == INDEXED and last >= 0:
        host = f"{tree.get('metadata', {}).get('name', '')}-{last}"
        for why in names.label(host):
            problems.invalid(
                "metadata.name", host, f"will not able to create pod with invalid DNS label: {host}: {why}"
            )


def job_spec(spec: Tree, path: str, problems: Problems) -> None:
    """Check a JobSpec, of a Job or of a CronJob's template; selectors are a Job's own affair."""
    for number in _NUMBERS:
        problems.at_least(spec, number, path)
    mode = spec.get("completionMode")
    if mode is not None:
        problems.one_of(spec, "completionMode", path, supported=(INDEXED, "NonIndexed"))
    _indexes(spec, path, problems)
    if "managedBy" in spec:
        manager = spec["managedBy"]
        problems.each(f"{path}.managedBy", manager, names.domain_prefixed_path(manager))
        if len(manager) > 63:
            problems.too_long(f"{path}.managedBy", 63)
    pod_failure.failure_policy(spec, path, problems)
    pod_failure.success_policy(spec, path, problems)
    if spec.get("podReplacementPolicy") is not None:
        allowed = ("Failed",) if "podFailurePolicy" in spec else ("Failed", "TerminatingOrFailed")
        problems.one_of(spec, "podReplacementPolicy", path, supported=allowed)
    _template(spec, path, problems)


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change; a Job that is suspended and never ran may still be placed elsewhere."""
    spec, before = tree.get("spec", {}), old.get("spec", {})
    for field in _FROZEN:
        problems.unchanged(spec, before, field, "spec")
    _completions(spec, before, problems)
    template, had = spec.get("template", {}), before.get("template", {})
    if before.get("suspend") and not old.get("status", {}).get("startTime"):
        template, had = _movable(template), _movable(had)
    if template != had:
        problems.invalid("spec.template", spec.get("template"), "field is immutable")


def _completions(spec: Tree, before: Tree, problems: Problems) -> None:
    """An Indexed Job may grow and shrink, as long as it runs all its indexes at once."""
    wanted, had = spec.get("completions"), before.get("completions")
    if wanted == had:
        return
    if spec.get("completionMode") != INDEXED or wanted is None or had is None:
        problems.unchanged(spec, before, "completions", "spec")
    elif wanted != spec.get("parallelism"):
        problems.invalid(
            "spec.completions", wanted,
            f"can only be modified in tandem with spec.parallelism: {wanted} != {spec.get('parallelism')}",
        )  # fmt: skip


def _movable(template: Tree) -> Tree:
    """Return a template without what says where its pods go and how much they ask for."""
    meta, spec = dict(template.get("metadata", {})), dict(template.get("spec", {}))
    for field in ("labels", "annotations"):
        meta.pop(field, None)
    for field in _WHILE_SUSPENDED:
        spec.pop(field, None)
    affinity = {key: value for key, value in spec.pop("affinity", {}).items() if key != "nodeAffinity"}
    for field in ("containers", "initContainers"):
        if field in spec:
            spec[field] = [{k: v for k, v in one.items() if k != "resources"} for one in spec[field]]
    return {**template, "metadata": meta, "spec": spec | ({"affinity": affinity} if affinity else {})}


def _generated(tree: Tree, problems: Problems) -> None:
    """Check the labels and selector that the server made."""
    spec, meta = tree.get("spec", {}), tree.get("metadata", {})
    if spec.get("manualSelector") or spec.get("selector") is None:
        return
    labels = spec.get("template", {}).get("metadata", {}).get("labels", {})
    values = {_UID: meta.get("uid", ""), _NAME: meta.get("name", "")}
    expected = {f"{prefix}{name}": value for prefix in ("", _PREFIX) for name, value in values.items()}
    for key, value in expected.items():
        path = f"spec.template.metadata.labels[{key}]"
        if key not in labels:
            problems.required(path, f"must be '{value}'")
        elif labels[key] != value:
            problems.invalid(path, labels[key], f"must be '{value}'")
    if not matches(spec["selector"], expected):
        problems.invalid("spec.selector", spec["selector"], "`selector` not auto-generated")


def _indexes(spec: Tree, path: str, problems: Problems) -> None:
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    if spec.get("completionMode") == INDEXED:
        if completions is None:
            problems.required(f"{path}.completions", "when completion mode is Indexed")
        if parallelism > MOST_INDEXED:
            problems.invalid(
                f"{path}.parallelism", parallelism,
                f"must be less than or equal to {MOST_INDEXED} when completion mode is Indexed",
            )  # fmt: skip
        _failed_indexes(spec, path, problems)
    elif spec.get("backoffLimitPerIndex") is not None:
        problems.invalid(
            f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], "requires indexed completion mode"
        )
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        problems.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")


def _failed_indexes(spec: Tree, path: str, problems: Problems) -> None:
    completions, most = spec.get("completions"), spec.get("maxFailedIndexes")
    if most is not None and completions is not None and most > completions:
        problems.invalid(f"{path}.maxFailedIndexes", most, "must be less than or equal to completions")
    if spec.get("backoffLimitPerIndex") is None or (completions or 0) <= MANY_COMPLETIONS:
        return
    when = f"when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
    parallelism = spec.get("parallelism") or 0
    if parallelism > MOST_PARALLEL_THEN:
        problems.invalid(
            f"{path}.parallelism", parallelism, f"must be less than or equal to {MOST_PARALLEL_THEN} {when}"
        )
    if most is None:
        problems.required(f"{path}.maxFailedIndexes", f"must be specified {when}")
    elif most > MOST_FAILED_THEN:
        problems.invalid(
            f"{path}.maxFailedIndexes", most, f"must be less than or equal to {MOST_FAILED_THEN} {when}"
        )


def _template(spec: Tree, path: str, problems: Problems) -> None:
    template = spec.get("template", {})
    workload.pod_template(template, f"{path}.template", problems)
    policy = template.get("spec", {}).get("restartPolicy")
    here = f"{path}.template.spec.restartPolicy"
    if policy not in _RESTARTS:
        if not policy or policy == "Always":
            problems.required(here, 'valid values: "OnFailure", "Never"')
        else:
            problems.unsupported(here, policy, ("OnFailure", "Never"))
    elif "podFailurePolicy" in spec and policy != "Never":
        problems.invalid(here, policy, 'only "Never" is supported when podFailurePolicy is specified')


def cron_job(tree: Tree, problems: Problems) -> None:
    """Check a CronJob; the Job's name needs room for the time of the run (eleven characters)."""
    spec = tree.get("spec", {})
    name = tree.get("metadata", {}).get("name", "")
    if len(name) > CRON_NAME_LENGTH:
        problems.invalid("metadata.name", name, f"must be no more than {CRON_NAME_LENGTH} characters")
    _schedule(spec, problems)
    for number in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        problems.at_least(spec, number, "spec")
    problems.one_of(spec, "concurrencyPolicy", "spec", supported=("Allow", "Forbid", "Replace"))
    inner, path = spec.get("jobTemplate", {}).get("spec", {}), "spec.jobTemplate.spec"
    if inner.get("manualSelector"):
        problems.unsupported(f"{path}.manualSelector", inner["manualSelector"], ("nil", "false"))
    if "selector" in inner:
        problems.invalid(f"{path}.selector", inner["selector"], "`selector` will be auto-generated")
    job_spec(inner, path, problems)


def _schedule(spec: Tree, problems: Problems) -> None:
    text, zone = spec.get("schedule", ""), spec.get("timeZone")
    if not text:
        problems.required("spec.schedule")
    elif "TZ" in text:
        problems.invalid(
            "spec.schedule", text, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        )
    else:
        _cron("spec.schedule", text, "", problems=problems)
    if zone == "":
        problems.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")
    elif zone is not None and zone.lower() == "local":
        problems.invalid("spec.timeZone", zone, _EXPLICIT_ZONE)
    elif zone is not None:
        _cron("spec.timeZone", "@daily", zone, problems=problems)


def _cron(path: str, text: str, zone: str, *, problems: Problems) -> None:
    try:
        cron.parse(text, zone)
    except cron.CronError as error:
        problems.invalid(path, zone or text, str(error))
