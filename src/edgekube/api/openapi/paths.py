"""Paths of an OpenAPI document: what can be done with each resource."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgekube.api.openapi import custom
from edgekube.api.openapi.components import reference
from edgekube.api.resource import AnyResource
from edgekube.api.schema import Schemas

Tree = dict[str, Any]
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_STATUS = f"{_META}.Status"
_DELETE_OPTIONS = f"{_META}.DeleteOptions"
_PATCH = f"{_META}.Patch"
_ALWAYS = (_STATUS, _DELETE_OPTIONS, _PATCH, f"{_META}.WatchEvent", f"{_META}.APIResourceList")
_JSON = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_PATCHES = (
    "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)  # fmt: skip
_CUSTOM_PATCHES = tuple(name for name in _PATCHES if "strategic" not in name)
"""kubectl apply sends a strategic patch wherever one is offered; custom resources take none."""


class _Kind(NamedTuple):
    group: str
    version: str
    kind: str
    definition: str
    patches: tuple[str, ...] = _PATCHES


@dataclass(frozen=True, slots=True)
class _Subresource:
    methods: tuple[str, ...]
    kind: tuple[str, str, str] | None = None
    """Group, version and kind of its objects; None for the resource's own."""
    plain: bool = False
    """Text or a stream, no object."""


_READ_WRITE = ("get", "put", "patch")
_SUBRESOURCES = {
    "status": _Subresource(_READ_WRITE),
    "ephemeralcontainers": _Subresource(_READ_WRITE),
    "finalize": _Subresource(("put",)),
    "scale": _Subresource(_READ_WRITE, ("autoscaling", "v1", "Scale")),
    "binding": _Subresource(("post",), ("", "v1", "Binding")),
    "eviction": _Subresource(("post",), ("policy", "v1", "Eviction")),
    "token": _Subresource(("post",), ("authentication.k8s.io", "v1", "TokenRequest")),
    "log": _Subresource(("get",), plain=True),
    "exec": _Subresource(("get", "post"), plain=True),
    "attach": _Subresource(("get", "post"), plain=True),
    "portforward": _Subresource(("get", "post"), plain=True),
    "proxy": _Subresource(("get", "post", "put", "patch", "delete"), plain=True),
}
_QUERIES: dict[str, tuple[tuple[str, str], ...]] = {
    "list": (
        ("allowWatchBookmarks", "boolean"), ("continue", "string"), ("fieldSelector", "string"),
        ("labelSelector", "string"), ("limit", "integer"), ("resourceVersion", "string"),
        ("resourceVersionMatch", "string"), ("sendInitialEvents", "boolean"), ("timeoutSeconds", "integer"),
        ("watch", "boolean"),
    ),
    "get": (),
    "post": (("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")),
    "put": (("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")),
    "patch": (
        ("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean"),
    ),
    "delete": (
        ("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("orphanDependents", "boolean"),
        ("propagationPolicy", "string"),
    ),
}  # fmt: skip
_QUERIES["deletecollection"] = (*_QUERIES["delete"], *_QUERIES["list"])


def paths(schemas: Schemas, rows: Iterable[AnyResource]) -> tuple[Tree, set[str]]:
    """Return the paths of `rows` and the definitions they speak of."""
    found: Tree = {}
    roots = set(_ALWAYS)
    for row in rows:
        own, listed = _kinds(schemas, row)
        if own is None:
            continue
        roots |= {own.definition} | ({listed.definition} if listed else set())
        found |= _collection(row, own, listed)
        found[_path(row, "{name}")] = _item(row, own)
        for name in row.subresources:
            sub = _SUBRESOURCES.get(name)
            if sub:
                kind = _kind(schemas, *sub.kind[:2], kind=sub.kind[2]) if sub.kind else own
                shown = (kind or own)._replace(patches=own.patches)
                found[_path(row, "{name}", name)] = _subresource(row, sub, shown)
                roots.add((kind or own).definition)
    return dict(sorted(found.items())), roots


def _kinds(schemas: Schemas, row: AnyResource) -> tuple[_Kind | None, _Kind | None]:
    """Return a row's kind and that of its lists."""
    if row.custom is not None:
        name = custom.name_of(row)
        own = _Kind(row.group, row.version, row.kind, name, _CUSTOM_PATCHES)
        return own, own._replace(kind=f"{row.kind}List", definition=f"{name}List")
    kinds = (row.kind, f"{row.kind}List")
    one, many = (_kind(schemas, row.group, row.version, kind=kind) for kind in kinds)
    return one, many


def _kind(schemas: Schemas, group: str, version: str, *, kind: str) -> _Kind | None:
    definition = schemas.definition_of(f"{group}/{version}" if group else version, kind)
    return _Kind(group, version, kind, definition) if definition else None


def _path(row: AnyResource, *rest: str) -> str:
    return row.path("{namespace}", *rest)


def _collection(row: AnyResource, own: _Kind, listed: _Kind | None) -> Tree:
    answer = listed.definition if listed else own.definition
    item: Tree = {}
    if "list" in row.verbs:
        item["get"] = _operation("list", own, answer=answer)
    if "create" in row.verbs:
        item["post"] = _operation("post", own, answer=own.definition, body=own.definition)
    if "deletecollection" in row.verbs:
        item["delete"] = _operation("deletecollection", own, answer=_STATUS, body=_DELETE_OPTIONS)
    found = {_path(row): _with_parameters(item, row, named=False)}
    if row.namespaced and "list" in row.verbs:
        found[row.path()] = {"get": _operation("list", own, answer=answer)}
    return found


def _item(row: AnyResource, own: _Kind) -> Tree:
    item: Tree = {}
    for verb, method in (("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")):
        if verb not in row.verbs:
            continue
        body = {"put": own.definition, "patch": _PATCH, "delete": _DELETE_OPTIONS}.get(method, "")
        answer = _STATUS if method == "delete" else own.definition
        item[method] = _operation(method, own, answer=answer, body=body)
    return _with_parameters(item, row, named=True)


def _subresource(row: AnyResource, sub: _Subresource, kind: _Kind) -> Tree:
    item: Tree = {}
    for method in sub.methods:
        if sub.plain:
            item[method] = {**_operation("connect", kind, answer=""), "x-kubernetes-action": "connect"}
        else:
            body = {"get": "", "patch": _PATCH}.get(method, kind.definition)
            item[method] = _operation(method, kind, answer=kind.definition, body=body)
    return _with_parameters(item, row, named=True)


def _operation(action: str, kind: _Kind, *, answer: str, body: str = "") -> Tree:
    operation: Tree = {
        "parameters": [
            {"in": "query", "name": name, "schema": {"type": of, "uniqueItems": True}}
            for name, of in _QUERIES.get(action, ())
        ],
        "responses": {
            "200": {"description": "OK", **({"content": _content(answer, _JSON)} if answer else {})}
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
    }
    if body:
        operation["requestBody"] = {"content": _content(body, kind.patches if body == _PATCH else _JSON)}
    return operation


def _content(definition: str, media: tuple[str, ...]) -> Tree:
    return {name: {"schema": reference(definition)} for name in media}


def _with_parameters(item: Tree, row: AnyResource, *, named: bool) -> Tree:
    names = (["name"] if named else []) + (["namespace"] if row.namespaced else [])
    item["parameters"] = [
        {"in": "path", "name": name, "required": True, "schema": {"type": "string", "uniqueItems": True}}
        for name in names
    ]
    return item
