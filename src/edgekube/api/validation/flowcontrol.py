"""Flow schemas and priority levels (pkg/apis/flowcontrol/validation)."""

from collections.abc import Sequence
from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
HIGHEST_PRECEDENCE = 10000
MOST_QUEUES = 10_000_000
CATCH_ALL, EXEMPT = "catch-all", "exempt"


def flow_schema(tree: Tree, problems: Problems) -> None:
    """Check a FlowSchema."""
    spec = tree.get("spec", {})
    precedence = spec.get("matchingPrecedence", 0)
    if precedence <= 0:
        problems.invalid("spec.matchingPrecedence", precedence, "must be a positive value")
    if precedence > HIGHEST_PRECEDENCE:
        problems.invalid(
            "spec.matchingPrecedence", precedence, f"must not be greater than {HIGHEST_PRECEDENCE}"
        )
    if precedence == 1 and tree["metadata"].get("name") != EXEMPT:
        problems.invalid(
            "spec.matchingPrecedence",
            precedence,
            "only the schema named 'exempt' may have matchingPrecedence 1",
        )
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in ("ByNamespace", "ByUser"):
        problems.unsupported("spec.distinguisherMethod", method.get("type", ""), ("ByNamespace", "ByUser"))
    level = spec.get("priorityLevelConfiguration", {}).get("name", "")
    if level:
        problems.each("spec.priorityLevelConfiguration.name", level, names.subdomain(level))
    else:
        problems.required("spec.priorityLevelConfiguration.name", "must reference a priority level")
    for index, rule in enumerate(spec.get("rules", ())):
        _rule(rule, f"spec.rules[{index}]", problems)


def _rule(rule: Tree, path: str, problems: Problems) -> None:
    if not rule.get("subjects"):
        problems.required(f"{path}.subjects", "subjects must contain at least one value")
    for index, subject in enumerate(rule.get("subjects", ())):
        _subject(subject, f"{path}.subjects[{index}]", problems)
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        problems.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty")
    for index, one in enumerate(rule.get("resourceRules", ())):
        here = f"{path}.resourceRules[{index}]"
        _wildcard(one, "verbs", here, supported=VERBS, problems=problems)
        _wildcard(one, "apiGroups", here, problems=problems)
        _wildcard(one, "resources", here, problems=problems)
        spaces = one.get("namespaces", ())
        if not spaces and not one.get("clusterScope"):
            problems.required(
                f"{here}.namespaces",
                "resource rules that are not cluster scoped must supply at least one namespace",
            )
        elif len(spaces) > 1 and "*" in spaces:
            problems.invalid(
                f"{here}.namespaces", spaces, "if '*' is present, must not specify other namespaces"
            )
    for index, one in enumerate(rule.get("nonResourceRules", ())):
        here = f"{path}.nonResourceRules[{index}]"
        _wildcard(one, "verbs", here, supported=VERBS, problems=problems)
        urls = one.get("nonResourceURLs", ())
        if not urls:
            problems.required(f"{here}.nonResourceURLs", "nonResourceURLs must contain at least one value")
        for number, url in enumerate(urls):
            problems.each(f"{here}.nonResourceURLs[{number}]", url, _url(url))


def _url(url: str) -> list[str]:
    rules = (
        (not url, "nonResourceURLs must not be empty"),
        (not url.startswith("/"), "should start with '/'"),
        (" " in url, "should not contain white-space"),
        ("//" in url, "should not contain double slash"),
        ("*" in url.removesuffix("/*"), "wildcard can only do suffix matching"),
    )
    return [] if url in ("*", "/") else next(([why] for broken, why in rules if broken), [])


def _wildcard(one: Tree, field: str, path: str, *, problems: Problems, supported: Sequence[str] = ()) -> None:
    values = one.get(field, ())
    if not values:
        problems.required(f"{path}.{field}", f"{field} must contain at least one value")
    elif len(values) > 1 and "*" in values:
        what = {"verbs": "verbs", "apiGroups": "api groups", "resources": "resources"}[field]
        problems.invalid(f"{path}.{field}", values, f"if '*' is present, must not specify other {what}")
    elif supported and "*" not in values and not set(values) <= set(supported):
        problems.unsupported(f"{path}.{field}", values, supported)


