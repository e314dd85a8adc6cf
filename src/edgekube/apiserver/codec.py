"""
Bodies to trees and trees to bytes.

Requests come as JSON, YAML or Kubernetes protobuf; what is stored and sent is JSON whose first
members are kind, apiVersion and metadata, so that the resource version can be put in without
decoding (it is known only after the write).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from edgekube.api.custom import CustomKind
from edgekube.api.errors import BadRequest, UnsupportedMediaType
from edgekube.api.resource import AnyResource
from edgekube.api.schema import Normalised, Schemas
from edgekube.apiserver.request import Tree

VALIDATIONS = ("", "Ignore", "Warn", "Strict")
OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
ACCEPTED = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


class Sent(Tree):
    """A body in which a field came twice; the last one counts."""

    duplicates: Sequence[str] = ()
    """What is said of them, each by itself."""
    yaml: bool = False

    def strictly(self) -> Sequence[str]:
        """Return what is said of them when they are errors."""
        if self.yaml and self.duplicates:
            return ["yaml: unmarshal errors:\n  " + "\n  ".join(self.duplicates)]
        return self.duplicates


NOTHING_TWICE = Sent()


def from_json(body: bytes) -> Any:
    """Decode JSON; raises BadRequest."""
    try:
        tree = msgspec.json.decode(body)
        # What says each field once is, without its blanks, as long as what it says: that spares the search.
        if not isinstance(tree, dict) or (said := len(msgspec.json.encode(tree))) == len(body):
            return tree
        if said == len(msgspec.json.format(body, indent=-1)):
            return tree
        return _sent(tree, [f'duplicate field "{path}"' for path in _repeated(body)])
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"error decoding: json parse error: {error}") from error


def _sent(tree: Tree, duplicates: Sequence[str], *, yaml: bool = False) -> Tree:
    if not duplicates:
        return tree
    sent = Sent(tree)
    sent.duplicates, sent.yaml = duplicates, yaml
    return sent


class _Pairs(dict[str, Any]):
    """An object with the names that it has more than once."""

    twice: tuple[str, ...] = ()


def _repeated(body: bytes) -> list[str]:
    """Return the paths of fields that come more than once."""
    import json  # noqa: PLC0415 - the quick decoder cannot tell

    marked = False

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal marked
        node = _Pairs(found)
        if len(node) < len(found):
            counts = Counter(name for name, _ in found)
            node.twice = tuple(name for name, count in counts.items() if count > 1)
            marked = True
        return node

    tree = json.loads(body, object_pairs_hook=pairs)
    return list(_twice(tree, "")) if marked else []


def _twice(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, _Pairs):
        for name in node.twice:
            yield f"{path}.{name}" if path else name
        for name, value in node.items():
            yield from _twice(value, f"{path}.{name}" if path else name)
    elif isinstance(node, list):
        for number, item in enumerate(node):
            yield from _twice(item, f"{path}[{number}]")


def from_yaml(body: bytes) -> Any:
    """Decode one YAML document, with JSON's types only; raises BadRequest."""
    import yaml  # noqa: PLC0415 - few clients send it

    try:
        loader = _yaml_loader()(body)
        try:
            tree = _jsonable(loader.get_single_data())
        finally:
            loader.dispose()
        told = [f'line {line}: key "{key}" already set in map' for line, key in sorted(loader.duplicates)]
        return _sent(tree, told, yaml=True) if isinstance(tree, dict) else tree
    except (yaml.YAMLError, RecursionError) as error:
        raise BadRequest(f"error decoding: yaml: {error}") from error


def _jsonable(node: Any) -> Any:
    """Make every key text, as in JSON; raises BadRequest for values JSON does not have."""
    if isinstance(node, dict):
        return {
            key if isinstance(key, str) else msgspec.json.encode(key).decode(): _jsonable(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_jsonable(item) for item in node]
    if node is None or isinstance(node, (str, int)) or (isinstance(node, float) and math.isfinite(node)):
        return node
    raise BadRequest(f"error decoding: yaml: {node!r} is no JSON value")


@cache
def _yaml_loader() -> type[Any]:
    """Return the safe loader without timestamps, which JSON does not have."""
    import yaml  # noqa: PLC0415

    base: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in base.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self: Any, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - as it is called
        seen: set[str] = set()
        for key, _ in getattr(node, "value", ()):
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    self.duplicates.append((key.start_mark.line + 1, key.value))
                seen.add(key.value)
        return base.construct_mapping(self, node, deep)

    def begin(self: Any, stream: bytes) -> None:
        base.__init__(self, stream)
        self.duplicates = []

    members = {"__init__": begin, "construct_mapping": construct_mapping}
    return type("JsonLoader", (base,), {**members, "yaml_implicit_resolvers": resolvers})


def from_protobuf(body: bytes) -> Any:
    """Decode an envelope that starts with `k8s` and a zero byte; raises BadRequest."""
    from edgekube.api import protobuf  # noqa: PLC0415 - its tables are only needed for a few commands

    return protobuf.decode(body, table=field_table())


@cache
def field_table() -> Any:
    """Return the numbers of fields, loaded when first asked for."""
    from edgekube.api.protobuf import FieldTable  # noqa: PLC0415

    return FieldTable.load()


DECODERS: Mapping[str, Callable[[bytes], Any]] = {
    "": from_json,
    "application/json": from_json,
    "application/yaml": from_yaml,
    "application/vnd.kubernetes.protobuf": from_protobuf,
}


def decode(body: bytes, content_type: str) -> Tree:
    """Return the object in `body`; raises BadRequest or UnsupportedMediaType."""
    decoder = DECODERS.get(content_type.partition(";")[0].strip().lower())
    if decoder is None:
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {ACCEPTED}"
        )
    tree = decoder(body)
    if not isinstance(tree, dict):
        raise BadRequest("couldn't get version/kind; json parse error: the body is not an object")
    return tree


