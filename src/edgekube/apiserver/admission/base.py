"""Admission: the chain every write passes between defaulting and validation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgekube.api.errors import Forbidden
from edgekube.api.resource import AnyResource, Key
from edgekube.apiserver.identity import User
from edgekube.apiserver.request import Tree
from edgekube.apiserver.route import Target


@dataclass(slots=True, kw_only=True)
class Attributes:
    """One write under admission; plug-ins change `obj` in place and may add warnings."""

    verb: str
    """create, update or delete."""
    target: Target
    obj: Tree
    user: User
    old: Tree | None = None
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)
    """Called when the write did not happen (refused, lost a race, dry run)."""
    done: list[Callable[[], None]] = field(default_factory=list)
    """Called when the write is acknowledged."""

    def forbid(self, why: str) -> Forbidden:
        """Return the error that refuses this write."""
        row, name = self.target.row, self.obj["metadata"].get("name", "")
        return Forbidden(
            f'{row.group_resource} "{name}" is forbidden: {why}', group=row.group, kind=row.plural, name=name
        )

    def settle(self, *, written: bool) -> None:
        """Tell the plug-ins how it ended."""
        for callback in self.done if written else reversed(self.undo):
            callback()


class Objects(Protocol):
    """What plug-ins may read."""

    async def find(self, row: AnyResource, key: Key) -> Tree | None:
        """Return an object's current form."""
        ...

    async def within(self, row: AnyResource, namespace: str) -> Sequence[Tree]:
        """Return a namespace's objects of one resource; next to free when there are none."""
        ...


class Plugin(Protocol):
    """One admission plug-in."""

    verbs: frozenset[str]
    resources: frozenset[str]
    """Group resources (`pods`, `deployments.apps`) it wants to see; empty: all."""

    async def admit(self, attributes: Attributes) -> None:
        """Change the object, or raise a StatusError to refuse it."""
        ...


class Chain:
    """The plug-ins in order, looked up once per verb and resource."""

    def __init__(self, plugins: Sequence[Plugin] = ()) -> None:
        self.plugins = tuple(plugins)
        self._chosen: dict[tuple[str, str], tuple[Plugin, ...]] = {}

    async def admit(self, attributes: Attributes) -> None:
        """Run every plug-in that wants this write."""
        wanted = (attributes.verb, attributes.target.row.group_resource)
        chosen = self._chosen.get(wanted)
        if chosen is None:
            chosen = self._chosen[wanted] = tuple(p for p in self.plugins if _wants(p, *wanted))
        for plugin in chosen:
            await plugin.admit(attributes)


def _wants(plugin: Plugin, verb: str, resource: str) -> bool:
    return verb in plugin.verbs and (not plugin.resources or resource in plugin.resources)
