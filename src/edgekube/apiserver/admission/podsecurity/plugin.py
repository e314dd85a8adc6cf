"""
PodSecurity: Namespaces' labels say which Pod Security Standard their pods are held to.

Pods are refused or warned about, workloads (Deployments and so on) only warned about; a Namespace
that becomes stricter warns about the pods it already has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekube.api.errors import Cause, Invalid
from edgekube.api.kinds.core_v1 import NAMESPACES, PODS
from edgekube.api.podsecurity.policy import (
    LEVELS,
    Policy,
    Standard,
    label_problems,
    policy_of,
    sentence,
    violations,
)
from edgekube.api.resource import Key
from edgekube.apiserver.admission.base import Attributes, Objects
from edgekube.apiserver.request import Tree

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "replicationcontrollers": ("spec", "template"),
    "podtemplates": ("template",),
    "deployments.apps": ("spec", "template"),
    "replicasets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
"""Where a workload keeps its pods' template."""
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
MANY = 3000
"""Pods of one Namespace that a change of its labels looks at, at most."""


@dataclass(frozen=True, slots=True)
class Exemptions:
    """Whom the standards do not concern."""

    users: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()


class PodSecurity:
    """Hold pods to their Namespace's standards."""

    verbs = frozenset({"create", "update"})
    resources = frozenset({"pods", "namespaces", *TEMPLATES})

    def __init__(
        self, objects: Objects, default: Policy | None = None, exempt: Exemptions | None = None
    ) -> None:
        self._objects = objects
        self._default = default or Policy()
        self._exempt = exempt or Exemptions()

    async def validate(self, attributes: Attributes) -> None:
        """Raise Forbidden for pods, Invalid for labels nobody can read; else warn."""
        resource = attributes.target.row.group_resource
        if resource == "namespaces":
            await self._namespace(attributes)
            return
        policy = await self._policy(attributes)
        if policy.idle:
            return
        if resource == "pods":
            self._pod(attributes, policy)
        else:
            self._template(attributes, policy, TEMPLATES[resource])

    async def _policy(self, attributes: Attributes) -> Policy:
        namespace = attributes.target.namespace
        if namespace in self._exempt.namespaces or attributes.user.name in self._exempt.users:
            return Policy()
        found = await self._objects.look(NAMESPACES, Key("", namespace))
        return policy_of((found or {"metadata": {}})["metadata"].get("labels") or {}, self._default)

    def _pod(self, attributes: Attributes, policy: Policy) -> None:
        obj, old = attributes.obj, attributes.old
        if old is not None and _insignificant(obj, old):
            return
        if obj["spec"].get("runtimeClassName") in self._exempt.runtime_classes:
            return
        if broken := violations(policy.enforce, obj["metadata"], obj["spec"]):
            raise attributes.forbid(sentence(policy.enforce, broken).replace("violate", "violates", 1))
        _warn(attributes, policy.warn, obj["metadata"], obj["spec"])

    def _template(self, attributes: Attributes, policy: Policy, path: Sequence[str]) -> None:
        template, old = _at(attributes.obj, path), _at(attributes.old or {}, path)
        spec = template.get("spec") or {}
        if not spec or template == old or spec.get("runtimeClassName") in self._exempt.runtime_classes:
            return
        _warn(attributes, policy.warn, template.get("metadata") or {}, spec)

    async def _namespace(self, attributes: Attributes) -> None:
        if attributes.target.subresource:
            return
        labels, name = (
            attributes.obj["metadata"].get("labels") or {},
            attributes.obj["metadata"].get("name", ""),
        )
        before = None if attributes.old is None else attributes.old["metadata"].get("labels") or {}
        if label_problems(labels) and (before is None or label_problems(labels) != label_problems(before)):
            raise _invalid(name, labels)
        if before is None or name in self._exempt.namespaces:
            return
        new, old = policy_of(labels, self._default).enforce, policy_of(before, self._default).enforce
        if new == old or not _stricter(new, old):
            return
        pods = await self._objects.within(PODS, name)
        attributes.warnings += _about(pods[:MANY], new, name, self._exempt)


def _stricter(new: Standard, old: Standard) -> bool:
    """Whether pods that were fine may not be any more; another version counts as stricter."""
    if new.level == LEVELS[0]:
        return False
    return LEVELS.index(new.level) > LEVELS.index(old.level) or (
        new.level == old.level and new.version != old.version
    )


def _about(pods: Sequence[Tree], standard: Standard, namespace: str, exempt: Exemptions) -> list[str]:
    """Return warnings about pods, those with the same faults together."""
    faults: dict[str, list[str]] = {}
    for pod in pods:
        if pod["spec"].get("runtimeClassName") in exempt.runtime_classes:
            continue
        if found := violations(standard, pod["metadata"], pod["spec"]):
            faults.setdefault(", ".join(one.reason for one in found), []).append(pod["metadata"]["name"])
    if not faults:
        return []
    lines = []
    for fault, names in faults.items():
        others = len(names) - 1
        more = f" (and {others} other pod{'s' if others > 1 else ''})" if others else ""
        lines.append(f"{min(names)}{more}: {fault}")
    head = f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{standard}"'
    return [head, *sorted(lines)]


def _warn(attributes: Attributes, standard: Standard, metadata: Tree, spec: Tree) -> None:
    if broken := violations(standard, metadata, spec):
        attributes.warnings.append(f"would {sentence(standard, broken)}")


def _insignificant(new: Tree, old: Tree) -> bool:
    """Whether an update of a pod cannot have made it less secure: only images, labels and the like changed."""
    return _bones(new) == _bones(old)


def _bones(pod: Tree) -> tuple[Any, ...]:
    spec = pod["spec"]
    containers = [
        [
            {name: value for name, value in c.items() if name not in {"image", "resources"}}
            for c in spec.get(field) or ()
        ]
        for field in CONTAINERS
    ]
    annotations = pod["metadata"].get("annotations") or {}
    profiles = {name: value for name, value in annotations.items() if "apparmor" in name}
    return containers, spec.get("securityContext"), profiles


def _at(tree: Any, path: Sequence[str]) -> Tree:
    for step in path:
        tree = tree.get(step) or {}
    return dict(tree)


def _invalid(name: str, labels: Mapping[str, str]) -> Invalid:
    causes = [
        Cause("FieldValueInvalid", f'Invalid value: "{value}": {why}', f"metadata.labels[{label}]")
        for label, value, why in label_problems(labels)
    ]
    told = "; ".join(f"{cause.field}: {cause.message}" for cause in causes)
    text = f"[{told.replace('; ', ', ')}]" if len(causes) > 1 else told
    return Invalid(f'Namespace "{name}" is invalid: {text}', kind="Namespace", name=name, causes=causes)
