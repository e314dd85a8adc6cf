"""StatefulSets (pkg/apis/apps/validation)."""

from typing import Any

from edgekube.api.validation import metadata, names, workload
from edgekube.api.validation.deployment import int_or_percent
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_MAY_CHANGE = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip
_FORBIDDEN = (
    "updates to statefulset spec for fields other than "
    + ", ".join(f"'{name}'" for name in _MAY_CHANGE[:-1])
    + " and 'minReadySeconds' are forbidden"
)
_ONLY_ROLLING = "only allowed for updateStrategy 'RollingUpdate'"


def stateful_set(tree: Tree, problems: Problems) -> None:
    """Check a StatefulSet."""
    spec = tree.get("spec", {})
    problems.one_of(spec, "podManagementPolicy", "spec", supported=("OrderedReady", "Parallel"))
    for name in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        problems.at_least(spec, name, "spec")
    problems.at_least(spec.get("ordinals", {}), "start", "spec.ordinals")
    _strategy(spec.get("updateStrategy", {}), problems)
    retention = spec.get("persistentVolumeClaimRetentionPolicy", {})
    for name in ("whenDeleted", "whenScaled"):
        problems.one_of(
            retention, name, "spec.persistentVolumeClaimRetentionPolicy", supported=("Delete", "Retain")
        )
    if service := spec.get("serviceName"):
        problems.each("spec.serviceName", service, names.label(service))
    for number, claim in enumerate(spec.get("volumeClaimTemplates", ())):
        path, meta = f"spec.volumeClaimTemplates[{number}].metadata", claim.get("metadata", {})
        metadata.labels(meta.get("labels", {}), f"{path}.labels", problems)
        metadata.annotations(meta.get("annotations", {}), f"{path}.annotations", problems)
    workload.workload(_mountable(tree), "StatefulSet", problems)


def _mountable(tree: Tree) -> Tree:
    """Return the StatefulSet with its claims as volumes of the template, which is what its pods will have."""
    spec = tree.get("spec", {})
    template = spec.get("template", {})
    inner = template.get("spec", {})
    claims = [claim.get("metadata", {}).get("name", "") for claim in spec.get("volumeClaimTemplates", ())]
    known = {volume.get("name") for volume in inner.get("volumes", ())}
    more = [{"name": name, "emptyDir": {}} for name in dict.fromkeys(claims) if name and name not in known]
    if not more:
        return tree
    inner = {**inner, "volumes": [*inner.get("volumes", ()), *more]}
    return {**tree, "spec": {**spec, "template": {**template, "spec": inner}}}


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    new, before = tree.get("spec", {}), old.get("spec", {})
    if any(new.get(name) != before.get(name) for name in (new.keys() | before.keys()) - set(_MAY_CHANGE)):
        problems.forbidden("spec", _FORBIDDEN)


def _strategy(strategy: Tree, problems: Problems) -> None:
    path, rolling = "spec.updateStrategy", strategy.get("rollingUpdate")
    problems.one_of(strategy, "type", path, supported=("OnDelete", "RollingUpdate"))
    if strategy.get("type") == "OnDelete" and rolling is not None:
        problems.invalid(f"{path}.rollingUpdate", rolling, _ONLY_ROLLING)
    if strategy.get("type") == "RollingUpdate" and rolling:
        problems.at_least(rolling, "partition", f"{path}.rollingUpdate")
        if (most := rolling.get("maxUnavailable")) is not None:
            int_or_percent(most, f"{path}.rollingUpdate.maxUnavailable", problems)
            if most in (0, "0%"):
                problems.invalid(f"{path}.rollingUpdate.maxUnavailable", most, "cannot be 0")
