"""From a CustomResourceDefinition to the rows of the scheme it stands for. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from edgekube.api import jsonpath, structural
from edgekube.api.custom import OPEN, Column, CustomKind, Rules, Scale
from edgekube.api.resource import AnyResource, Resource, Scope
from edgekube.apiserver.request import Tree


def rows_of(definition: Tree, *, rules: Mapping[str, Rules] | None = None) -> Sequence[AnyResource]:
    """Return a row for every served version, the preferred one first; `rules` are CEL rules by version."""
    spec = definition["spec"]
    served = [version for version in spec["versions"] if version.get("served")]
    served.sort(key=lambda version: priority(version["name"]))
    return [_row(definition, version, (rules or {}).get(version["name"])) for version in served]


def storage_version(definition: Tree) -> str:
    """Return the version objects are stored in."""
    name: str = next(version["name"] for version in definition["spec"]["versions"] if version.get("storage"))
    return name


def _row(definition: Tree, version: Tree, rules: Rules | None) -> AnyResource:
    spec, accepted = definition["spec"], names_of(definition)
    subresources = version.get("subresources") or {}
    return Resource(
        spec["group"], version["name"], accepted["kind"], accepted["plural"], dict,
        scope=Scope(spec["scope"]), singular=accepted.get("singular", ""),
        short_names=tuple(accepted.get("shortNames") or ()), categories=tuple(accepted.get("categories") or ()),
        subresources=tuple(name for name in ("status", "scale") if name in subresources),
        custom=_kind(definition, version, rules),
    )  # fmt: skip


def names_of(definition: Tree) -> Tree:
    """Return the names that were accepted, or those wished for before anybody looked."""
    accepted: Tree = (definition.get("status") or {}).get("acceptedNames") or {}
    return accepted if accepted.get("plural") else definition["spec"]["names"]


def _kind(definition: Tree, version: Tree, rules: Rules | None) -> CustomKind:
    schema = (version.get("schema") or {}).get("openAPIV3Schema") or OPEN
    scale = (version.get("subresources") or {}).get("scale")
    chosen = [field["jsonPath"] for field in version.get("selectableFields") or ()]
    return CustomKind(
        schema=structural.lean(schema),
        preserve=bool(definition["spec"].get("preserveUnknownFields")),
        columns=tuple(_column(column) for column in version.get("additionalPrinterColumns") or ()),
        fields={path.removeprefix("."): jsonpath.fields(path) or () for path in chosen},
        scale=_scale(scale) if scale else None,
        rules=rules,
        revision=f"{definition['metadata']['uid']}.{definition['metadata'].get('generation', 1)}",
    )


def _column(column: Tree) -> Column:
    return Column(
        column["name"], column["type"], column["jsonPath"], column.get("format", ""),
        column.get("description", ""), column.get("priority", 0),
    )  # fmt: skip


def _scale(scale: Tree) -> Scale:
    return Scale(
        jsonpath.fields(scale["specReplicasPath"]) or (),
        jsonpath.fields(scale["statusReplicasPath"]) or (),
        jsonpath.fields(scale.get("labelSelectorPath") or "") or (),
    )


def priority(version: str) -> tuple[int, int, int, str]:
    """Order versions as Kubernetes prefers them: v10, v2, v1, v2beta1, v1alpha3, then all others by name."""
    body = version.removeprefix("v")
    for word, stage in (("alpha", 2), ("beta", 1)):
        major, found, minor = body.partition(word)
        if found and major.isdigit() and minor.isdigit():
            return stage, -int(major), -int(minor), ""
    if version.startswith("v") and body.isdigit():
        return 0, -int(body), 0, ""
    return 3, 0, 0, version


def fingerprint(definition: Tree) -> bytes:
    """Return what tells whether the rows have to be made anew."""
    return msgspec.json.encode([
        definition["spec"], names_of(definition), bool(definition["metadata"].get("deletionTimestamp")),
    ])  # fmt: skip
