"""Reading a structural schema (JSONSchemaProps)."""

from typing import Any

Schema = dict[str, Any]
PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
INT_OR_STRING = "x-kubernetes-int-or-string"
LIST_TYPE, MAP_KEYS, MAP_TYPE = (
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
)
RULES = "x-kubernetes-validations"
IDENTITY = ("apiVersion", "kind", "metadata")
_WORDS = frozenset({"description", "example", "externalDocs", "title"})
_NAMES = frozenset({"properties", "patternProperties", "definitions"})
"""Fields whose keys are names of other things, so that a property may be called `description`."""
_VALUES = frozenset({"default", "enum"})


def lean(schema: Schema) -> Schema:
    """Return a schema without texts for people, which are most of a large one."""
    found: Schema = {}
    for name, value in schema.items():
        if name in _WORDS:
            continue
        if name in _VALUES:
            found[name] = value
        elif name in _NAMES and isinstance(value, dict):
            found[name] = {key: lean(below) for key, below in value.items()}
        elif isinstance(value, dict):
            found[name] = lean(value)
        elif isinstance(value, list):
            found[name] = [lean(item) if isinstance(item, dict) and name != RULES else item for item in value]
        else:
            found[name] = value
    return found


def below(schema: Schema, name: str) -> Schema | None:
    """Return the schema of a field or map key; None when nothing is said of it, {} when anything goes."""
    properties = schema.get("properties") or {}
    if name in properties:
        found: Schema = properties[name]
        return found
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        return more
    return {PRESERVE: True} if more is True else None


def field_path(path: str, name: str) -> str:
    """Return the path of a field."""
    return f"{path}.{name}" if path else name
