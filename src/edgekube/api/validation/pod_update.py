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
_LISTS = {"containers": "containers", "initContainers": "init containers"}


def pod(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check an update of a Pod's metadata and spec."""
    spec, before = tree.get("spec", {}), old.get("spec", {})
    if not _same_containers(spec, before, problems):
        return
    _deadline(spec, before, problems)
    _tolerations(spec, before, problems)
    _gates(spec, before, problems)
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
