"""Webhook configurations and admission policies."""

from edgekube.api.defaults.fill import Tree, fill, fill_empty, items, present

WEBHOOK_SECONDS = 10
HTTPS = 443


def validating_webhooks(tree: Tree) -> None:
    """Fill a ValidatingWebhookConfiguration."""
    for hook in items(tree, "webhooks"):
        _webhook(hook)


def mutating_webhooks(tree: Tree) -> None:
    """Fill a MutatingWebhookConfiguration."""
    for hook in items(tree, "webhooks"):
        _webhook(hook)
        fill(hook, {"reinvocationPolicy": "Never"})


def validating_policy(tree: Tree) -> None:
    """Fill a ValidatingAdmissionPolicy."""
    spec = tree.setdefault("spec", {})
    fill(spec, {"failurePolicy": "Fail"})
    for constraints in present(spec, ("matchConstraints",)):
        _match_resources(constraints)


def mutating_policy(tree: Tree) -> None:
    """Fill a MutatingAdmissionPolicy."""
    validating_policy(tree)
    fill(tree["spec"], {"reinvocationPolicy": "Never"})


def validating_policy_binding(tree: Tree) -> None:
    """Fill a ValidatingAdmissionPolicyBinding."""
    for constraints in present(tree.setdefault("spec", {}), ("matchResources",)):
        _match_resources(constraints)


def _webhook(hook: Tree) -> None:
    fill(hook, {"failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": WEBHOOK_SECONDS})
    for selector in ("namespaceSelector", "objectSelector"):
        hook.setdefault(selector, {})
    for service in present(hook.get("clientConfig", {}), ("service",)):
        fill(service, {"port": HTTPS})
    for rule in items(hook, "rules"):
        fill_empty(rule, {"scope": "*"})


def _match_resources(constraints: Tree) -> None:
    fill(constraints, {"matchPolicy": "Equivalent"})
    for selector in ("namespaceSelector", "objectSelector"):
        constraints.setdefault(selector, {})
    for rule in items(constraints, "resourceRules", "excludeResourceRules"):
        fill_empty(rule, {"scope": "*"})
