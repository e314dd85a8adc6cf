"""When a Job fails or succeeds before its time: pod failure policies (KEP-3329) and success policies (KEP-3998)."""

import re
from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
MOST_RULES, MOST_SUCCESS_RULES = 20, 20
MOST_CODES, MOST_PATTERNS = 255, 20
INDEXES_LENGTH = 64 * 1024
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_STATES = ("False", "True", "Unknown")
_INTERVAL = re.compile(r"([0-9]+)(?:-([0-9]+))?", re.ASCII)


def failure_policy(spec: Tree, path: str, problems: Problems) -> None:
    """Check a JobSpec's podFailurePolicy."""
    if "podFailurePolicy" not in spec:
        return
    here = f"{path}.podFailurePolicy.rules"
    rules = spec["podFailurePolicy"].get("rules", ())
    if len(rules) > MOST_RULES:
        problems.too_many(here, len(rules), MOST_RULES)
    inner = spec.get("template", {}).get("spec", {})
    containers = {
        one.get("name") for field in ("containers", "initContainers") for one in inner.get(field, ())
    }
    for index, rule in enumerate(rules):
        _rule(rule, f"{here}[{index}]", problems, containers=containers)
        if rule.get("action") == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            problems.invalid(
                f"{here}[{index}].action", "FailIndex", "requires the backoffLimitPerIndex to be set"
            )


def success_policy(spec: Tree, path: str, problems: Problems) -> None:
    """Check a JobSpec's successPolicy."""
    if "successPolicy" not in spec:
        return
    if spec.get("completionMode") != "Indexed":
        problems.invalid(f"{path}.successPolicy", spec["successPolicy"], "requires indexed completion mode")
        return
    here = f"{path}.successPolicy.rules"
    rules = spec["successPolicy"].get("rules", ())
    if not rules:
        problems.required(here, "at least one rules must be specified when the successPolicy is specified")
    if len(rules) > MOST_SUCCESS_RULES:
        problems.too_many(here, len(rules), MOST_SUCCESS_RULES)
    for index, rule in enumerate(rules):
        _success_rule(rule, spec.get("completions") or 0, f"{here}[{index}]", problems=problems)


def _rule(rule: Tree, path: str, problems: Problems, *, containers: set[Any]) -> None:
    problems.one_of(rule, "action", path, supported=_ACTIONS)
    codes, patterns = rule.get("onExitCodes"), rule.get("onPodConditions", ())
    if codes is not None:
        _exit_codes(codes, f"{path}.onExitCodes", problems, containers=containers)
    if len(patterns) > MOST_PATTERNS:
        problems.too_many(f"{path}.onPodConditions", len(patterns), MOST_PATTERNS)
    for index, pattern in enumerate(patterns):
        here = f"{path}.onPodConditions[{index}]"
        problems.each(f"{here}.type", pattern.get("type", ""), names.qualified(pattern.get("type", "")))
        problems.one_of(pattern, "status", here, supported=_STATES)
    if codes is not None and patterns:
        problems.invalid(path, rule, "specifying both OnExitCodes and OnPodConditions is not supported")
    if codes is None and not patterns:
        problems.invalid(path, rule, "specifying one of OnExitCodes and OnPodConditions is required")


def _exit_codes(codes: Tree, path: str, problems: Problems, *, containers: set[Any]) -> None:
    problems.one_of(codes, "operator", path, supported=("In", "NotIn"))
    name = codes.get("containerName")
    if name is not None and name not in containers:
        problems.invalid(
            f"{path}.containerName",
            name,
            "must be one of the container or initContainer names in the pod template",
        )
    values = codes.get("values", ())
    if not values:
        problems.invalid(f"{path}.values", list(values), "at least one value is required")
    elif len(values) > MOST_CODES:
        problems.too_many(f"{path}.values", len(values), MOST_CODES)
    for index, value in enumerate(values):
        here = f"{path}.values[{index}]"
        if codes.get("operator") == "In" and value == 0:
            problems.invalid(here, value, "must not be 0 for the In operator")
        if value in values[:index]:
            problems.duplicate(here, value)
        elif index and value < values[index - 1]:
            problems.invalid(f"{path}.values", values, "must be ordered")


def _success_rule(rule: Tree, completions: int, path: str, *, problems: Problems) -> None:
    count, text = rule.get("succeededCount"), rule.get("succeededIndexes")
    if count is None and text is None:
        problems.required(path, "at least one of succeededCount or succeededIndexes must be specified")
    total = completions
    if text is not None:
        if len(text) > INDEXES_LENGTH:
            problems.too_long(f"{path}.succeededIndexes", INDEXES_LENGTH)
        found = _indexes(text, completions)
        if isinstance(found, str):
            problems.invalid(f"{path}.succeededIndexes", text, f"error parsing succeededIndexes: {found}")
            return
        total = found
    if count is None:
        return
    if count < 1:
        problems.at_least(rule, "succeededCount", path, least=1)
    elif count > completions:
        problems.invalid(
            f"{path}.succeededCount",
            count,
            f"must be less than or equal to {completions} (the number of specified completions)",
        )
    elif count > total:
        problems.invalid(
            f"{path}.succeededCount", count,
            f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)",
        )  # fmt: skip


def _indexes(text: str, completions: int) -> int | str:
    """Return how many indexes `0,2-4` names, or what is wrong with it."""
    total, last = 0, -1
    for part in text.split(",") if text else ():
        match = _INTERVAL.fullmatch(part)
        if match is None:
            return f'cannot convert string to integer for index: "{part}"'
        first, end = int(match[1]), int(match[2] or match[1])
        if first <= last:
            return f"non-increasing order, previous: {last}, current: {first}"
        if end >= completions:
            return f'too large index: "{end}"'
        if match[2] and end <= first:
            return f"non-increasing order, previous: {first}, current: {end}"
        total, last = total + end - first + 1, end
    return total
