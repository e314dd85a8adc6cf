"""Compiles definitions to walkers: one pass that checks, cleans and copies an object tree."""

from collections.abc import Callable
from typing import Any

from edgekube.api.schema import scalars
from edgekube.api.schema.findings import Findings, Path, dotted, in_status
from edgekube.api.schema.scalars import SPECIAL, ZEROS, Walk
from edgekube.api.schema.zeros import is_pointer

Definition = dict[str, Any]

FREE_FORM = frozenset({
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
})  # fmt: skip
IMPLIED = {
    "io.k8s.api.core.v1.Pod": ("spec",),
    "io.k8s.api.core.v1.PodTemplateSpec": ("spec",),
    "io.k8s.api.core.v1.LimitRange": ("spec",),
    "io.k8s.api.core.v1.ReplicationController": ("spec",),
    "io.k8s.api.core.v1.ReplicationControllerSpec": ("template",),
    "io.k8s.api.batch.v1.Job": ("spec",),
    "io.k8s.api.apps.v1.ReplicaSetSpec": ("template",),
}
"""Fields Kubernetes' schema calls optional and its validation insists on."""
SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
SCHEMA_OR = {f"{SCHEMA}OrArray": list, f"{SCHEMA}OrBool": bool}
"""Definitions that tell no type: a schema, or a value of this type."""
_PLAIN = {"string": str, "boolean": bool}


def go_type(spec: Definition) -> str:
    """Return the Go type a property is decoded into, as error messages name it."""
    if ref := spec.get("$ref"):
        return ".".join(ref.split(".")[-2:])
    kind = spec.get("type")
    if kind == "array":
        return f"[]{go_type(spec['items'])}"
    if kind == "object":
        return (
            f"map[string]{go_type(spec['additionalProperties'])}"
            if "additionalProperties" in spec
            else "map[string]interface {}"
        )
    if kind == "string":
        return "[]uint8" if spec.get("format") == "byte" else "string"
    if kind == "integer":
        return str(spec.get("format", "int64"))
    return {"boolean": "bool", "number": "float64"}.get(str(kind), "interface {}")


class Compiler:
    """Keeps one walker a definition; compiles what a tree really uses."""

    def __init__(self, definition: Callable[[str], Definition]) -> None:
        self._definition = definition
        self._walkers: dict[str, Walk] = {}

    def walker(self, name: str) -> Walk:
        """Return the walker of a definition."""
        walk = self._walkers.get(name)
        if walk is None:
            walk = self._walkers[name] = self._compile(name)
        return walk

    def _compile(self, name: str) -> Walk:
        if name in SPECIAL:
            return SPECIAL[name]
        if name in SCHEMA_OR:
            return _schema_or(SCHEMA_OR[name], name, self)
        definition = self._definition(name)
        if definition.get("type") != "object":
            return scalars.any_value
        if name in FREE_FORM:
            return scalars.of_type(name.rpartition(".")[2], dict, "map[string]interface {}")
        return _Struct(name, definition, self).walk

    def property(self, owner: str, spec: Definition) -> Walk:
        """Return the walker of one property of the struct `owner`."""
        if ref := spec.get("$ref"):
            return self.walker(ref)
        kind = spec.get("type")
        if kind in _MAKERS:
            return _MAKERS[kind](owner, spec, self)
        return scalars.any_value

    def zero(self, spec: Definition, path: Path, found: Findings) -> Any:
        """Return what decoding in Go leaves of a null or absent value."""
        kind = spec.get("$ref") or spec.get("type", "object")
        if kind in ZEROS:
            return ZEROS[kind]
        if kind == "array":
            return []
        return self.walker(kind)({}, path, found) if "$ref" in spec else {}


