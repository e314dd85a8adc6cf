"""What a walk over an object tree found, worded as a Kubernetes API server words it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from edgekube.api.errors import Cause

TYPE_INVALID = "FieldValueTypeInvalid"
REQUIRED = "FieldValueRequired"

# The way from the root to a value, last step first: (rest, step). A step is a field name, a list
# index, or a one-tuple holding a map key. Built for every value, so it must be cheap.
Path = tuple[Any, Any] | None


@dataclass(frozen=True, slots=True)
class Normalised:
    """The cleaned tree and what was wrong with the one given."""

    tree: dict[str, Any]
    unknown: tuple[str, ...] = ()
    """Paths of fields Kubernetes does not know, such as `spec.containers[0].bar`; gone from the tree."""
    causes: tuple[Cause, ...] = ()
    """`malformed` and `missing` together."""

    @property
    def malformed(self) -> tuple[Cause, ...]:
        """Values that cannot be decoded: a 400 BadRequest. `tree` is of no use then."""
        return tuple(cause for cause in self.causes if cause.reason == TYPE_INVALID)

    @property
    def missing(self) -> tuple[Cause, ...]:
        """Required values that are absent: a 422 Invalid, together with what validation finds.

        The tree holds their zero values ("", 0, false, [], {}), as decoding in Go leaves them.
        """
        return tuple(cause for cause in self.causes if cause.reason == REQUIRED)


@dataclass(slots=True)
class Findings:
    """Collects while walking."""

    unknown: list[str] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)

    def mismatch(self, value: Any, path: Path, owner: str, wanted: str) -> None:
        """Note that a value is of another JSON type than the Go type `wanted`."""
        where = f"struct field {owner}.{go_path(path)}" if path else "value"
        message = f"json: cannot unmarshal {json_type(value)} into Go {where} of type {wanted}"
        self.malformed(path, message)

    def malformed(self, path: Path, message: str) -> None:
        """Note that a value cannot be decoded."""
        self.causes.append(Cause(TYPE_INVALID, message, dotted(path)))

    def absent(self, path: Path) -> None:
        """Note that a required value is not there."""
        self.causes.append(Cause(REQUIRED, "Required value", dotted(path)))


def steps(path: Path) -> Iterator[Any]:
    """Return the steps, last first."""
    while path is not None:
        path, step = path
        yield step


def dotted(path: Path) -> str:
    """Return `spec.containers[0].name`, `metadata.labels[app]`."""
    text = ""
    for step in reversed(list(steps(path))):
        if isinstance(step, str):
            text += f".{step}"
        else:
            text += f"[{step[0] if isinstance(step, tuple) else step}]"
    return text.removeprefix(".")


def go_path(path: Path) -> str:
    """Return the struct fields on the way, as encoding/json names them: `spec.containers.name`."""
    return ".".join(reversed([step for step in steps(path) if isinstance(step, str)]))


def in_status(path: Path) -> bool:
    """Whether a value is part of an object's status, which servers write and nobody validates by schema."""
    return next(reversed(list(steps(path))), None) == "status"


def json_type(value: Any) -> str:
    """Return how encoding/json names a value's type."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number" if isinstance(value, int) and abs(value) < 2**31 else f"number {value}"
    return next((name for cls, name in _JSON_TYPES.items() if isinstance(value, cls)), "null")


_JSON_TYPES: dict[type, str] = {str: "string", list: "array", dict: "object"}