_SUBJECTS = {"User": "user", "Group": "group", "ServiceAccount": "serviceAccount"}


def _subject(subject: Tree, path: str, problems: Problems) -> None:
    kind = subject.get("kind", "")
    if kind not in _SUBJECTS:
        problems.unsupported(f"{path}.kind", kind, sorted(_SUBJECTS))
        return
    for other, field in _SUBJECTS.items():
        if other == kind and field not in subject:
            problems.required(f"{path}.{field}", f"{field} is required when subject kind is '{kind}'")
        elif other != kind and field in subject:
            problems.forbidden(f"{path}.{field}", f"{field} is forbidden when subject kind is not '{other}'")
    about = subject.get(_SUBJECTS[kind], {})
    if _SUBJECTS[kind] in subject and not about.get("name"):
        problems.required(f"{path}.{_SUBJECTS[kind]}.name")
    if kind == "ServiceAccount" and "serviceAccount" in subject and not about.get("namespace"):
        problems.required(f"{path}.serviceAccount.namespace", "must specify namespace for service account")


def priority_level(tree: Tree, problems: Problems) -> None:
    """Check a PriorityLevelConfiguration."""
    spec, name = tree.get("spec", {}), tree["metadata"].get("name", "")
    kind = spec.get("type", "")
    if (name == EXEMPT) != (kind == "Exempt") and kind in ("Exempt", "Limited"):
        problems.invalid("spec.type", kind, "type must be 'Exempt' if and only if name is 'exempt'")
    if kind == "Exempt":
        if "limited" in spec:
            problems.forbidden("spec.limited", "must be nil if the type is not Limited")
        _shares(spec.get("exempt", {}), "spec.exempt", problems)
    elif kind == "Limited":
        if "exempt" in spec:
            problems.forbidden("spec.exempt", "must be nil if the type is Limited")
        if "limited" not in spec:
            problems.required("spec.limited", "must not be empty when type is Limited")
        else:
            _limited(spec["limited"], "spec.limited", problems)
    else:
        problems.unsupported("spec.type", kind, ("Exempt", "Limited"))


def _shares(tree: Tree, path: str, problems: Problems) -> None:
    shares = tree.get("nominalConcurrencyShares")
    if shares is not None and shares < 0:
        problems.invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer")
    percent = tree.get("lendablePercent")
    if percent is not None and not 0 <= percent <= 100:
        problems.invalid(f"{path}.lendablePercent", percent, "must be between 0 and 100, inclusive")


def _limited(limited: Tree, path: str, problems: Problems) -> None:
    _shares(limited, path, problems)
    borrowing = limited.get("borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        problems.invalid(
            f"{path}.borrowingLimitPercent", borrowing, "if specified, must be a non-negative integer"
        )
    response, here = limited.get("limitResponse", {}), f"{path}.limitResponse"
    kind, queuing = response.get("type", ""), response.get("queuing")
    if kind == "Reject":
        if queuing is not None:
            problems.forbidden(f"{here}.queuing", "must be nil if limited.limitResponse.type is not Limited")
    elif kind == "Queue":
        if queuing is None:
            problems.required(f"{here}.queuing", "must not be empty if limited.limitResponse.type is Limited")
        else:
            _queuing(queuing, f"{here}.queuing", problems)
    else:
        problems.unsupported(f"{here}.type", kind, ("Queue", "Reject"))


def _queuing(queuing: Tree, path: str, problems: Problems) -> None:
    queues, hand = queuing.get("queues", 0), queuing.get("handSize", 0)
    if queuing.get("queueLengthLimit", 0) <= 0:
        problems.invalid(f"{path}.queueLengthLimit", queuing.get("queueLengthLimit", 0), "must be positive")
    if queues <= 0:
        problems.invalid(f"{path}.queues", queues, "must be positive")
    if queues > MOST_QUEUES:
        problems.invalid(f"{path}.queues", queues, f"must not be greater than {MOST_QUEUES}")
    if hand <= 0:
        problems.invalid(f"{path}.handSize", hand, "must be positive")
    elif hand > queues:
        problems.invalid(f"{path}.handSize", hand, f"should not be greater than queues ({queues})")
