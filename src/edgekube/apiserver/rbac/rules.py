"""What a rule allows, and whether rules cover others. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from edgekube.api.types.rbac_v1 import PolicyRule
from edgekube.apiserver.authz import Access

ALL = "*"


def allows(rule: PolicyRule, access: Access) -> bool:
    """Tell whether a rule allows an access."""
    if not _has(rule.verbs, access.verb):
        return False
    if not access.plural:
        return any(_path(url, access.path) for url in rule.non_resource_urls)
    return (
        _has(rule.api_groups, access.group)
        and _resource(rule.resources, access.plural, access.subresource)
        and (not rule.resource_names or access.name in rule.resource_names)
    )


def _has(values: Sequence[str], wanted: str) -> bool:
    return ALL in values or wanted in values


def _resource(resources: Sequence[str], plural: str, subresource: str) -> bool:
    full = f"{plural}/{subresource}" if subresource else plural
    return (
        ALL in resources or full in resources or (bool(subresource) and f"{ALL}/{subresource}" in resources)
    )


def _path(url: str, path: str) -> bool:
    return url in {ALL, path} or (url.endswith(ALL) and path.startswith(url.removesuffix(ALL)))


def uncovered(owned: Sequence[PolicyRule], wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
    """Return the single permissions in `wanted` that `owned` does not give: what would be an escalation."""
    return [
        single
        for rule in wanted
        for single in _singles(rule)
        if not any(_covers(own, single) for own in owned)
    ]


def _singles(rule: PolicyRule) -> Iterator[PolicyRule]:
    """Take a rule apart into rules of one verb and one thing each."""
    for verb, url in product(rule.verbs, rule.non_resource_urls):
        yield PolicyRule(verbs=(verb,), non_resource_urls=(url,))
    names = rule.resource_names or ("",)
    for verb, group, resource, name in product(rule.verbs, rule.api_groups, rule.resources, names):
        yield PolicyRule(
            verbs=(verb,), api_groups=(group,), resources=(resource,), resource_names=(name,) if name else ()
        )


def _covers(own: PolicyRule, single: PolicyRule) -> bool:
    if not _has(own.verbs, single.verbs[0]):
        return False
    if single.non_resource_urls:
        return any(_path(url, single.non_resource_urls[0]) for url in own.non_resource_urls)
    plural, _, subresource = single.resources[0].partition("/")
    named = not own.resource_names or bool(
        single.resource_names and single.resource_names[0] in own.resource_names
    )
    return (
        named and _has(own.api_groups, single.api_groups[0]) and _resource(own.resources, plural, subresource)
    )


def describe(rule: PolicyRule) -> str:
    """Return a rule as kube-apiserver prints missing ones."""
    if rule.non_resource_urls:
        return f"{{NonResourceURLs:{_list(rule.non_resource_urls)}, Verbs:{_list(rule.verbs)}}}"
    names = f", ResourceNames:{_list(rule.resource_names)}" if rule.resource_names else ""
    return f"{{APIGroups:{_list(rule.api_groups)}, Resources:{_list(rule.resources)}{names}, Verbs:{_list(rule.verbs)}}}"


def _list(values: Sequence[str]) -> str:
    return "[" + " ".join(f'"{value}"' for value in values) + "]"
