"""What is noted of which request (audit.k8s.io/v1 Policy). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekube.apiserver.authz import Access
from edgekube.apiserver.identity import User
from edgekube.lib.errors import EdgekubeError

LEVELS = ("None", "Metadata", "Request", "RequestResponse")
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
ALL = "*"
Tree = dict[str, Any]


class BadPolicy(EdgekubeError):
    """The policy file is not one."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; the first that matches decides."""

    level: str
    tree: Tree
    omitted: frozenset[str]
    bare: bool
    """Whether managedFields are left out."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules in order."""

    rules: Sequence[Rule]

    def of(self, user: User, access: Access) -> Rule:
        """Return the rule for a request; when none is about it nothing is noted."""
        return next((rule for rule in self.rules if _matches(rule.tree, user, access)), NOTHING)


NOTHING = Rule("None", {}, frozenset(), bare=False)
EVERYTHING = Policy((Rule("Metadata", {}, frozenset({"RequestReceived"}), bare=False),))
"""The policy when there is a log but no policy: what kube-apiserver's documentation begins with."""


def policy_of(tree: Any) -> Policy:
    """Read a Policy; raises BadPolicy."""
    if not isinstance(tree, dict) or (tree.get("apiVersion"), tree.get("kind")) != (
        "audit.k8s.io/v1",
        "Policy",
    ):
        raise BadPolicy("audit policy: must be kind Policy of audit.k8s.io/v1")
    rules = tree.get("rules")
    if not isinstance(rules, list) or not rules:
        raise BadPolicy("audit policy: rules: Required value: at least one")
    omitted = _stages(tree.get("omitStages"), "omitStages")
    bare = bool(tree.get("omitManagedFields"))
    return Policy(
        tuple(_rule(rule, f"rules[{index}]", omitted, bare=bare) for index, rule in enumerate(rules))
    )


def _rule(tree: Any, where: str, omitted: frozenset[str], *, bare: bool) -> Rule:
    if not isinstance(tree, dict) or tree.get("level") not in LEVELS:
        raise BadPolicy(
            f"audit policy: {where}.level: Unsupported value: supported values: {', '.join(LEVELS)}"
        )
    if tree.get("nonResourceURLs") and (tree.get("resources") or tree.get("namespaces")):
        raise BadPolicy(
            f"audit policy: {where}: rules cannot apply to both regular resources and non-resource URLs"
        )
    own = _stages(tree.get("omitStages"), f"{where}.omitStages")
    return Rule(tree["level"], tree, omitted | own, bare=bool(tree.get("omitManagedFields", bare)))


def _stages(value: Any, where: str) -> frozenset[str]:
    stages = frozenset(value or ())
    if not stages <= set(STAGES):
        raise BadPolicy(f"audit policy: {where}: Unsupported value: supported values: {', '.join(STAGES)}")
    return stages


def _matches(rule: Tree, user: User, access: Access) -> bool:
    if (users := rule.get("users")) and user.name not in users:
        return False
    if (groups := rule.get("userGroups")) and not set(groups) & set(user.groups):
        return False
    if (verbs := rule.get("verbs")) and access.verb not in verbs:
        return False
    if rule.get("namespaces") or rule.get("resources"):
        return bool(access.plural) and _resource(rule, access)
    if urls := rule.get("nonResourceURLs"):
        return not access.plural and any(_path(url, access.path) for url in urls)
    return True


def _resource(rule: Tree, access: Access) -> bool:
    if (namespaces := rule.get("namespaces")) and access.namespace not in namespaces:
        return False
    return not rule.get("resources") or any(_group(each, access) for each in rule["resources"])


def _group(tree: Tree, access: Access) -> bool:
    if tree.get("group", "") != access.group:
        return False
    if (names := tree.get("resourceNames")) and access.name not in names:
        return False
    wanted = tree.get("resources")
    if not wanted:
        return True
    full = f"{access.plural}/{access.subresource}" if access.subresource else access.plural
    others = (
        {ALL, full, f"{access.plural}/*", f"*/{access.subresource}"} if access.subresource else {ALL, full}
    )
    return bool(others & set(wanted))


def _path(url: str, path: str) -> bool:
    return url in {ALL, path} or (url.endswith(ALL) and path.startswith(url.removesuffix(ALL)))
