"""What a printer is, and the small words they share (pkg/printers in Kubernetes)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edgekube.apiserver.registry.meta import parse
from edgekube.apiserver.request import Tree
from edgekube.apiserver.selectortext import selector_text

NONE = "<none>"
UNSET = "<unset>"
UNKNOWN = "<unknown>"


@dataclass(frozen=True, slots=True)
class Column:
    """A TableColumnDefinition; `priority` 1 shows with `-o wide` only."""

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0

    def tree(self) -> Tree:
        """Return the JSON form."""
        return {
            "name": self.name, "type": self.type, "format": self.format, "description": "",
            "priority": self.priority,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Printer:
    """Columns, and the function that fills them from an object at a time."""

    columns: Sequence[Column]
    cells: Callable[[Tree, datetime], list[Any]]


NAME = Column("Name", format="name")
AGE = Column("Age")


def columns(*names: str | Column, wide: Iterable[str] = ()) -> tuple[Column, ...]:
    """Return Name, the named columns, and wide ones."""
    plain = [name if isinstance(name, Column) else Column(name) for name in names]
    return (NAME, *plain, *(Column(name, priority=1) for name in wide))


def integer(name: str) -> Column:
    """Return a column of numbers."""
    return Column(name, type="integer")


def human(seconds: float) -> str:
    """Return a duration as kubectl shows ages (apimachinery duration.HumanDuration)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    for limit, unit, below in STEPS:
        if whole < limit:
            return _two(whole, unit, below)
    return f"{whole // YEAR}y"


MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 365 * 86400
UNITS = {1: "s", MINUTE: "m", HOUR: "h", DAY: "d", YEAR: "y"}
STEPS = (
    (2 * MINUTE, 1, 0),
    (10 * MINUTE, MINUTE, 1),
    (3 * HOUR, MINUTE, 0),
    (8 * HOUR, HOUR, MINUTE),
    (48 * HOUR, HOUR, 0),
    (8 * DAY, DAY, HOUR),
    (2 * YEAR, DAY, 0),
    (8 * YEAR, YEAR, DAY),
)
"""(below this many seconds, show this unit, and the rest in this one)."""


def _two(seconds: int, unit: int, below: int) -> str:
    count, rest = divmod(seconds, unit)
    smaller = rest // below if below else 0
    return f"{count}{UNITS[unit]}" + (f"{smaller}{UNITS[below]}" if smaller else "")


def since(time: str | None, now: datetime) -> str:
    """Return how long ago a Kubernetes Time was."""
    return human((now - parse(time)).total_seconds()) if time else UNKNOWN


def age(obj: Tree, now: datetime) -> str:
    """Return how old an object is."""
    return since(obj["metadata"].get("creationTimestamp"), now)


def name(obj: Tree) -> str:
    """Return the object's name."""
    text: str = obj["metadata"].get("name", "")
    return text


def spec(obj: Tree) -> Tree:
    """Return the spec, empty when absent."""
    return obj.get("spec") or {}


def status(obj: Tree) -> Tree:
    """Return the status, empty when absent."""
    return obj.get("status") or {}


def containers(pod_spec: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names and images of a pod spec's containers."""
    every = pod_spec.get("containers") or ()
    return ",".join(c["name"] for c in every), ",".join(c.get("image", "") for c in every)


def label_selector(selector: Mapping[str, Any] | None) -> str:
    """Return a LabelSelector as text."""
    return (selector_text(selector) if selector else "") or NONE


def labels(selector: Mapping[str, str] | None) -> str:
    """Return a plain map selector as text."""
    return ",".join(f"{key}={value}" for key, value in sorted((selector or {}).items())) or NONE


def more(items: Sequence[str], limit: int = 3) -> str:
    """Return the first items, and how many more there are."""
    if not items:
        return NONE
    shown = ",".join(items[:limit])
    return f"{shown} + {len(items) - limit} more..." if len(items) > limit else shown
