"""Field ownership and server-side apply (KEP-555; sigs.k8s.io/structured-merge-diff)."""

from edgekube.api.managed import across
from edgekube.api.managed.entries import (
    APPLY,
    UPDATE,
    Applied,
    BadEntries,
    Conflict,
    Conflicts,
    Manager,
    Managers,
    applied,
    decode,
    encode,
    manager,
    updated,
)
from edgekube.api.managed.extract import Untyped, fields_of, unchanged
from edgekube.api.managed.sets import Fields, text
from edgekube.api.managed.shape import DEDUCED, BuiltIn, Shape, of_schema

__all__ = [
    "APPLY", "DEDUCED", "UPDATE", "Applied", "BadEntries", "BuiltIn", "Conflict", "Conflicts", "Fields", "Manager",
    "Managers", "Shape", "Untyped", "across", "applied", "decode", "encode", "fields_of", "manager", "of_schema", "text", "unchanged", "updated",
]  # fmt: skip
