"""
A kind that is known only at run time: one version of a CustomResourceDefinition, ready for use.

A row of the scheme that carries one is normalised, defaulted, checked, printed and selected by it
instead of by the tables of built-in kinds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekube.api import structural
from edgekube.api.errors import Cause
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
Rules = Callable[[Tree, Tree | None, Problems], None]
"""Checks an object, and its old form if there is one, by the CEL rules of its schema."""
OPEN: Tree = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@dataclass(frozen=True, slots=True)
class Column:
    """One of additionalPrinterColumns."""

    name: str
    type: str
    path: str
    format: str = ""
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a custom resource's numbers of replicas and its selector are."""

    spec: tuple[str, ...]
    status: tuple[str, ...]
    selector: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomKind:
    """One version's schema and looks."""

    schema: Tree = field(default_factory=lambda: OPEN)
    preserve: bool = False
    """spec.preserveUnknownFields, of definitions that were made as v1beta1."""
    columns: Sequence[Column] = ()
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Selectable fields: their label, and where they are."""
    scale: Scale | None = None
    rules: Rules | None = None
    revision: str = ""
    """Changes with the definition."""

    def prune(self, tree: Tree) -> list[str]:
        """Drop unknown fields in place; return their paths."""
        return [] if self.preserve else structural.prune(tree, self.schema)

    def fill(self, tree: Tree) -> None:
        """Fill in defaults."""
        structural.fill(tree, self.schema)

    def check(self, tree: Tree, old: Tree | None = None) -> list[Cause]:
        """Return what is wrong with an object."""
        problems = Problems()
        structural.validate(tree, self.schema, "", problems)
        if self.rules is not None and not problems.causes:
            self.rules(tree, old, problems)
        return problems.causes
