"""The door to the schemas of all built-in kinds."""

from typing import Any

from edgekube.api.patch.shape import FieldShape, Shape
from edgekube.api.schema.findings import Findings, Normalised
from edgekube.api.schema.shape import DefinitionShape
from edgekube.api.schema.table import Table
from edgekube.api.schema.walker import Compiler, Definition

__all__ = ["FieldShape", "Schemas", "Shape"]


class Schemas:
    """Definitions by name (`io.k8s.api.apps.v1.Deployment`), decoded when first needed."""

    def __init__(self, definitions: Table, descriptions: Table | None = None) -> None:
        self._definitions = definitions
        self._descriptions = descriptions
        self._compiler = Compiler(self.definition)
        self._shapes: dict[str, DefinitionShape] = {}

    @classmethod
    def load(cls) -> "Schemas":
        """Open the tables shipped with the package."""
        return cls(Table.shipped("definitions.bin"))

    def definition_of(self, api_version: str, kind: str) -> str | None:
        """Return the definition of a kind; None if it is not a built-in one."""
        return self._definitions.kinds.get(f"{api_version}/{kind}")

    def definition(self, name: str) -> Definition:
        """Return a definition's JSON schema without descriptions, freshly decoded; KeyError if unknown.

        `$ref` holds a plain definition name.
        """
        tree: Definition = self._definitions.keep(name)
        return tree

    def descriptions(self, package: str) -> dict[str, dict[str, str]]:
        """Return the texts of a Go package's definitions: short name -> property -> text.

        The definition's own text is at "". Not kept: hold on to it only while writing OpenAPI.
        """
        table = self._descriptions or Table.shipped("descriptions.bin")
        return table.package(package)

    def normalise(self, definition: str, tree: dict[str, Any]) -> Normalised:
        """Check a tree and return a cleaned copy, as decoding and encoding in Go would leave it.

        Nulls, unknown fields and zero values that say nothing go, quantities and times become
        canonical, required values that are absent become zero values. Nothing else is coerced;
        `tree` stays as it is.
        """
        found = Findings()
        try:
            cleaned = self._compiler.walker(definition)(tree, None, found)
        except RecursionError:
            found.malformed(None, "json: exceeded max depth")
            cleaned = {}
        return Normalised(cleaned, tuple(found.unknown), tuple(found.causes))

    def shape(self, definition: str) -> Shape:
        """Return how a definition's fields merge in a strategic merge patch."""
        shape = self._shapes.get(definition)
        if shape is None:
            shape = self._shapes[definition] = DefinitionShape(definition, self.definition, self.shape)
        return shape
