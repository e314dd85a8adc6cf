"""Admission: the chain every write passes between defaulting and validation."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from edgekube.api.errors import Cause, Forbidden
from edgekube.api.resource import AnyResource, Key
from edgekube.apiserver.admission.reinvocation import Round
from edgekube.apiserver.identity import User
from edgekube.apiserver.request import Tree
from edgekube.apiserver.route import Target

Settle = Callable[[], Awaitable[None] | None]
"""What a plug-in does when a write is over."""


@dataclass(slots=True, kw_only=True)
class Attributes:
    """One write under admission; plug-ins change `obj` in place and may add warnings."""

    verb: str
    """create, update, delete or connect."""
    target: Target
    obj: Tree
    user: User
    old: Tree | None = None
    dry_run: bool = False
    settling: bool = False
    """Whether an update was the end of the object: nobody can refuse that any more."""
    reviewed: bool = False
    """Whether webhooks and policies have seen this write in another form already (Eviction, Binding, Scale)."""
    kind: tuple[str, str] | None = None
    """apiVersion and kind of `obj` when it is not the resource's own: a Scale, an Eviction, the options of a stream."""
    warnings: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    """Annotations of the request's audit event."""
    missing: Sequence[Cause] | None = None
    """Required fields that a changed object lacks; None: a webhook changed nothing."""
    changed: bool = False
    """Whether a webhook or a policy made another object of it."""
    rounds: dict[str, Round] = field(default_factory=dict)
    """What webhooks and policies did so far, by sort."""
    undo: list[Settle] = field(default_factory=list)
    """Called when the write did not happen (refused, lost a race, dry run)."""
    done: list[Settle] = field(default_factory=list)
    """Called when the write is acknowledged."""

    @property
    def name(self) -> str:
        """The object's name; "" while it has none."""
        return (self.obj.get("metadata") or {}).get("name") or self.target.name

    @property
    def operation(self) -> str:
        """CREATE, UPDATE, DELETE or CONNECT, as reviews name it."""
        return self.verb.upper()

    @property
    def subresource(self) -> str:
        """The part written, "" for the object."""
        return self.target.subresource

    def forbid(self, why: str) -> Forbidden:
        """Return the error that refuses this write."""
        row, name = self.target.row, self.name
        return Forbidden(
            f'{row.group_resource} "{name}" is forbidden: {why}', group=row.group, kind=row.plural, name=name
        )

    async def settle(self, *, written: bool) -> None:
        """Tell the plug-ins how it ended."""
        for callback in self.done if written else reversed(self.undo):
            if (more := callback()) is not None:
                await more


class Objects(Protocol):
    """What plug-ins may read."""

    async def find(self, row: AnyResource, key: Key) -> Tree | None:
        """Return an object's current form."""
        ...

    async def within(self, row: AnyResource, namespace: str) -> Sequence[Tree]:
        """Return a namespace's objects of one resource; next to free when there are none."""
        ...

    async def look(self, row: AnyResource, key: Key) -> Mapping[str, Any] | None:
        """Return what `find` does, to be read only; cheaper, for what every write asks for."""
        ...

    async def look_within(self, row: AnyResource, namespace: str) -> Sequence[Mapping[str, Any]]:
        """Return what `within` does, to be read only."""
        ...


class Plugin(Protocol):
    """
    One admission plug-in: it has `admit`, `validate` or both.

    `admit` may change the object or refuse the write; it runs before the kind's own validation.
    `validate` only refuses; it runs when nothing changes the object any more.
    """

    verbs: frozenset[str]
    resources: frozenset[str]
    """Group resources (`pods`, `deployments.apps`) it wants to see; empty: all."""


class Mutating(Protocol):
    """A plug-in with a say before validation."""

    async def admit(self, attributes: Attributes) -> None:
        """Change the object, or raise a StatusError to refuse it."""
        ...


class Again(Protocol):
    """A plug-in that looks at an object again after webhooks and policies have changed it."""

    async def readmit(self, attributes: Attributes) -> None:
        """Change the object where that is still needed, or raise a StatusError to refuse it."""
        ...


class Validating(Protocol):
    """A plug-in with a say after validation."""

    async def validate(self, attributes: Attributes) -> None:
        """Raise a StatusError to refuse the object as it is now."""
        ...


class Chain:
    """
    The plug-ins in order, looked up once per verb, resource and phase.

    Those with `everywhere = True` also see writes to parts that are not admitted otherwise (status …).
    """

    def __init__(self, plugins: Sequence[Plugin] = ()) -> None:
        self.plugins = tuple(plugins)
        self._chosen: dict[tuple[str, str, bool, str], tuple[Plugin, ...]] = {}

    async def admit(self, attributes: Attributes, *, whole: bool = True) -> None:
        """Run every mutating plug-in that wants this write; `whole` says that it is not just a part of the object."""
        for plugin in self._wanted(attributes, "admit", whole=whole):
            await cast("Mutating", plugin).admit(attributes)
        if attributes.changed:
            # A webhook or a policy changed it: what was added is nobody's exception.
            for plugin in self._wanted(attributes, "readmit", whole=whole):
                await cast("Again", plugin).readmit(attributes)

    async def review(self, attributes: Attributes) -> None:
        """Show webhooks and policies what is asked of a subresource; they may change it."""
        await self.admit(attributes, whole=False)
        await self.validate(attributes, whole=False)

    async def validate(self, attributes: Attributes, *, whole: bool = True) -> None:
        """Run every validating plug-in that wants this write."""
        for plugin in self._wanted(attributes, "validate", whole=whole):
            await cast("Validating", plugin).validate(attributes)

    def _wanted(self, attributes: Attributes, phase: str, *, whole: bool) -> tuple[Plugin, ...]:
        key = (attributes.verb, attributes.target.row.group_resource, whole, phase)
        chosen = self._chosen.get(key)
        if chosen is None:
            chosen = self._chosen[key] = tuple(
                plugin
                for plugin in self.plugins
                if hasattr(plugin, phase)
                and _wants(plugin, attributes.verb, key[1])
                and (whole or getattr(plugin, "everywhere", False))
            )
        return chosen


def _wants(plugin: Plugin, verb: str, resource: str) -> bool:
    return verb in plugin.verbs and (not plugin.resources or resource in plugin.resources)
