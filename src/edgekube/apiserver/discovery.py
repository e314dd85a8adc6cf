"""
Discovery: which groups, versions and resources there are (Kubernetes docs, "API discovery").

Both the aggregated form (apidiscovery.k8s.io/v2) and the plain lists are made from the scheme's
rows; the answers are encoded once per change of the scheme.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edgekube.api.resource import AnyResource
from edgekube.apiserver.negotiate import offers
from edgekube.apiserver.request import JSON, Response, Tree
from edgekube.apiserver.route import not_served

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
AGGREGATED_VERSIONS = ("v2", "v2beta1")
CHANGE = ("get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Sub:
    """How a subresource shows in discovery: kind "" is the parent's."""

    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""
    kind: str = ""


SUBRESOURCES: Mapping[str, Sub] = {
    "status": Sub(CHANGE),
    "scale": Sub(CHANGE, "autoscaling", "v1", "Scale"),
    "log": Sub(("get",)),
    "exec": Sub(("create", "get"), "", "v1", "PodExecOptions"),
    "attach": Sub(("create", "get"), "", "v1", "PodAttachOptions"),
    "portforward": Sub(("create", "get"), "", "v1", "PodPortForwardOptions"),
    "proxy": Sub(("create", "delete", "get", "patch", "update"), "", "v1", "ProxyOptions"),
    "binding": Sub(("create",), "", "v1", "Binding"),
    "eviction": Sub(("create",), "policy", "v1", "Eviction"),
    "ephemeralcontainers": Sub(CHANGE),
    "finalize": Sub(("update",)),
    "token": Sub(("create",), "authentication.k8s.io", "v1", "TokenRequest"),
}
UNKNOWN = Sub(CHANGE)


@dataclass(frozen=True, slots=True)
class Extension:
    """A group version that an extension server serves: its APIResources, and whether it answers now."""

    group: str
    version: str
    resources: Sequence[Tree] = ()
    fresh: bool = True

    @property
    def api_version(self) -> str:
        """Group and version as objects have it."""
        return f"{self.group}/{self.version}"


Part = AnyResource | Extension
"""What a group version is made of; extensions come instead of rows."""


class Discovery:
    """Answers below /api and /apis; what an extension server serves is no more served from a row."""

    def __init__(self, rows: Iterable[AnyResource], extensions: Sequence[Extension] = ()) -> None:
        taken = {(extension.group, extension.version) for extension in extensions}
        mine = (row for row in rows if (row.group, row.version) not in taken)
        self._rows: tuple[Part, ...] = (*mine, *extensions)
        self._encoded: dict[str, bytes] = {}

    def answer(self, path: str, accept: str) -> Response:
        """Return the document at `path`; raises NotFound."""
        parts = [part for part in path.split("/") if part]
        if len(parts) == 1:
            for version in AGGREGATED_VERSIONS:
                if _wants_aggregated(accept, version):
                    return self._aggregated(parts[0], version)
        key = "/".join(parts)
        body = self._encoded.get(key)
        if body is None:
            body = self._encoded[key] = msgspec.json.encode(self._plain(parts))
        return Response(body=body)

    def _aggregated(self, root: str, version: str) -> Response:
        key = f"{root}#{version}"
        body = self._encoded.get(key)
        if body is None:
            items = [_group_item(group, rows) for group, rows in self._groups(core=root == "api").items()]
            tree = {
                "kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{version}", "metadata": {},
                "items": items,
            }  # fmt: skip
            body = self._encoded[key] = msgspec.json.encode(tree)
        return Response(
            body=body, content_type=AGGREGATED.format(version=version), headers=[("Vary", "Accept")]
        )

    def _plain(self, parts: Sequence[str]) -> Tree:
        match parts:
            case ["api"]:
                return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
            case ["apis"]:
                groups = [_group(group, rows) for group, rows in self._groups(core=False).items()]
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
            case ["api", version]:
                return self._resources("", version)
            case ["apis", group]:
                rows = self._groups(core=False).get(group)
                if rows is None:
                    raise not_served()
                return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, rows)}
            case ["apis", group, version]:
                return self._resources(group, version)
        raise not_served()

    def _resources(self, group: str, version: str) -> Tree:
        rows = [row for row in self._rows if (row.group, row.version) == (group, version)]
        if not rows:
            raise not_served()
        entries = [
            entry
            for row in rows
            for entry in (row.resources if isinstance(row, Extension) else _entries(row))
        ]
        return {
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": rows[0].api_version, "resources": entries,
        }  # fmt: skip

    def _groups(self, *, core: bool) -> dict[str, list[Part]]:
        groups: dict[str, list[Part]] = {}
        for row in self._rows:
            if (not row.group) == core:
                groups.setdefault(row.group, []).append(row)
        return groups


