"""What fields are made of, as far as ownership cares: whole values, structs, maps, lists by key, sets."""

from collections.abc import Callable, Container, Mapping
from enum import Enum
from typing import Any

from edgekube.api.managed import sets
from edgekube.api.structural import schema as structural

Tree = dict[str, Any]


class Form(Enum):
    """How a value is owned."""

    WHOLE = "atomic"
    STRUCT = "named fields"
    MAP = "any keys"
    KEYED = "list of structs, told apart by keys"
    SET = "list of scalars, told apart by value"
    DEDUCED = "nobody says: maps are maps, all else is whole"


class Shape:
    """
    One value.

    `children` has the shape of every field or map key, None for a field that does not exist; `item`
    returns that of a list's items (or of a map's values). Every write walks whole objects by these,
    so what a form implies is worked out once.
    """

    __slots__ = ("children", "defaults", "form", "item", "keys", "lists", "maps")

    def __init__(
        self,
        form: Form,
        children: "Children | None" = None,
        *,
        item: "Callable[[], Shape] | None" = None,
        keys: tuple[str, ...] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.form = form
        self.item = item
        self.keys = keys
        self.defaults = defaults or {}
        """What a key of a list's items is when an item does not say."""
        self.maps = form in {Form.STRUCT, Form.MAP, Form.DEDUCED}
        """Whether a dict of this shape has fields that are owned apart from it."""
        self.lists = form in {Form.KEYED, Form.SET}
        """Whether a list of this shape has items that are owned apart from it."""
        if children is None:
            children = Children(self._implied)
        self.children = children

    def _implied(self, _name: str) -> "Shape | None":
        if self.form is Form.MAP and self.item is not None:
            return self.item()
        return self if self.form is Form.DEDUCED else None

    def element(self, item: Any) -> str | None:
        """Return the path element of a list's item; None when it has no key."""
        if self.form is Form.SET:
            return sets.value_of(item)
        if not isinstance(item, dict):
            return None
        found = {key: item.get(key, self.defaults.get(key)) for key in self.keys}
        known = {key: value for key, value in found.items() if value is not None}
        return sets.key_of(known) if known else None


class Children(dict[str, "Shape | None"]):
    """Shapes by name, read when they are first met; of `fixed` names only, for others are the clients' to choose."""

    def __init__(self, read: Callable[[str], Shape | None], fixed: Container[str] = ()) -> None:
        super().__init__()
        self._read = read
        self._fixed = fixed

    def __missing__(self, name: str) -> Shape | None:
        found = self._read(name)
        if name in self._fixed:
            self[name] = found
        return found


WHOLE, DEDUCED = Shape(Form.WHOLE), Shape(Form.DEDUCED)
KEY_DEFAULTS = {"protocol": "TCP"}
"""Defaults of keys of built-in lists (ports)."""


class BuiltIn:
    """Shapes of built-in definitions, read when they are first met."""

    def __init__(self, definition: Callable[[str], Tree]) -> None:
        self._definition = definition
        self._shapes: dict[str, Shape] = {}

    def of(self, name: str) -> Shape:
        """Return the shape of a definition."""
        known = self._shapes.get(name)
        if known is None:
            known = self._shapes[name] = self._read(self._definition(name))
        return known

    def _read(self, spec: Tree) -> Shape:
        if "$ref" in spec:
            found = self.of(spec["$ref"])
            return WHOLE if spec.get("x-kubernetes-map-type") == "atomic" else found
        if spec.get("type") == "array":
            return self._list(spec)
        if spec.get("x-kubernetes-map-type") == "atomic":
            return WHOLE
        more = spec.get("additionalProperties")
        if isinstance(more, dict):
            return Shape(Form.MAP, item=_once(lambda: self._read(more)))
        properties = spec.get("properties")
        if not properties:
            return WHOLE
        return Shape(Form.STRUCT, Children(lambda name: self._field(properties, name), properties))

    def _field(self, properties: Tree, name: str) -> Shape | None:
        return self._read(properties[name]) if name in properties else None

    def _list(self, spec: Tree) -> Shape:
        kind, items = spec.get("x-kubernetes-list-type"), spec.get("items") or {}
        if kind == "set":
            return Shape(Form.SET)
        if kind != "map":
            return WHOLE
        keys = tuple(spec.get("x-kubernetes-list-map-keys") or ())
        defaults = {key: KEY_DEFAULTS[key] for key in keys if key in KEY_DEFAULTS}
        return Shape(Form.KEYED, item=_once(lambda: self._read(items)), keys=keys, defaults=defaults)


def of_schema(schema: Tree, metadata: Shape | None = None) -> Shape:
    """Return the shape of a structural schema; `metadata` is that of the root's metadata."""
    if schema.get(structural.INT_OR_STRING) or schema.get(structural.MAP_TYPE) == "atomic":
        return WHOLE
    if schema.get("type") == "array":
        return _schema_list(schema)
    if schema.get("type") != "object":
        return DEDUCED if schema.get(structural.PRESERVE) else WHOLE
    given: dict[str, Shape] = {"metadata": metadata} if metadata else {}
    if metadata or schema.get(structural.EMBEDDED):
        given |= {"apiVersion": WHOLE, "kind": WHOLE}
    more, properties = schema.get("additionalProperties"), schema.get("properties") or {}
    if isinstance(more, dict) and not properties:
        return Shape(Form.MAP, item=_once(lambda: of_schema(more)))
    if not properties and not metadata:
        return DEDUCED

    def read(name: str) -> Shape | None:
        inner = structural.below(schema, name)
        if inner is not None:
            return of_schema(inner)
        return DEDUCED if schema.get(structural.PRESERVE) else None

    children = Children(read, properties)
    children.update(given)
    return Shape(Form.STRUCT, children)


def _schema_list(schema: Tree) -> Shape:
    kind, items = schema.get(structural.LIST_TYPE), schema.get("items") or {}
    if kind == "set":
        return Shape(Form.SET)
    if kind != "map":
        return WHOLE
    keys = tuple(schema.get(structural.MAP_KEYS) or ())
    properties = items.get("properties") or {}
    defaults = {key: properties[key]["default"] for key in keys if "default" in properties.get(key, {})}
    return Shape(Form.KEYED, item=_once(lambda: of_schema(items)), keys=keys, defaults=defaults)


def _once(make: Callable[[], Shape]) -> Callable[[], Shape]:
    known: list[Shape] = []

    def get() -> Shape:
        if not known:
            known.append(make())
        return known[0]

    return get
