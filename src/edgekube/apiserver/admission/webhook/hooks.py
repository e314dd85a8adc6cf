"""Webhook configurations, read once per change: what each hook wants, in the order they are called."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgekube.api.cel import CelError, Program, compile_expression
from edgekube.api.resource import AnyResource
from edgekube.apiserver.admission.matching import Selectors
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.registry.storage import Storage
from edgekube.apiserver.request import Tree

SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of a configuration."""

    name: str
    configuration: str
    tree: Tree
    selectors: Selectors
    conditions: tuple[tuple[str, Program], ...]

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from all others."""
        return self.configuration, self.name

    @property
    def fails_open(self) -> bool:
        """Whether a call that fails is passed over (failurePolicy Ignore)."""
        return self.tree.get("failurePolicy") == "Ignore"

    @property
    def exact(self) -> bool:
        """Whether only the versions named count (matchPolicy Exact)."""
        return self.tree.get("matchPolicy") == "Exact"

    @property
    def seconds(self) -> float:
        """How long it may take."""
        return float(self.tree.get("timeoutSeconds") or SECONDS)

    @property
    def harmless(self) -> bool:
        """Whether it may be called for a dry run."""
        return self.tree.get("sideEffects") in {"None", "NoneOnDryRun"}

    @property
    def again(self) -> bool:
        """Whether it wants to see what hooks after it changed."""
        return self.tree.get("reinvocationPolicy") == "IfNeeded"


class Hooks:
    """The hooks of one kind of configuration."""

    def __init__(self, row: AnyResource, caches: Caches, storage: Storage) -> None:
        self._row, self._caches, self._storage = row, caches, storage
        self._known: tuple[int, Sequence[Hook]] = (-1, ())

    async def all(self) -> Sequence[Hook]:
        """Return every hook, by the name of its configuration."""
        cache = await self._caches.fresh(self._row)
        if not len(cache):
            # Next to free for clusters that have none.
            return ()
        if self._known[0] != cache.revision:
            found = sorted(await self._storage.all(self._row), key=lambda tree: str(tree["metadata"]["name"]))
            self._known = (
                cache.revision,
                [_hook(c["metadata"]["name"], t) for c in found for t in c.get("webhooks") or ()],
            )
        return self._known[1]


def _hook(configuration: str, tree: Tree) -> Hook:
    conditions = []
    for condition in tree.get("matchConditions") or ():
        try:
            conditions.append((condition["name"], compile_expression(condition["expression"])))
        except CelError:
            # Refused when it was written; one from before that rule never matches.
            conditions.append((condition["name"], compile_expression("false")))
    return Hook(tree["name"], configuration, tree, Selectors.of(tree), tuple(conditions))
