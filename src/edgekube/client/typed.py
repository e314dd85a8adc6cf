"""The API client every part uses: typed objects over a carrier."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from edgekube.api.resource import Key, Resource
from edgekube.api.types import meta_v1
from edgekube.client.base import Call, Carrier, Unreachable

T = TypeVar("T")

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class _RawList(msgspec.Struct):
    metadata: meta_v1.ListMeta
    items: list[msgspec.Raw] = []


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """Objects as they were at `resource_version`; `continue_` is "" when there are no more."""

    items: Sequence[T]
    resource_version: str
    continue_: str = ""


@dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """One watch event; a BOOKMARK carries only metadata.resourceVersion and so has no object."""

    type: str
    resource_version: str
    object: T | None


class _KindOnly(msgspec.Struct):
    kind: str = ""


class _Version(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Bookmark(msgspec.Struct):
    """All that is read of a bookmark; servers leave nulls in the rest of its metadata."""

    metadata: _Version


def _options(**values: str | int | bool | None) -> dict[str, str]:
    return {
        name: ("true" if value else "false") if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value not in (None, "", 0)
    }


class Client:
    """CRUD and watch. `manager` is recorded as field manager. Raises StatusError subclasses, Unreachable."""

    def __init__(self, carrier: Carrier, *, manager: str = "edgekube") -> None:
        self.carrier = carrier
        self._write = {"fieldManager": manager}

    async def get(self, resource: Resource[T], key: Key, *, subresource: str = "") -> T:
        """Return one object; raises NotFound."""
        call = Call(
            verb="get", resource=resource, namespace=key.namespace, name=key.name, subresource=subresource
        )
        return _decode(await self.carrier.do(call), resource.type)

    async def list(
        self, resource: Resource[T], *, namespace: str = "", labels: str = "", fields: str = "", limit: int = 0,
        continue_: str = "", resource_version: str = "",
    ) -> Listing[T]:  # fmt: skip
        """Return the objects a label and a field selector choose, in `namespace` or in all ("")."""
        query = _options(
            labelSelector=labels, fieldSelector=fields, limit=limit, resourceVersion=resource_version,
            **{"continue": continue_},
        )  # fmt: skip
        body = await self.carrier.do(Call(verb="list", resource=resource, namespace=namespace, query=query))
        raw = _decode(body, _RawList)
        decoder = msgspec.json.Decoder(resource.type)
        items = [_read(decoder, item) for item in raw.items]
        return Listing(items, raw.metadata.resource_version, raw.metadata.continue_)

    async def create(
        self, resource: Resource[T], obj: T, *, namespace: str = "", name: str = "", subresource: str = ""
    ) -> T:
        """Create and return as stored; `name` is needed only with a subresource (e.g. binding)."""
        space = namespace or _meta(obj).namespace
        call = Call(
            verb="create", resource=resource, namespace=space, name=name, subresource=subresource,
            query=self._write, body=msgspec.json.encode(obj),
        )  # fmt: skip
        return _decode(await self.carrier.do(call), resource.type)

    async def post(self, resource: Resource[Any], key: Key, subresource: str, body: object) -> bytes:
        """POST to a subresource whose kind is not the resource's own (binding, eviction, token)."""
        call = Call(
            verb="create", resource=resource, namespace=key.namespace, name=key.name, subresource=subresource,
            query=self._write, body=msgspec.json.encode(body),
        )  # fmt: skip
        return await self.carrier.do(call)

    async def update(self, resource: Resource[T], obj: T, *, subresource: str = "") -> T:
        """Replace; raises Conflict when the object carries an old resourceVersion."""
        meta = _meta(obj)
        call = Call(
            verb="update", resource=resource, namespace=meta.namespace, name=meta.name, subresource=subresource,
            query=self._write, body=msgspec.json.encode(obj),
        )  # fmt: skip
        return _decode(await self.carrier.do(call), resource.type)

    async def patch(
        self, resource: Resource[T], key: Key, patch: object, *, kind: str = MERGE, subresource: str = ""
    ) -> T:
        """Patch with `patch` (a JSON tree) of media type `kind`."""
        call = Call(
            verb="patch", resource=resource, namespace=key.namespace, name=key.name, subresource=subresource,
            query=self._write, body=msgspec.json.encode(patch), content_type=kind,
        )  # fmt: skip
        return _decode(await self.carrier.do(call), resource.type)

    async def delete(
        self, resource: Resource[T], key: Key, *, grace: int | None = None, propagation: str = "", uid: str = "",
        resource_version: str = "",
    ) -> T | None:  # fmt: skip
        """
        Delete; `uid` and `resource_version` are preconditions, `propagation` is Background, Foreground or Orphan.

        Return the object as it is now when the server shows it (it may wait for finalizers or its
        grace period), None when the server answers with a Status.
        """
        preconditions = _options(uid=uid, resourceVersion=resource_version)
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if propagation:
            options["propagationPolicy"] = propagation
        if preconditions:
            options["preconditions"] = preconditions
        call = Call(
            verb="delete",
            resource=resource,
            namespace=key.namespace,
            name=key.name,
            body=msgspec.json.encode(options),
        )
        answer = await self.carrier.do(call)
        if _decode(answer, _KindOnly).kind in {"Status", ""}:
            return None
        return _decode(answer, resource.type)

    async def delete_collection(
        self, resource: Resource[Any], *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> None:
        """Delete all objects the selectors choose, in `namespace`."""
        query = _options(labelSelector=labels, fieldSelector=fields)
        await self.carrier.do(
            Call(verb="deletecollection", resource=resource, namespace=namespace, query=query)
        )

    async def watch(
        self, resource: Resource[T], *, namespace: str = "", since: str = "", labels: str = "", fields: str = "",
        options: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Event[T]]:  # fmt: skip
        """Yield changes after resource version `since`, with bookmarks; raises Expired to ask for a new list."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            **_options(resourceVersion=since, labelSelector=labels, fieldSelector=fields),
            **(options or {}),
        }
        decoder = msgspec.json.Decoder(resource.type)
        bookmark = msgspec.json.Decoder(_Bookmark)
        call = Call(verb="watch", resource=resource, namespace=namespace, query=query)
        async for event in self.carrier.watch(call):
            if event.type == "BOOKMARK":
                yield Event(event.type, _read(bookmark, event.raw).metadata.resource_version, None)
                continue
            obj = _read(decoder, event.raw)
            yield Event(event.type, _meta(obj).resource_version, obj)


def _read(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise _unreadable(error) from error


def _decode(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise _unreadable(error) from error


def _unreadable(error: msgspec.DecodeError) -> Unreachable:
    # Not the API's words: a captive portal, a proxy, or a cluster of another age.
    return Unreachable(f"the answer cannot be read: {error}")


def _meta(obj: object) -> meta_v1.ObjectMeta:
    if isinstance(obj, dict):
        return msgspec.convert(obj.get("metadata", {}), meta_v1.ObjectMeta)
    meta = obj.metadata  # type: ignore[attr-defined]
    assert isinstance(meta, meta_v1.ObjectMeta)
    return meta