def _wants_aggregated(accept: str, version: str) -> bool:
    return any(
        offer.type == JSON
        and offer.parameters.get("as") == "APIGroupDiscoveryList"
        and offer.parameters.get("v") == version
        for offer in offers(accept)
    )


def _versions(rows: Iterable[Part]) -> list[str]:
    return list(dict.fromkeys(row.version for row in rows))


def _group(group: str, rows: Sequence[Part]) -> Tree:
    versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in _versions(rows)]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _group_item(group: str, rows: Sequence[Part]) -> Tree:
    versions = [
        _version_item(version, [row for row in rows if row.version == version]) for version in _versions(rows)
    ]
    return {"metadata": {"name": group, "creationTimestamp": None}, "versions": versions}


def _version_item(version: str, rows: Sequence[Part]) -> Tree:
    items: list[Tree] = []
    fresh = True
    for row in rows:
        if isinstance(row, Extension):
            items += _extension_items(row)
            fresh = fresh and row.fresh
        else:
            items.append(_resource_item(row))
    return {"version": version, "resources": items, "freshness": "Current" if fresh else "Stale"}


def _extension_items(extension: Extension) -> Iterable[Tree]:
    """Return an extension server's resources as the aggregated form has them."""
    items: dict[str, Tree] = {}
    for entry in sorted(extension.resources, key=lambda one: "/" in one["name"]):
        name, _, below = entry["name"].partition("/")
        kind = _kind(
            entry.get("group") or extension.group, entry.get("version") or extension.version, entry["kind"]
        )
        verbs = list(entry.get("verbs") or ())
        if below:
            if name in items:
                sub = {"subresource": below, "responseKind": kind, "verbs": verbs}
                items[name].setdefault("subresources", []).append(sub)
            continue
        item = items[name] = {
            "resource": name, "responseKind": kind,
            "scope": "Namespaced" if entry.get("namespaced") else "Cluster",
            "singularResource": entry.get("singularName", ""), "verbs": verbs,
        }  # fmt: skip
        item |= {field: list(entry[field]) for field in ("shortNames", "categories") if entry.get(field)}
    return items.values()


def _kind(group: str, version: str, kind: str) -> dict[str, str]:
    return {"group": group, "version": version, "kind": kind}


def _resource_item(row: AnyResource) -> Tree:
    item: Tree = {
        "resource": row.plural,
        "responseKind": _kind(row.group, row.version, row.kind),
        "scope": row.scope.value,
        "singularResource": row.singular or row.kind.lower(),
        "verbs": list(row.verbs),
    }
    for name, values in (("shortNames", row.short_names), ("categories", row.categories)):
        if values:
            item[name] = list(values)
    if row.subresources:
        item["subresources"] = [_sub_item(row, name) for name in row.subresources]
    return item


def _sub_item(row: AnyResource, name: str) -> Tree:
    sub = SUBRESOURCES.get(name, UNKNOWN)
    kind = _kind(sub.group, sub.version, sub.kind) if sub.kind else _kind(row.group, row.version, row.kind)
    return {"subresource": name, "responseKind": kind, "verbs": list(sub.verbs)}


def _entries(row: AnyResource) -> Iterable[dict[str, Any]]:
    entry: dict[str, Any] = {
        "name": row.plural,
        "singularName": row.singular or row.kind.lower(),
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": list(row.verbs),
    }
    for name, values in (("shortNames", row.short_names), ("categories", row.categories)):
        if values:
            entry[name] = list(values)
    yield entry
    for name in row.subresources:
        sub = SUBRESOURCES.get(name, UNKNOWN)
        below: dict[str, Any] = {
            "name": f"{row.plural}/{name}", "singularName": "", "namespaced": row.namespaced,
            "kind": sub.kind or row.kind, "verbs": list(sub.verbs),
        }  # fmt: skip
        if sub.kind and (sub.group, sub.version) != (row.group, row.version):
            below |= {"group": sub.group, "version": sub.version}
        yield below
