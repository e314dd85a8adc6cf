"""What both sorts of policies share: which of them are for a write, and what their expressions speak of."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edgekube.api.cel import Budget, CelError, Program
from edgekube.api.kinds.core_v1 import NAMESPACES
from edgekube.api.resource import AnyResource, Key
from edgekube.api.scheme import Scheme
from edgekube.api.selectors import label_matcher
from edgekube.api.types import meta_v1
from edgekube.apiserver.admission.authorizer import functions_of
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.admission.matching import Selectors, exempt, rules_match
from edgekube.apiserver.admission.policy.policies import Binding, Policies, Policy
from edgekube.apiserver.admission.webhook.plugin import variables_of
from edgekube.apiserver.authz import Authorization
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.registry.storage import Storage
from edgekube.apiserver.request import Tree

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Case:
    """One policy under one binding, with one parameter object: what its expressions are run with."""

    policy: Policy
    binding: Binding
    variables: dict[str, Any]
    functions: Mapping[str, Any]
    budget: Budget

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells it from all others."""
        meta = (self.variables.get("params") or {}).get("metadata") or {}
        return self.policy.name, self.binding.name, meta.get("namespace", ""), meta.get("name", "")

    def evaluate(self, program: Program) -> Any:
        """Run one expression; raises CelError."""
        return program.evaluate(self.variables, self.functions, budget=self.budget)

    def renew(self, attributes: Attributes) -> None:
        """Let expressions see the object as it is now."""
        self.variables.update(variables_of(attributes))
        self.variables["variables"] = variables_in(self.policy, self.variables, self.functions, self.budget)


class BoundPolicies:
    """Policies of one sort, and their bindings."""

    policy_row: AnyResource
    binding_row: AnyResource

    def __init__(
        self, scheme: Scheme, caches: Caches, storage: Storage, authorization: Authorization
    ) -> None:
        self._scheme, self._storage, self._authorization = scheme, storage, authorization
        self._policies = Policies(caches, storage, self.policy_row, self.binding_row)

    async def cases(self, attributes: Attributes) -> AsyncIterator[Case]:
        """Yield every case that is for this write and whose conditions hold."""
        silent = attributes.settling or attributes.reviewed or exempt(attributes)
        policies = () if silent else await self._policies.all()
        if not policies:
            return
        namespace, budget = await self._namespace(attributes), Budget()
        for policy, bindings in policies:
            wished = policy.spec.get("matchConstraints") or {}
            if not self._matches(wished, policy.selectors, attributes, namespace):
                continue
            for binding in bindings:
                wished = binding.spec.get("matchResources")
                if wished is not None and not self._matches(wished, binding.selectors, attributes, namespace):
                    continue
                for params in await self._params(policy, binding, attributes):
                    case = self._case(policy, binding, attributes, (params, namespace), budget)
                    if case is not None:
                        yield case

    def _case(
        self, policy: Policy, binding: Binding, attributes: Attributes, given: tuple[Tree | None, Tree | None],
        budget: Budget,
    ) -> Case | None:  # fmt: skip
        params, namespace = given
        variables: dict[str, Any] = {
            **variables_of(attributes), "params": params, "namespaceObject": namespace,
            "authorizer": {"requestResource": _request_resource(attributes)},
        }  # fmt: skip
        functions = functions_of(self._authorization, attributes.user)
        try:
            if not all(c.holds(variables, functions, budget=budget) for c in policy.conditions):
                return None
        except CelError as error:
            self._fail(policy, binding, attributes, f"expression resulted in error: {error}")
            return None
        variables["variables"] = variables_in(policy, variables, functions, budget)
        return Case(policy, binding, variables, functions, budget)

    def _fail(self, policy: Policy, binding: Binding, attributes: Attributes, text: str) -> None:
        """Refuse because a policy could not be evaluated, unless it is to be passed over."""
        raise NotImplementedError

    def _matches(
        self, wished: Tree, selectors: Selectors, attributes: Attributes, namespace: Tree | None
    ) -> bool:
        row = attributes.target.row
        own = frozenset({row.version})
        versions = frozenset(
            r.version for r in self._scheme if (r.group, r.plural) == (row.group, row.plural)
        )
        versions = own if wished.get("matchPolicy") == "Exact" else versions
        rules, excluded = wished.get("resourceRules"), wished.get("excludeResourceRules") or ()
        if rules is not None and not rules_match(rules, attributes, versions):
            return False
        if rules_match(excluded, attributes, versions):
            return False
        labels = None if namespace is None else namespace["metadata"].get("labels") or {}
        return selectors.choose(attributes, labels)

    async def _namespace(self, attributes: Attributes) -> Tree | None:
        row = attributes.target.row
        if row.group_resource == "namespaces":
            return attributes.obj
        if not row.namespaced:
            return None
        found = await self._storage.find(NAMESPACES, Key("", attributes.target.namespace))
        return found or {"metadata": {"name": attributes.target.namespace}}

    async def _params(
        self, policy: Policy, binding: Binding, attributes: Attributes
    ) -> Sequence[Tree | None]:
        kind, ref = policy.spec.get("paramKind"), binding.spec.get("paramRef")
        if not kind or not ref:
            return (None,)
        row = self._scheme.by_kind(kind.get("apiVersion", ""), kind.get("kind", ""))
        if row is None:
            self._fail(
                policy, binding, attributes, f"failed to configure policy: no kind {kind.get('kind')!r}"
            )
            return ()
        namespace = (ref.get("namespace") or attributes.target.namespace) if row.namespaced else ""
        if ref.get("name"):
            one = await self._storage.find(row, Key(namespace, ref["name"]))
            found = [one] if one is not None else []
        else:
            selector = label_matcher(msgspec.convert(ref.get("selector") or {}, meta_v1.LabelSelector))
            here = await self._storage.within(row, namespace) if namespace else await self._storage.all(row)
            found = [tree for tree in here if selector.matches(tree["metadata"].get("labels") or {})]
        if not found and ref.get("parameterNotFoundAction") != "Allow":
            text = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
            self._fail(policy, binding, attributes, text)
        return found


def variables_in(
    policy: Policy, variables: Mapping[str, Any], functions: Mapping[str, Any], budget: Budget
) -> Tree:
    """Return what a policy's own variables are; one that fails is missing."""
    found: Tree = {}
    for name, program in policy.variables:
        try:
            found[name] = program.evaluate({**variables, "variables": found}, functions, budget=budget)
        except CelError as error:
            # Only those who use it fail.
            log.info("policy %s: variable %s: %s", policy.name, name, error)
    return found


def _request_resource(attributes: Attributes) -> Tree:
    target = attributes.target
    return {
        "group": target.row.group, "resource": target.row.plural, "subresource": target.subresource,
        "namespace": target.namespace, "name": target.name,
    }  # fmt: skip
