"""Schemas of an OpenAPI document: every definition that can be reached, with its texts."""

from collections.abc import Iterable, Iterator
from typing import Any

from edgekube.api.schema import Schemas

Tree = dict[str, Any]
_EMPTY: Tree = {"string": "", "integer": 0, "boolean": False, "number": 0}
_WRITTEN_ANEW: dict[str, Tree] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    }
}


def reference(name: str) -> Tree:
    """Return a reference to a definition."""
    return {"$ref": f"#/components/schemas/{name}"}


def components(schemas: Schemas, roots: Iterable[str]) -> Tree:
    """Return the schemas of `roots` and all they refer to, by name."""
    texts: dict[str, dict[str, dict[str, str]]] = {}
    found: Tree = {}
    waiting = sorted(roots)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        definition = schemas.definition(name)
        package, _, short = name.rpartition(".")
        if package not in texts:
            texts[package] = schemas.descriptions(package)
        found[name] = _schema(name, definition, texts[package].get(short, {}))
        waiting.extend(_references(definition))
    return dict(sorted(found.items()))


def _references(node: Tree) -> Iterator[str]:
    if ref := node.get("$ref"):
        yield ref
    for inner in (node.get("items"), node.get("additionalProperties"), *node.get("properties", {}).values()):
        if inner:
            yield from _references(inner)


def _schema(name: str, definition: Tree, texts: dict[str, str]) -> Tree:
    schema = {**definition, **_WRITTEN_ANEW.get(name, {})}
    if texts.get(""):
        schema["description"] = texts[""]
    if "properties" in definition:
        required = definition.get("required", ())
        schema["properties"] = {
            key: _property(spec, texts.get(key, ""), needed=key in required)
            for key, spec in definition["properties"].items()
        }
    return schema


def _property(spec: Tree, text: str, *, needed: bool) -> Tree:
    node = _node(spec, needed=needed)
    if text:
        node["description"] = text
    return node


def _node(spec: Tree, *, needed: bool) -> Tree:
    # A reference cannot stand beside a description in OpenAPI 3.0, so it is wrapped.
    node = {key: value for key, value in spec.items() if key != "$ref"}
    if "$ref" in spec:
        node["allOf"] = [reference(spec["$ref"])]
    if needed and spec.get("type") in _EMPTY and "default" not in node:
        node["default"] = _EMPTY[spec["type"]]
    for key in ("items", "additionalProperties"):
        if key in spec:
            node[key] = _node(spec[key], needed=True)
    return node
