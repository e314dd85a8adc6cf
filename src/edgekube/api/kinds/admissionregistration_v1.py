"""Rows of the admissionregistration.k8s.io group. Only the API server reads them, as trees."""

from typing import Any

from edgekube.api.resource import Resource, Scope

GROUP = "admissionregistration.k8s.io"
Tree = dict[str, Any]


def _row(kind: str, plural: str, subresources: tuple[str, ...] = ()) -> Resource[Tree]:
    return Resource(
        GROUP,
        "v1",
        kind,
        plural,
        Tree,
        scope=Scope.CLUSTER,
        categories=("api-extensions",),
        subresources=subresources,
    )


VALIDATING_WEBHOOKS = _row("ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
MUTATING_WEBHOOKS = _row("MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
VALIDATING_POLICIES = _row("ValidatingAdmissionPolicy", "validatingadmissionpolicies", ("status",))
VALIDATING_POLICY_BINDINGS = _row("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
MUTATING_POLICIES = _row("MutatingAdmissionPolicy", "mutatingadmissionpolicies")
MUTATING_POLICY_BINDINGS = _row("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings")

RESOURCES = (
    VALIDATING_WEBHOOKS, MUTATING_WEBHOOKS, VALIDATING_POLICIES, VALIDATING_POLICY_BINDINGS, MUTATING_POLICIES,
    MUTATING_POLICY_BINDINGS,
)  # fmt: skip
