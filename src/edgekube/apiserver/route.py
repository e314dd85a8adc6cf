"""
What a path and a method mean (Kubernetes docs, "API Concepts"; RequestInfo in apiserver).

`/api/v1/namespaces/<ns>/<plural>/<name>/<subresource>`, `/apis/<group>/<version>/…` alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edgekube.api.errors import MethodNotAllowed, NotFound
from edgekube.api.resource import AnyResource, Key
from edgekube.api.scheme import Scheme
from edgekube.apiserver.request import truthy

ON_COLLECTION = {"GET": "list", "HEAD": "list", "POST": "create", "DELETE": "deletecollection"}
ON_OBJECT = {
    "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create",
}  # fmt: skip
METHODS = {
    "get": "GET", "list": "GET", "watch": "GET", "create": "POST", "update": "PUT", "patch": "PATCH",
    "delete": "DELETE", "deletecollection": "DELETE",
}  # fmt: skip
NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class Address:
    """A resource path taken apart, before anybody knows whether such a resource exists."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    watching: bool = False
    """Whether the path itself asks for a watch (`/api/v1/watch/…`, deprecated)."""


@dataclass(frozen=True, slots=True)
class Target:
    """The object, subresource or collection a request is about."""

    row: AnyResource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        """The object's key."""
        return Key(self.namespace, self.name)


def split(path: str) -> Address | None:
    """Take a resource path apart; None for anything else (discovery, health, …)."""
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    watching = rest[0] == "watch"
    if watching:
        rest = rest[1:]
        if not rest:
            return None
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in NAMESPACE_SUBRESOURCES:
        return _address(group, version, rest[2:], rest[1], watching=watching)
    return _address(group, version, rest, "", watching=watching)


def _address(group: str, version: str, rest: list[str], namespace: str, *, watching: bool) -> Address:
    padded = [*rest[:3], "", "", ""]
    return Address(group, version, padded[0], namespace, padded[1], padded[2], "/".join(rest[3:]), watching)


def resolve(scheme: Scheme, address: Address) -> Target:
    """Return what `address` names; raises NotFound as Kubernetes words it."""
    row = scheme.by_path(address.group, address.version, address.plural)
    if row is None or (address.namespace and not row.namespaced):
        raise not_served()
    return Target(row, address.namespace, address.name, address.subresource)


def not_served() -> NotFound:
    """Return the answer to a path that nothing serves."""
    return NotFound("the server could not find the requested resource")


def verb_of(method: str, address: Address, query: Mapping[str, str]) -> str:
    """Return the API verb; raises MethodNotAllowed."""
    table = ON_OBJECT if address.name else ON_COLLECTION
    verb = table.get(method)
    if verb is None:
        raise MethodNotAllowed("the server does not allow this method on the requested resource")
    if address.watching and method == "GET":
        return "watch"
    if verb == "list" and truthy(query.get("watch")):
        return "watch"
    if verb == "get" and truthy(query.get("watch")) and not address.subresource:
        return "watch"
    return verb
