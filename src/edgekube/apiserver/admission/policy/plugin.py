"""Judging writes by ValidatingAdmissionPolicies."""

import logging

import msgspec

from edgekube.api.cel import CelError
from edgekube.api.errors import BY_REASON, Cause, Invalid
from edgekube.api.kinds.admissionregistration_v1 import VALIDATING_POLICIES, VALIDATING_POLICY_BINDINGS
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.admission.policy.bound import BoundPolicies, Case
from edgekube.apiserver.admission.policy.policies import Binding, Policy, Validation

log = logging.getLogger(__name__)

VERBS = frozenset({"create", "update", "delete", "connect"})


class ValidatingAdmissionPolicies(BoundPolicies):
    """Refuses or warns of what bound policies do not allow."""

    verbs, resources, everywhere = VERBS, frozenset[str](), True
    policy_row, binding_row = VALIDATING_POLICIES, VALIDATING_POLICY_BINDINGS

    async def validate(self, attributes: Attributes) -> None:
        """Run every policy that is for this write."""
        async for case in self.cases(attributes):
            _annotate(case, attributes)
            for validation in case.policy.validations:
                self._validate(case, validation, attributes)

    def _validate(self, case: Case, rule: Validation, attributes: Attributes) -> None:
        policy, binding = case.policy, case.binding
        try:
            if rule.program.holds(case.variables, case.functions, budget=case.budget):
                return
        except CelError as error:
            text = f"expression '{rule.program.text}' resulted in error: {error}"
            self._fail(policy, binding, attributes, text)
            return
        message = rule.tree.get("message") or f"failed expression: {rule.program.text}"
        if rule.message is not None:
            try:
                told = case.evaluate(rule.message)
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
            _note_failure(policy, binding, attributes, message)
        if "Deny" in binding.actions:
            text = f"{who} denied request: {message}"
            forbidden = attributes.forbid(text)
            raise BY_REASON.get(reason, Invalid)(
                forbidden.message, group=forbidden.group, kind=forbidden.kind, name=forbidden.name,
                causes=[Cause("", text, "")],
            )  # fmt: skip


def _annotate(case: Case, attributes: Attributes) -> None:
    """Put what the policy says into the audit event; an expression that is null says nothing."""
    for key, program in case.policy.annotations:
        try:
            value = case.evaluate(program)
        except CelError as error:
            log.info("policy %s: audit annotation %s: %s", case.policy.name, key, error)
            continue
        if isinstance(value, str) and value.strip():
            attributes.notes[f"{case.policy.name}/{key}"] = value


FAILURES = "validation.policy.admission.k8s.io/validation_failure"
"""The audit annotation that lists what policies with the action Audit found."""


def _note_failure(policy: Policy, binding: Binding, attributes: Attributes, message: str) -> None:
    found = msgspec.json.decode(attributes.notes.get(FAILURES, "[]"))
    found.append({
        "message": message, "policy": policy.name, "binding": binding.name,
        "validationActions": list(binding.actions),
    })  # fmt: skip
    attributes.notes[FAILURES] = msgspec.json.encode(found).decode()
