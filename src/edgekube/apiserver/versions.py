"""
One kind in several API versions: objects are stored in one and converted on their way in and out.

A row that has a `View` is served through its storage row. Conversions are data: built-in ones are
rows of a table, custom ones come from a definition.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from edgekube.api.conversion import convert
from edgekube.api.errors import InternalError
from edgekube.api.resource import AnyResource
from edgekube.api.scheme import VIEWS
from edgekube.apiserver.request import Tree
from edgekube.apiserver.watching import Event, Events, close, event

Convert = Callable[[list[Tree], str], Awaitable[list[Tree]]]
"""Turns objects into those of another apiVersion; raises StatusError."""


@dataclass(frozen=True, slots=True)
class View:
    """How a row is served through `storage`."""

    row: AnyResource
    storage: AnyResource
    convert: Convert

    async def stored(self, tree: Tree) -> Tree:
        """Return an object as it is stored."""
        return (await self.convert([tree], self.storage.api_version))[0]

    async def shown(self, tree: Tree) -> Tree:
        """Return a stored object as this version shows it."""
        return (await self.convert([tree], self.row.api_version))[0]

    async def body(self, body: bytes) -> bytes:
        """Convert an answer: an object, a list of them, or something else that stays as it is."""
        tree = msgspec.json.decode(body)
        if tree.get("kind") == f"{self.storage.kind}List":
            items = await self.convert(tree["items"], self.row.api_version)
            tree = {
                **tree,
                "kind": f"{self.row.kind}List",
                "apiVersion": self.row.api_version,
                "items": items,
            }
        elif tree.get("kind") == self.storage.kind and "metadata" in tree:
            tree = await self.shown(tree)
        else:
            return body
        return msgspec.json.encode(tree)

    async def events(self, events: Events) -> AsyncIterator[Sequence[Event]]:
        """Convert a watch's events."""
        try:
            async for batch in events:
                yield [item if item.type == "ERROR" else await self._event(item) for item in batch]
        finally:
            await close(events)

    async def _event(self, item: Event) -> Event:
        tree = msgspec.json.decode(item.raw)
        if item.type == "BOOKMARK":
            tree = {**tree, "kind": self.row.kind, "apiVersion": self.row.api_version}
        else:
            tree = await self.shown(tree)
        return event(item.type, msgspec.json.encode(tree))


class Versions:
    """The views by path."""

    def __init__(self, views: Mapping[tuple[str, str, str], View] | None = None) -> None:
        self._views = {
            (row.group, row.version, row.plural): View(row, storage, built_in)
            for row, storage in VIEWS.items()
        } | dict(views or {})
        self._kinds: dict[tuple[str, str], dict[str, View]] = {}
        for view in self._views.values():
            self._note(view)

    def of(self, row: AnyResource) -> View | None:
        """Return how a row is served, None when it is stored as it is."""
        return self._views.get((row.group, row.version, row.plural)) if self._views else None

    def shown(self, storage: AnyResource) -> Mapping[str, View] | None:
        """Return the views of what is stored as `storage`, by apiVersion; None when there are none."""
        return self._kinds.get((storage.group, storage.plural))

    def _note(self, view: View) -> None:
        views = self._kinds.setdefault((view.storage.group, view.storage.plural), {})
        views[view.row.api_version] = view

    def put(self, view: View) -> None:
        """Serve a row through another from now on."""
        self._views[view.row.group, view.row.version, view.row.plural] = view
        self._note(view)

    def drop(self, row: AnyResource) -> None:
        """Serve a row as it is."""
        view = self._views.pop((row.group, row.version, row.plural), None)
        if view is not None:
            kind = (view.storage.group, view.storage.plural)
            views = self._kinds[kind]
            views.pop(row.api_version, None)
            if not views:
                del self._kinds[kind]


async def built_in(trees: list[Tree], api_version: str) -> list[Tree]:
    """Convert kinds of ours."""
    return [convert(tree, api_version) for tree in trees]


async def relabelled(trees: list[Tree], api_version: str) -> list[Tree]:
    """Convert by changing apiVersion only (strategy None)."""
    return [{**tree, "apiVersion": api_version} for tree in trees]


async def unconverted(trees: list[Tree], api_version: str) -> list[Tree]:
    """Refuse what only a webhook can convert: objects that merely claim the version would lose fields."""
    for tree in trees:
        if tree.get("apiVersion") != api_version:
            before, kind = tree.get("apiVersion", ""), tree.get("kind", "")
            raise InternalError(f"conversion webhook for {before}, Kind={kind} is not available")
    return trees
