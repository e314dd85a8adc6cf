"""Webhook configurations (pkg/apis/admissionregistration/validation)."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from edgekube.api.cel import CelError, compile_expression
from edgekube.api.validation import names
from edgekube.api.validation.label_selector import label_selector
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
OPERATIONS = ("CONNECT", "CREATE", "DELETE", "UPDATE", "*")
SCOPES = ("*", "Cluster", "Namespaced")
REVIEW_VERSIONS = ("v1", "v1beta1")
MOST_CONDITIONS = 64
_EXACTLY_ONE = "exactly one of url or service is required"
_SEGMENTS = 3


def validating(tree: Tree, problems: Problems) -> None:
    """Check a ValidatingWebhookConfiguration."""
    _hooks(tree, problems, mutating=False)


def mutating(tree: Tree, problems: Problems) -> None:
    """Check a MutatingWebhookConfiguration."""
    _hooks(tree, problems, mutating=True)


def _hooks(tree: Tree, problems: Problems, *, mutating: bool) -> None:
    seen: set[str] = set()
    for index, hook in enumerate(tree.get("webhooks", ())):
        path, name = f"webhooks[{index}]", hook.get("name", "")
        if name:
            problems.each(f"{path}.name", name, _fully_qualified(name))
        else:
            problems.required(f"{path}.name")
        if name in seen:
            problems.duplicate(f"{path}.name", name)
        seen.add(name)
        _hook(hook, path, problems)
        if mutating:
            _choice(hook, "reinvocationPolicy", path, ("IfNeeded", "Never"), problems=problems)


def _hook(hook: Tree, path: str, problems: Problems) -> None:
    for number, one in enumerate(hook.get("rules", ())):
        rule(one, f"{path}.rules[{number}]", problems)
    _choice(hook, "failurePolicy", path, ("Fail", "Ignore"), problems=problems)
    _choice(hook, "matchPolicy", path, ("Equivalent", "Exact"), problems=problems)
    effects = hook.get("sideEffects")
    if not effects:
        problems.required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun")
    else:
        _choice(hook, "sideEffects", path, ("None", "NoneOnDryRun"), problems=problems)
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        problems.invalid(
            f"{path}.timeoutSeconds", seconds, "the timeout value must be between 1 and 30 seconds"
        )
    for field in ("namespaceSelector", "objectSelector"):
        if field in hook:
            label_selector(hook[field], f"{path}.{field}", problems)
    _client(hook.get("clientConfig", {}), f"{path}.clientConfig", problems)
    _versions(hook.get("admissionReviewVersions", ()), f"{path}.admissionReviewVersions", problems)
    match_conditions(hook.get("matchConditions", ()), f"{path}.matchConditions", problems)


def _fully_qualified(name: str) -> list[str]:
    wrong = names.subdomain(name)
    if not wrong and len(name.split(".")) < _SEGMENTS:
        return ["should be a domain with at least three segments separated by dots"]
    return wrong


def _choice(tree: Tree, field: str, path: str, supported: Sequence[str], *, problems: Problems) -> None:
    value = tree.get(field)
    if value is not None and value not in supported:
        problems.unsupported(f"{path}.{field}", value, supported)


def rule(one: Tree, path: str, problems: Problems) -> None:
    """Check a RuleWithOperations."""
    operations = one.get("operations", ())
    if not operations:
        problems.required(f"{path}.operations")
    if len(operations) > 1 and "*" in operations:
        problems.invalid(
            f"{path}.operations", operations, "if '*' is present, must not specify other operations"
        )
    for index, operation in enumerate(operations):
        if operation not in OPERATIONS:
            problems.unsupported(f"{path}.operations[{index}]", operation, OPERATIONS)
    for field, what in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = one.get(field, ())
        if not values:
            problems.required(f"{path}.{field}")
        if len(values) > 1 and "*" in values:
            problems.invalid(f"{path}.{field}", values, f"if '*' is present, must not specify other {what}")
    for index, version in enumerate(one.get("apiVersions", ())):
        if not version:
            problems.required(f"{path}.apiVersions[{index}]")
    _resources(one.get("resources", ()), f"{path}.resources", problems)
    _choice(one, "scope", path, SCOPES, problems=problems)


def _resources(resources: list[str], path: str, problems: Problems) -> None:
    if not resources:
        problems.required(path)
    whole, subs = "*/*" in resources, {text[2:] for text in resources if text.startswith("*/")}
    bare = {text for text in resources if "/" not in text}
    if whole and len(resources) > 1:
        problems.invalid(path, resources, "if '*/*' is present, must not specify other resources")
        return
    for index, text in enumerate(resources):
        name, slash, sub = text.partition("/")
        if not text:
            problems.required(f"{path}[{index}]")
        elif slash and sub != "*" and f"{name}/*" in resources:
            problems.invalid(f"{path}[{index}]", text, f"if '{name}/*' is present, must not specify {text}")
        elif slash and name != "*" and sub in subs:
            problems.invalid(f"{path}[{index}]", text, f"if '*/{sub}' is present, must not specify {text}")
    if "*" in bare and len(bare) > 1:
        problems.invalid(
            path, resources, "if '*' is present, must not specify other resources without subresources"
        )


def _client(config: Tree, path: str, problems: Problems) -> None:
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        problems.required(path, _EXACTLY_ONE)
    elif url is not None:
        problems.each(f"{path}.url", url, _url(url))
    else:
        _service(service or {}, f"{path}.service", problems)


def _url(text: str) -> list[str]:
    wrong = []
    try:
        parts = urlsplit(text)
    except ValueError as error:
        return [f"url must be a valid URL: {error}; desired format: https://host[/path]"]
    if parts.scheme != "https":
        wrong.append("'https' is the only allowed URL scheme; desired format: https://host[/path]")
    if not parts.netloc:
        wrong.append("host must be specified; desired format: https://host[/path]")
    if "@" in parts.netloc:
        wrong.append("user information is not permitted in the URL; desired format: https://host[/path]")
    if parts.fragment:
        wrong.append("fragments are not permitted in the URL; desired format: https://host[/path]")
    if parts.query:
        wrong.append("query parameters are not permitted in the URL; desired format: https://host[/path]")
    return wrong


def _service(service: Tree, path: str, problems: Problems) -> None:
    for field in ("name", "namespace"):
        if not service.get(field):
            problems.required(f"{path}.{field}", f"service {field} is required")
    port = service.get("port", 443)
    if names.port_number(port):
        problems.invalid(f"{path}.port", port, f"port is not valid: {names.port_number(port)[0]}")
    where = service.get("path")
    if where is None:
        return
    if not where.startswith("/"):
        problems.invalid(f"{path}.path", where, "must start with a '/'")
    elif "//" in where:
        problems.invalid(f"{path}.path", where, "segment[0] may not be empty")


def _versions(versions: Sequence[str], path: str, problems: Problems) -> None:
    if not versions:
        problems.required(path, f"must specify one of {', '.join(REVIEW_VERSIONS)}")
        return
    for index, version in enumerate(versions):
        if version in versions[:index]:
            problems.invalid(f"{path}[{index}]", version, "duplicate version")
        problems.each(f"{path}[{index}]", version, names.label_1035(version))
    if not set(versions) & set(REVIEW_VERSIONS):
        problems.invalid(path, list(versions), f"must include at least one of {', '.join(REVIEW_VERSIONS)}")


def compiles(expression: str, path: str, problems: Problems) -> None:
    """Check that an expression can be compiled."""
    try:
        compile_expression(expression)
    except CelError as error:
        problems.invalid(path, expression, str(error))


def match_conditions(conditions: Sequence[Tree], path: str, problems: Problems) -> None:
    """Check matchConditions."""
    if len(conditions) > MOST_CONDITIONS:
        problems.too_many(path, len(conditions), MOST_CONDITIONS)
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        here, name = f"{path}[{index}]", condition.get("name", "")
        if not condition.get("expression", "").strip():
            problems.required(f"{here}.expression")
        else:
            compiles(condition["expression"], f"{here}.expression", problems)
        if not name:
            problems.required(f"{here}.name")
            continue
        problems.each(f"{here}.name", name, names.qualified(name))
        if name in seen:
            problems.duplicate(f"{here}.name", name)
        seen.add(name)