class _Struct:
    """A Go struct: known fields only. Its fields' walkers are made when the first value comes."""

    __slots__ = ("_compiler", "_definition", "_fields", "_go_type", "_keeps", "_name", "_plain", "_required")

    def __init__(self, name: str, definition: Definition, compiler: Compiler) -> None:
        self._name = name.rpartition(".")[2]
        self._go_type = ".".join(name.split(".")[-2:])
        self._definition = definition
        self._compiler = compiler
        self._fields: dict[str, Walk] | None = None
        self._plain: dict[str, type] = {}
        self._keeps: frozenset[str] = frozenset()
        self._required: frozenset[str] = frozenset((*definition.get("required", ()), *IMPLIED.get(name, ())))

    def walk(self, tree: Any, path: Path, found: Findings) -> Any:
        if type(tree) is not dict:
            found.mismatch(tree, path, self._name, self._go_type)
            return tree
        fields = self._fields or self._compile()
        plain, keeps = self._plain, self._keeps
        result: dict[str, Any] = {}
        for key, value in tree.items():
            if plain.get(key) is type(value):
                if value or key in keeps:
                    result[key] = value
                continue
            walk = fields.get(key)
            if walk is None:
                found.unknown.append(dotted((path, key)))
            elif value is not None:
                cleaned = walk(value, (path, key), found)
                if cleaned or key in keeps:
                    result[key] = cleaned
        if not self._required <= result.keys():
            self._fill(result, path, found)
        return result

    def _compile(self) -> dict[str, Walk]:
        specs = self._definition.get("properties", {})
        self._plain = {
            name: _PLAIN[spec["type"]]
            for name, spec in specs.items()
            if spec.get("type") in _PLAIN and spec.get("format") != "byte"
        }
        self._keeps = self._required | {name for name, spec in specs.items() if self._keeps_zero(name, spec)}
        self._fields = {name: self._compiler.property(self._name, spec) for name, spec in specs.items()}
        return self._fields

    def _keeps_zero(self, name: str, spec: Definition) -> bool:
        """Whether {}, "", 0 or false in an optional field outlive encoding in Go."""
        if "$ref" in spec:
            return True
        kind = spec.get("type")
        return kind not in ("array", "object") and is_pointer(self._name, name, text=kind == "string")

    def _fill(self, result: dict[str, Any], path: Path, found: Findings) -> None:
        for name in sorted(self._required - result.keys()):
            here, spec = (path, name), self._definition["properties"][name]
            inner = Findings()
            result[name] = self._compiler.zero(spec, here, inner)
            if here == (None, "metadata") or in_status(here):
                continue
            # As Go's validation does: it names what a struct lacks rather than the struct.
            found.causes += inner.causes
            if not inner.causes:
                found.absent(here)


def _schema_or(other: type, name: str, compiler: Compiler) -> Walk:
    short, shown = name.rpartition(".")[2], ".".join(name.split(".")[-2:])

    def walk(value: Any, path: Path, found: Findings) -> Any:
        if type(value) is dict:
            return compiler.walker(SCHEMA)(value, path, found)
        if type(value) is not other:
            found.mismatch(value, path, short, shown)
        return value

    return walk


def _list(owner: str, spec: Definition, compiler: Compiler) -> Walk:
    name, item = go_type(spec), spec["items"]
    walk_item = compiler.property(owner, item)

    def walk(value: Any, path: Path, found: Findings) -> Any:
        if type(value) is not list:
            found.mismatch(value, path, owner, name)
            return value
        return [
            compiler.zero(item, (path, index), found)
            if element is None
            else walk_item(element, (path, index), found)
            for index, element in enumerate(value)
        ]

    return walk


def _map(owner: str, spec: Definition, compiler: Compiler) -> Walk:
    name, item = go_type(spec), spec.get("additionalProperties")
    if item is None:
        return scalars.of_type(owner, dict, name)
    walk_item = compiler.property(owner, item)
    plain = _PLAIN.get(item.get("type", "")) if item.get("format") != "byte" else None

    def walk(value: Any, path: Path, found: Findings) -> Any:
        if type(value) is not dict:
            found.mismatch(value, path, owner, name)
            return value
        result = {}
        for key, element in value.items():
            if type(element) is plain:
                result[key] = element
            elif element is None:
                result[key] = compiler.zero(item, (path, (key,)), found)
            else:
                result[key] = walk_item(element, (path, (key,)), found)
        return result

    return walk


def _string(owner: str, spec: Definition, _compiler: Compiler) -> Walk:
    return scalars.base64(owner) if spec.get("format") == "byte" else scalars.of_type(owner, str, "string")


_MAKERS: dict[Any, Callable[[str, Definition, Compiler], Walk]] = {
    "array": _list,
    "object": _map,
    "string": _string,
    "integer": lambda owner, spec, _: scalars.integer(owner, 32 if spec.get("format") == "int32" else 64),
    "number": lambda owner, _spec, _: scalars.number(owner),
    "boolean": lambda owner, _spec, _: scalars.of_type(owner, bool, "bool"),
}
