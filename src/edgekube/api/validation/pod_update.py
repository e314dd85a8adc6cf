"""What may change in a Pod that exists."""

from typing import Any

from edgekube.api.validation.pod_spec import pod_spec
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_FROZEN = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_LISTS = {"containers": "containers", "initContainers": "init containers"}


def pod(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check an update of a Pod's metadata and spec."""
    spec, before = tree.get("spec", {}), old.get("spec", {})
    if not _same_containers(spec, before, problems):
        return
    _deadline(spec, before, problems)
    _tolerations(spec, before, problems)
    _gates(spec, before, problems)
    if before.get("schedulingGates"):
        spec = _while_gated(spec, before, problems)
    changed = _changed(spec, before)
    if changed:
        problems.forbidden("spec", "\n".join((_FROZEN, *(f"spec.{name} differs" for name in changed))))


def ephemeral_containers(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check an update through the `ephemeralcontainers` subresource: containers may be added."""
    spec, before = tree.get("spec", {}), old.get("spec", {})
    now = {one.get("name"): one for one in spec.get("ephemeralContainers", ())}
    for index, one in enumerate(before.get("ephemeralContainers", ())):
        if now.get(one.get("name")) != one:
            problems.forbidden(
                f"spec.ephemeralContainers[{index}]",
                f'existing ephemeral containers "{one.get("name")}" may not be changed or removed',
            )
    pod_spec(spec, "spec", problems)


def _same_containers(spec: Tree, before: Tree, problems: Problems) -> bool:
    same = True
    for field, name in _LISTS.items():
        if len(spec.get(field, ())) != len(before.get(field, ())):
            problems.forbidden(f"spec.{field}", f"pod updates may not add or remove {name}")
            same = False
    return same


def _deadline(spec: Tree, before: Tree, problems: Problems) -> None:
    had, wanted = before.get("activeDeadlineSeconds"), spec.get("activeDeadlineSeconds")
    if had is None:
        return
    if wanted is None:
        problems.invalid(
            "spec.activeDeadlineSeconds", wanted, "must not update from a positive integer to nil value"
        )
    elif wanted > had:
        problems.invalid("spec.activeDeadlineSeconds", wanted, "must be less than or equal to previous value")


def _tolerations(spec: Tree, before: Tree, problems: Problems) -> None:
    now = [_untimed(one) for one in spec.get("tolerations", ())]
    if any(_untimed(one) not in now for one in before.get("tolerations", ())):
        problems.forbidden(
            "spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"
        )


def _untimed(toleration: Tree) -> Tree:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}


def _gates(spec: Tree, before: Tree, problems: Problems) -> None:
    had = [gate.get("name") for gate in before.get("schedulingGates", ())]
    for index, gate in enumerate(spec.get("schedulingGates", ())):
        if gate.get("name") not in had:
            problems.forbidden(
                f"spec.schedulingGates[{index}].name",
                f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
            )


def _while_gated(spec: Tree, before: Tree, problems: Problems) -> Tree:
    """Check where a pod that still waits wants to go: it may only get choosier (KEP-3838); return the spec without that."""
    had, now = before.get("nodeSelector", {}), spec.get("nodeSelector", {})
    if any(now.get(key) != value for key, value in had.items()):
        problems.invalid(
            "spec.nodeSelector", now,
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        )  # fmt: skip
    was, wanted = before.get("affinity", {}), spec.get("affinity", {})
    _node_affinity(wanted.get("nodeAffinity", {}), was.get("nodeAffinity", {}), problems)
    rest = {key: value for key, value in wanted.items() if key != "nodeAffinity"}
    if "nodeAffinity" in was:
        rest["nodeAffinity"] = was["nodeAffinity"]
    return {**spec, "nodeSelector": had, "affinity": rest}


def _node_affinity(now: Tree, had: Tree, problems: Problems) -> None:
    path = f"spec.affinity.nodeAffinity.{_REQUIRED}"
    before, after = had.get(_REQUIRED), now.get(_REQUIRED)
    if before is None:
        return
    terms, old_terms = (after or {}).get("nodeSelectorTerms", ()), before.get("nodeSelectorTerms", ())
    if len(terms) != len(old_terms):
        problems.invalid(
            f"{path}.nodeSelectorTerms",
            list(terms),
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        )
        return
    for index, (term, old_term) in enumerate(zip(terms, old_terms, strict=True)):
        for field in ("matchExpressions", "matchFields"):
            kept = old_term.get(field, [])
            if term.get(field, [])[: len(kept)] != kept:
                problems.invalid(
                    f"{path}.nodeSelectorTerms[{index}]", term,
                    "only additions are allowed (no mutations or deletions)",
                )  # fmt: skip
                break


def _changed(spec: Tree, before: Tree) -> list[str]:
    """Return the fields that differ once all that may change is put aside."""
    left, right = _frozen(spec), _frozen(before)
    if before.get("terminationGracePeriodSeconds", 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        left["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def _frozen(spec: Tree) -> Tree:
    kept = {
        name: value
        for name, value in spec.items()
        if name not in ("activeDeadlineSeconds", "tolerations", "schedulingGates") and value not in ({}, [])
    }
    for field in _LISTS:
        if field in kept:
            kept[field] = [
                {name: value for name, value in one.items() if name != "image"} for one in kept[field]
            ]
    return kept
