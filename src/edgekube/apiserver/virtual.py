"""
Resources that are questions, not objects: POST one, get the answer in its status. A table.

authentication.k8s.io/v1 SelfSubjectReview, TokenReview; authorization.k8s.io/v1
SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview; core v1 Binding.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edgekube.api.errors import BadRequest, StatusError
from edgekube.api.kinds.core_v1 import PODS
from edgekube.api.resource import AnyResource, Resource, Scope
from edgekube.api.types import authentication_v1, authorization_v1, core_v1
from edgekube.api.types.rbac_v1 import PolicyRule
from edgekube.apiserver.authn.base import Credentials
from edgekube.apiserver.authz import Access
from edgekube.apiserver.exchange import Exchange, checked
from edgekube.apiserver.identity import UNAUTHENTICATED, User
from edgekube.apiserver.request import Response, Tree
from edgekube.apiserver.route import Target
from edgekube.apiserver.subresources import bind_to

Answer = Callable[[Exchange, Tree], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Virtual:
    """A row and what answers it; the body is checked against the row's kind first."""

    row: AnyResource
    answer: Answer

    async def create(self, exchange: Exchange) -> Response:
        """Answer."""
        tree = checked(exchange, exchange.tree(), self.row.api_version, self.row.kind)
        return await self.answer(exchange, tree)


def _with_status(tree: Tree, status: Tree) -> Response:
    answer = {
        "kind": tree["kind"],
        "apiVersion": tree["apiVersion"],
        "metadata": {},
        **tree,
        "status": status,
    }
    return Response(code=201, body=msgspec.json.encode(answer))


async def who_am_i(exchange: Exchange, tree: Tree) -> Response:
    """SelfSubjectReview."""
    return _with_status(tree, {"userInfo": exchange.request.user.tree()})


async def review_token(exchange: Exchange, tree: Tree) -> Response:
    """TokenReview."""
    spec = tree.get("spec") or {}
    token, asked, tokens = spec.get("token", ""), spec.get("audiences") or (), exchange.parts.tokens
    if asked and tokens and (user := await tokens.user_of(token, asked)) is not None:
        meant = tokens.audiences(token, asked)
        return _with_status(tree, {"authenticated": True, "user": user.tree(), "audiences": meant})
    known = list(tokens.config.audiences) if tokens else []
    meant = [audience for audience in known if not asked or audience in asked]
    if asked and not meant:
        return _with_status(tree, {"error": "the token is not valid for the audiences asked for", "user": {}})
    try:
        user = await exchange.parts.authentication.user_of(Credentials(token=token))
    except StatusError:
        user = None
    if user is None or UNAUTHENTICATED in user.groups:
        return _with_status(tree, {"error": "the token is not valid", "user": {}})
    return _with_status(tree, {"authenticated": True, "user": user.tree(), "audiences": meant})


def _access(spec: Tree) -> Access:
    if resource := spec.get("resourceAttributes"):
        return Access(
            verb=resource.get("verb", ""),
            group=resource.get("group", ""),
            plural=resource.get("resource", ""),
            subresource=resource.get("subresource", ""),
            namespace=resource.get("namespace", ""),
            name=resource.get("name", ""),
        )
    if path := spec.get("nonResourceAttributes"):
        return Access(verb=path.get("verb", ""), path=path.get("path", ""))
    raise BadRequest("spec: exactly one of nonResourceAttributes or resourceAttributes must be specified")


async def may_i(exchange: Exchange, tree: Tree) -> Response:
    """SelfSubjectAccessReview."""
    allowed = exchange.parts.authorization.allows(exchange.request.user, _access(tree.get("spec") or {}))
    return _with_status(tree, {"allowed": allowed})


async def may_they(exchange: Exchange, tree: Tree) -> Response:
    """SubjectAccessReview."""
    spec = tree.get("spec") or {}
    if not spec.get("user") and not spec.get("groups"):
        raise BadRequest("spec: at least one of user or group must be specified")
    user = User(
        spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), spec.get("extra") or {}
    )
    return _with_status(tree, {"allowed": exchange.parts.authorization.allows(user, _access(spec))})


