"""
Writing one resource, so that the writer's own cache shows the result at once.

A loop that creates two pods and looks again must see two pods, however far its watch is behind.
Deletes carry the uid, so that a namesake made meanwhile is never hit.
"""

from typing import Any, Generic, TypeVar

from edgekube.api.errors import Conflict, NotFound
from edgekube.api.resource import Key, Object, Resource, key_of
from edgekube.client.typed import MERGE, Client
from edgekube.control.informer import Informer

T = TypeVar("T", bound=Object)


class Writer(Generic[T]):
    """Create, update, patch and delete one resource; every answer is shown to `cache`."""

    def __init__(self, client: Client, cache: Informer[T]) -> None:
        self.resource: Resource[T] = cache.resource
        self._client = client
        self._cache = cache

    async def create(self, obj: T) -> T:
        """Create and return as stored."""
        return self._learn(await self._client.create(self.resource, obj))

    async def update(self, obj: T, *, subresource: str = "") -> T:
        """Replace; raises Conflict when somebody was faster."""
        return self._learn(await self._client.update(self.resource, obj, subresource=subresource))

    async def patch(self, key: Key, patch: object, *, kind: str = MERGE, subresource: str = "") -> T:
        """Patch with a JSON tree."""
        return self._learn(
            await self._client.patch(self.resource, key, patch, kind=kind, subresource=subresource)
        )

    async def delete(self, obj: T, *, propagation: str = "", grace: int | None = None) -> bool:
        """Delete this very object; return False when it is gone or replaced already."""
        try:
            left = await self._client.delete(
                self.resource, key_of(obj), uid=obj.metadata.uid, propagation=propagation, grace=grace
            )
        except (NotFound, Conflict):
            self._cache.forget(obj)
            return False
        if left is None:
            self._cache.forget(obj)
        else:
            self._learn(left)
        return True

    async def live(self, key: Key) -> T | None:
        """Return the object as the API has it, past the cache."""
        try:
            return self._learn(await self._client.get(self.resource, key))
        except NotFound:
            return None

    def _learn(self, obj: T) -> T:
        self._cache.learn(obj)
        return obj


def metadata_patch(uid: str, **fields: Any) -> dict[str, Any]:
    """Return a merge patch of metadata that applies only to the object of that uid."""
    return {"metadata": {"uid": uid, **fields}}
