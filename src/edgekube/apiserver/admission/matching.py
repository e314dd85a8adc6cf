"""Which writes a webhook or a policy is for: rules, selectors, conditions (admissionregistration/v1). Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from edgekube.api.selectors import LabelMatcher, label_matcher
from edgekube.api.types import meta_v1
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.request import Tree

OWN = frozenset({
    "validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicies",
    "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
})  # fmt: skip
"""Their own configuration passes always, or a broken one could never be mended."""
GROUP = "admissionregistration.k8s.io"


def exempt(attributes: Attributes) -> bool:
    """Tell whether a write is never shown to webhooks and policies."""
    row = attributes.target.row
    return (row.group == GROUP and row.plural in OWN) or row.group in {
        "authentication.k8s.io",
        "authorization.k8s.io",
    }


def rules_match(rules: Iterable[Tree], attributes: Attributes, versions: frozenset[str]) -> bool:
    """Tell whether any rule is for this write; `versions` are all in which the resource is served (Equivalent)."""
    return any(_rule_matches(rule, attributes, versions) for rule in rules)


def _rule_matches(rule: Tree, attributes: Attributes, versions: frozenset[str]) -> bool:
    row = attributes.target.row
    scope = rule.get("scope", "*")
    if scope != "*" and (scope == "Namespaced") != row.namespaced:
        return False
    names = rule.get("resourceNames")
    if names and attributes.name not in names:
        return False
    wished = rule.get("apiVersions") or ()
    return (
        _has(rule.get("operations") or (), attributes.operation)
        and _has(rule.get("apiGroups") or (), row.group)
        and ("*" in wished or bool(versions & set(wished)))
        and any(
            _resource_matches(one, row.plural, attributes.subresource) for one in rule.get("resources") or ()
        )
    )


def _has(wished: Iterable[str], one: str) -> bool:
    return one in wished or "*" in wished


def _resource_matches(wished: str, plural: str, subresource: str) -> bool:
    resource, slash, sub = wished.partition("/")
    if resource not in {plural, "*"}:
        return False
    return not subresource if not slash else sub in {subresource, "*"}


@dataclass(frozen=True, slots=True)
class Selectors:
    """Label selectors on the object and on its namespace."""

    namespace: LabelMatcher
    object: LabelMatcher

    @classmethod
    def of(cls, tree: Tree) -> "Selectors":
        """Read `namespaceSelector` and `objectSelector`; absent ones choose everything."""
        found = [
            label_matcher(msgspec.convert(tree.get(name) or {}, meta_v1.LabelSelector))
            for name in ("namespaceSelector", "objectSelector")
        ]
        return cls(*found)

    def choose(self, attributes: Attributes, namespace: Mapping[str, str] | None) -> bool:
        """Decide; `namespace` are the namespace's labels, None for objects in no namespace."""
        if namespace is not None and not self.namespace.matches(namespace):
            return False
        forms = [attributes.obj, *([attributes.old] if attributes.old else [])]
        return self.object.empty or any(
            self.object.matches((form.get("metadata") or {}).get("labels") or {}) for form in forms
        )