async def may_they_here(exchange: Exchange, tree: Tree) -> Response:
    """LocalSubjectAccessReview: about the namespace it is posted to, and no other."""
    asked = ((tree.get("spec") or {}).get("resourceAttributes") or {}).get("namespace", "")
    if asked != exchange.target.namespace:
        raise BadRequest("spec.resourceAttributes.namespace: must match metadata.namespace")
    return await may_they(exchange, tree)


async def what_may_i(exchange: Exchange, tree: Tree) -> Response:
    """SelfSubjectRulesReview: what roles give, or everything."""
    user, parts = exchange.request.user, exchange.parts
    namespace = (tree.get("spec") or {}).get("namespace", "")
    if not namespace:
        raise BadRequest("no namespace on request")
    rules = parts.rbac.rules(user, namespace)
    if parts.authorization.allows(user, Access(verb="*", group="*", plural="*")):
        rules = [*EVERYTHING, *rules]
    status = {
        "resourceRules": [
            _listed(rule, "api_groups", "resources", "resource_names") for rule in rules if rule.resources
        ],
        "nonResourceRules": [_listed(rule, "non_resource_urls") for rule in rules if rule.non_resource_urls],
        "incomplete": False,
    }
    return _with_status(tree, status)


EVERYTHING = (
    PolicyRule(verbs=("*",), api_groups=("*",), resources=("*",)),
    PolicyRule(verbs=("*",), non_resource_urls=("*",)),
)
_NAMES = {
    "api_groups": "apiGroups",
    "resources": "resources",
    "resource_names": "resourceNames",
    "non_resource_urls": "nonResourceURLs",
}


def _listed(rule: PolicyRule, *fields: str) -> Tree:
    parts = {_NAMES[name]: list(getattr(rule, name)) for name in fields}
    return {"verbs": list(rule.verbs), **{name: values for name, values in parts.items() if values}}


async def bind_by_name(exchange: Exchange, tree: Tree) -> Response:
    """Binding with the pod's name in its metadata."""
    name = (tree.get("metadata") or {}).get("name", "")
    if not name:
        raise BadRequest("name is required")
    return await bind_to(exchange, Target(PODS, exchange.target.namespace, name), tree)


def _row(group: str, kind: str, struct: type[Any], scope: Scope = Scope.CLUSTER) -> AnyResource:
    return Resource(group, "v1", kind, f"{kind.lower()}s", struct, scope=scope, verbs=("create",))


VIRTUAL: Sequence[Virtual] = (
    Virtual(_row("", "Binding", core_v1.Binding, Scope.NAMESPACED), bind_by_name),
    Virtual(
        _row("authentication.k8s.io", "SelfSubjectReview", authentication_v1.SelfSubjectReview), who_am_i
    ),
    Virtual(_row("authentication.k8s.io", "TokenReview", authentication_v1.TokenReview), review_token),
    Virtual(
        _row("authorization.k8s.io", "SelfSubjectAccessReview", authorization_v1.SelfSubjectAccessReview),
        may_i,
    ),
    Virtual(
        _row("authorization.k8s.io", "SelfSubjectRulesReview", authorization_v1.SelfSubjectRulesReview),
        what_may_i,
    ),
    Virtual(
        _row("authorization.k8s.io", "SubjectAccessReview", authorization_v1.SubjectAccessReview), may_they
    ),
    Virtual(
        _row(
            "authorization.k8s.io",
            "LocalSubjectAccessReview",
            authorization_v1.LocalSubjectAccessReview,
            Scope.NAMESPACED,
        ),
        may_they_here,
    ),
)


_BY_PATH = {(entry.row.group, entry.row.version, entry.row.plural): entry for entry in VIRTUAL}


def by_path(group: str, version: str, plural: str) -> Virtual | None:
    """Return the row served at that path."""
    return _BY_PATH.get((group, version, plural))
