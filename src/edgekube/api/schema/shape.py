"""Merge rules of a definition's fields, for strategic merge patches."""

from collections.abc import Callable

from edgekube.api.patch.shape import FieldShape, Shape
from edgekube.api.schema.scalars import SPECIAL
from edgekube.api.schema.walker import FREE_FORM, Definition


class DefinitionShape:
    """The shape of one definition; its fields are read when the first is asked for."""

    def __init__(
        self, name: str, definition: Callable[[str], Definition], shape: Callable[[str], Shape]
    ) -> None:
        self._name = name
        self._definition = definition
        self._shape = shape
        self._fields: dict[str, FieldShape] | None = None

    def field(self, name: str) -> FieldShape | None:
        """Return the rules of a field; None if there is no such field."""
        if self._fields is None:
            specs = self._definition(self._name).get("properties", {})
            self._fields = {key: self._read(spec) for key, spec in specs.items()}
        return self._fields.get(name)

    def _read(self, spec: Definition) -> FieldShape:
        strategies = spec.get("x-kubernetes-patch-strategy", "")
        return FieldShape(
            strategies=tuple(strategies.split(",")) if strategies else (),
            merge_key=spec.get("x-kubernetes-patch-merge-key", ""),
            shape=self._below(spec),
        )

    def _below(self, spec: Definition) -> Shape | None:
        inner = spec.get("items") or spec.get("additionalProperties") or spec
        ref = inner.get("$ref")
        if ref is None or ref in SPECIAL or ref in FREE_FORM:
            return None
        return self._shape(ref)