def yaml_of(body: bytes) -> bytes:
    """Return JSON as YAML."""
    import yaml  # noqa: PLC0415

    text: str = yaml.safe_dump(msgspec.json.decode(body), sort_keys=False, allow_unicode=True)
    return text.encode()


class Codec:
    """Checks trees against a kind's schema."""

    def __init__(self, schemas: Schemas) -> None:
        self.schemas = schemas
        self._definitions: dict[tuple[str, str], str | None] = {}

    def definition(self, api_version: str, kind: str) -> str | None:
        """Return the schema's name for a kind."""
        wanted = (api_version, kind)
        if wanted not in self._definitions:
            self._definitions[wanted] = self.schemas.definition_of(api_version, kind)
        return self._definitions[wanted]

    def normalise(self, tree: Tree, row: AnyResource, validation: str, warnings: list[str]) -> Normalised:
        """
        Return the tree as the schema sees it; `tree` must be of the row's kind (absent: assumed).

        `validation` is the request's fieldValidation. Raises BadRequest.
        """
        check_kind(tree, row.api_version, row.kind)
        if row.custom is not None:
            return self._custom(tree, row.custom, validation, warnings)
        return self.check(tree, row.api_version, row.kind, validation, warnings)

    def _custom(self, tree: Tree, kind: CustomKind, validation: str, warnings: list[str]) -> Normalised:
        """Clean a custom resource: its metadata as everybody's, the rest by its own schema."""
        found = self.schemas.normalise(OBJECT_META, tree.get("metadata") or {})
        sent, tree = tree, {**tree, "metadata": found.tree}
        if found.malformed:
            raise BadRequest(_cannot(tree["apiVersion"], tree["kind"], found.malformed[0].message))
        unknown = [*(f"metadata.{path}" for path in found.unknown), *kind.prune(tree)]
        self._report(sent, unknown, validation, warnings)
        return Normalised(tree, tuple(unknown))

    def report(self, tree: Tree, validation: str, warnings: list[str]) -> None:
        """Say what came twice in a body, as the request wishes; raises BadRequest."""
        if isinstance(tree, Sent):
            self._report(tree, (), validation, warnings)

    def _report(self, tree: Tree, paths: Iterable[str], validation: str, warnings: list[str]) -> None:
        """Refuse unknown and repeated fields, or warn of them, or say nothing, as wished; raises BadRequest."""
        if validation not in VALIDATIONS:
            raise BadRequest(f'invalid fieldValidation "{validation}": must be one of Ignore, Warn, Strict')
        unknown = [f'unknown field "{path}"' for path in paths]
        twice = tree if isinstance(tree, Sent) else NOTHING_TWICE
        if validation == "Strict" and (wrong := [*twice.strictly(), *unknown]):
            why = f"strict decoding error: {', '.join(wrong)}"
            raise BadRequest(_cannot(tree.get("apiVersion", ""), tree.get("kind", ""), why))
        if validation != "Ignore":
            warnings.extend((*twice.duplicates, *unknown))

    def check(
        self, tree: Tree, api_version: str, kind: str, validation: str, warnings: list[str]
    ) -> Normalised:
        """Do the same for any kind of the schemas, e.g. that of a subresource."""
        name = self.definition(api_version, kind)
        if name is None:
            return Normalised(tree)
        found = self.schemas.normalise(name, dict(tree) if isinstance(tree, Sent) else tree)
        if found.malformed:
            raise BadRequest(_cannot(api_version, kind, found.malformed[0].message))
        self._report(tree, found.unknown, validation, warnings)
        return found


def check_kind(tree: Tree, api_version: str, kind: str) -> None:
    """Fill in kind and apiVersion where absent; raises BadRequest where they are others."""
    sent = tree.setdefault("apiVersion", api_version), tree.setdefault("kind", kind)
    if sent[0] != api_version:
        raise BadRequest(
            f"the API version in the data ({sent[0]}) does not match the expected API version ({api_version})"
        )
    if sent[1] != kind:
        raise BadRequest(_cannot(api_version, str(sent[1]), f"this resource holds {kind}", into=kind))


def _cannot(api_version: str, kind: str, why: str, *, into: str = "") -> str:
    version = api_version.rpartition("/")[2]
    return f'{kind} in version "{version}" cannot be handled as a {into or kind}: {why}'


def encode(tree: Tree) -> bytes:
    """Return the stored form: JSON without resourceVersion, identity first."""
    metadata = tree["metadata"]
    if "resourceVersion" in metadata:
        metadata = {name: value for name, value in metadata.items() if name != "resourceVersion"}
    ordered = {"kind": tree["kind"], "apiVersion": tree["apiVersion"], "metadata": metadata}
    ordered.update((name, value) for name, value in tree.items() if name not in ordered)
    return msgspec.json.encode(ordered)


def join_list(row: AnyResource, items: Sequence[bytes], metadata: Tree) -> bytes:
    """Return a `…List` made of encoded objects."""
    head = msgspec.json.encode(
        {"kind": f"{row.kind}List", "apiVersion": row.api_version, "metadata": metadata}
    )
    return b"".join((head[:-1], b',"items":[', b",".join(items), b"]}"))
