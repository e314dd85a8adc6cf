"""Judging writes by ValidatingAdmissionPolicies."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edgekube.api.cel import CelError
from edgekube.api.errors import BY_REASON, Cause, Invalid
from edgekube.api.kinds.core_v1 import NAMESPACES
from edgekube.api.resource import Key
from edgekube.api.scheme import Scheme
from edgekube.api.selectors import label_matcher
from edgekube.api.types import meta_v1
from edgekube.apiserver.admission.authorizer import functions_of
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.admission.matching import Selectors, exempt, rules_match
from edgekube.apiserver.admission.policy.policies import Binding, Policies, Policy, Validation
from edgekube.apiserver.admission.webhook.plugin import variables_of
from edgekube.apiserver.authz import Authorization
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.registry.storage import Storage
from edgekube.apiserver.request import Tree

log = logging.getLogger(__name__)

VERBS = frozenset({"create", "update", "delete"})


class ValidatingAdmissionPolicies:
    """Refuses or warns of what bound policies do not allow."""

    verbs, resources, everywhere = VERBS, frozenset[str](), True

    def __init__(
        self, scheme: Scheme, caches: Caches, storage: Storage, authorization: Authorization
    ) -> None:
        self._scheme, self._storage, self._authorization = scheme, storage, authorization
        self._policies = Policies(caches, storage)

    async def validate(self, attributes: Attributes) -> None:
        """Run every policy that is for this write."""
        policies = () if attributes.settling or exempt(attributes) else await self._policies.all()
        if not policies:
            return
        namespace = await self._namespace(attributes)
        for policy, bindings in policies:
            if not self._matches(
                policy.spec.get("matchConstraints") or {}, policy.selectors, attributes, namespace
            ):
                continue
            for binding in bindings:
                wished = binding.spec.get("matchResources")
                if wished is None or self._matches(wished, binding.selectors, attributes, namespace):
                    await self._judge(policy, binding, attributes, namespace)

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

    async def _judge(
        self, policy: Policy, binding: Binding, attributes: Attributes, namespace: Tree | None
    ) -> None:
        for params in await self._params(policy, binding, attributes):
            variables: dict[str, Any] = {
                **variables_of(attributes), "params": params, "namespaceObject": namespace, "authorizer": {},
            }  # fmt: skip
            functions = functions_of(self._authorization, attributes.user)
            variables["authorizer"] = {"requestResource": _request_resource(attributes)}
            try:
                if not all(condition.holds(variables, functions) for condition in policy.conditions):
                    continue
                variables["variables"] = self._variables(policy, variables, functions)
            except CelError as error:
                self._fail(policy, binding, attributes, f"expression resulted in error: {error}")
                continue
            for validation in policy.validations:
                self._validate(policy, binding, validation, attributes, variables, functions)

    @staticmethod
    def _variables(policy: Policy, variables: Mapping[str, Any], functions: Mapping[str, Any]) -> Tree:
        found: Tree = {}
        for name, program in policy.variables:
            try:
                found[name] = program.evaluate({**variables, "variables": found}, functions)
            except CelError as error:
                # Only those who use it fail.
                log.info("policy %s: variable %s: %s", policy.name, name, error)
        return found

    def _validate(
        self, policy: Policy, binding: Binding, rule: Validation, attributes: Attributes,
        variables: Mapping[str, Any], functions: Mapping[str, Any],
    ) -> None:  # fmt: skip
        try:
            if rule.program.holds(variables, functions):
                return
        except CelError as error:
            text = f"expression '{rule.program.text}' resulted in error: {error}"
            self._fail(policy, binding, attributes, text)
            return
        message = rule.tree.get("message") or f"failed expression: {rule.program.text}"
        if rule.message is not None:
            try:
                told = rule.message.evaluate(variables, functions)
                message = told if isinstance(told, str) and told.strip() else message
            except CelError as error:
                log.info("policy %s: messageExpression: %s", policy.name, error)
        self._act(policy, binding, attributes, message, rule.tree.get("reason") or "Invalid")

    def _fail(self, policy: Policy, binding: Binding, attributes: Attributes, text: str) -> None:
        if not policy.fails_open:
            self._act(policy, binding, attributes, text, "Invalid")

    @staticmethod
    def _act(policy: Policy, binding: Binding, attributes: Attributes, message: str, reason: str) -> None:
        who = f"ValidatingAdmissionPolicy '{policy.name}' with binding '{binding.name}'"
        if "Warn" in binding.actions:
            attributes.warnings.append(f"Validation failed for {who}: {message}")
        if "Audit" in binding.actions:
            log.info("%s: %s", who, message)
        if "Deny" in binding.actions:
            text = f"{who} denied request: {message}"
            forbidden = attributes.forbid(text)
            raise BY_REASON.get(reason, Invalid)(
                forbidden.message, group=forbidden.group, kind=forbidden.kind, name=forbidden.name,
                causes=[Cause("", text, "")],
            )  # fmt: skip

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


def _request_resource(attributes: Attributes) -> Tree:
    target = attributes.target
    return {
        "group": target.row.group, "resource": target.row.plural, "subresource": target.subresource,
        "namespace": target.namespace, "name": target.name,
    }  # fmt: skip
