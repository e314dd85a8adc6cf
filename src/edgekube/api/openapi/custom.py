"""Custom resources in an OpenAPI document (apiextensions controller/openapi/builder)."""

from collections.abc import Callable
from typing import Any

from edgekube.api.openapi.components import reference
from edgekube.api.resource import AnyResource

Tree = dict[str, Any]
SchemaOf = Callable[[AnyResource], Tree]
"""Returns the schema of a custom resource as its definition has it, texts included."""
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
ROOTS = (f"{_META}.ObjectMeta", f"{_META}.ListMeta")
_TEXTS = {
    "apiVersion": "APIVersion defines the versioned schema of this representation of an object.",
    "kind": "Kind is a string value representing the REST resource this object represents.",
}


def name_of(row: AnyResource) -> str:
    """Return the definition's name: `com.example.v1.Widget`."""
    domain = ".".join(reversed(row.group.split(".")))
    return f"{domain}.{row.version}.{row.kind}"


def schemas(row: AnyResource, schema: Tree) -> Tree:
    """Return the schemas of a custom resource and of a list of them."""
    name = name_of(row)
    return {
        name: _whole(row, schema, row.kind, {"metadata": _metadata("ObjectMeta")}),
        f"{name}List": _whole(
            row,
            {
                "type": "object",
                "required": ["items"],
                "description": f"{row.kind}List is a list of {row.kind}",
            },
            f"{row.kind}List",
            {"metadata": _metadata("ListMeta"), "items": {"type": "array", "items": reference(name)}},
        ),
    }


def _whole(row: AnyResource, schema: Tree, kind: str, more: Tree) -> Tree:
    identity = {field: {"type": "string", "description": text} for field, text in _TEXTS.items()}
    return {
        **schema,
        "properties": {**schema.get("properties", {}), **identity, **more},
        "x-kubernetes-group-version-kind": [{"group": row.group, "version": row.version, "kind": kind}],
    }


def _metadata(kind: str) -> Tree:
    return {
        "description": "Standard object's metadata.",
        "allOf": [reference(f"{_META}.{kind}")],
        "default": {},
    }
