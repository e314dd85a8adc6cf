"""
The control loop that every part shares.

A loop is level-based: `reconcile` is told *which* object may need work, never what happened to
it. It reads the whole state from its caches, decides, writes, and returns.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from edgekube.api.errors import Conflict, Invalid, StatusError
from edgekube.api.resource import Object
from edgekube.client.base import Unreachable
from edgekube.control.queue import WorkQueue
from edgekube.control.reader import Reader
from edgekube.lib.backoff import Backoff
from edgekube.lib.errors import EdgekubeError

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)
T = TypeVar("T", bound=Object)


class Terminal(EdgekubeError):
    """Trying again cannot help until the object changes."""


class Reconciler(Protocol[K_contra]):
    """The business logic of one loop."""

    async def reconcile(self, key: K_contra) -> float | None:
        """Bring the object nearer to its spec; return seconds to look again, or None."""
        ...


@dataclass(slots=True)
class Controller(Generic[K]):
    """Run a reconciler over a queue with `workers` tasks."""

    name: str
    reconciler: Reconciler[K]
    workers: int = 1
    queue: WorkQueue[K] = field(default_factory=WorkQueue)
    backoff: Backoff[K] = field(default_factory=Backoff)
    _synced: list[asyncio.Event] = field(default_factory=list)

    def watch(self, reader: Reader[T], keys: Callable[[T], Iterable[K]]) -> None:
        """Queue `keys(object)` for the old and the new form of every object that changes."""

        def enqueue(old: T | None, new: T | None) -> None:
            for form in (old, new):
                if form is not None:
                    for key in keys(form):
                        self.queue.add(key)

        reader.subscribe(enqueue)
        self._synced.append(reader.synced)

    async def run(self) -> None:
        """Wait until the caches are full, then work until cancelled."""
        for synced in self._synced:
            await synced.wait()
        async with asyncio.TaskGroup() as group:
            for number in range(self.workers):
                group.create_task(self._work(), name=f"{self.name}-{number}")

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                await self._reconcile(key)
            finally:
                self.queue.done(key)

    async def _reconcile(self, key: K) -> None:
        try:
            again = await self.reconciler.reconcile(key)
        except (Terminal, Invalid) as error:
            # Retrying soon cannot help; a change of the object will queue it again. Looked at
            # again late all the same, since what forbade it may not be an object we watch.
            log.error("%s: %s gave up: %s", self.name, key, error)  # noqa: TRY400 - expected, no traceback
            self.backoff.forget(key)
            self.queue.add_after(key, 300)
        except Conflict:
            # Somebody was faster; the watch will bring the newer version.
            self.queue.add_after(key, self.backoff.next(key))
        except (StatusError, Unreachable) as error:
            # Forbidden too: what forbade it (a quota, a ServiceAccount not made yet) often passes.
            log.warning("%s: %s: %s", self.name, key, error)
            self.queue.add_after(key, self.backoff.next(key))
        except Exception:
            # The one place that may catch everything: one bad object must not stop the others.
            log.exception("%s: %s failed", self.name, key)
            self.queue.add_after(key, self.backoff.next(key))
        else:
            self.backoff.forget(key)
            if again is not None:
                self.queue.add_after(key, again)
