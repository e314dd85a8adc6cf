"""
The OpenAPI documents of extension servers, as ours take them in (kube-aggregator's OpenAPI controllers).

Whatever an extension server sends, ours stay whole: what cannot be read is left out, and what was read
last stays while it does not answer.
"""

import asyncio
import gzip
import hashlib
import logging
from dataclasses import dataclass
from typing import Any

import msgspec

from edgekube.api.errors import StatusError
from edgekube.apiserver.aggregation.probe import Prober
from edgekube.apiserver.aggregation.remote import Remote
from edgekube.apiserver.request import Tree

log = logging.getLogger(__name__)

INDEX, OLDER = "/openapi/v3", "/openapi/v2"
LEVEL = 6
TYPED = "x-kubernetes-group-version-kind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What an extension server says of its kinds; bytes are compressed JSON."""

    path: str
    """`apis/<group>/<version>`."""
    hash: str
    """Another one for every other content."""
    definitions: bytes
    """v2 definitions by name: those of its kinds, and what they refer to."""
    whole: bytes = b""
    """A v3 document, where the extension server has none of its own; else requests go there."""
    tag: str = ""


class Unreadable(ValueError):
    """Not an OpenAPI document, or one that nothing here can do with."""


class Documents:
    """Fetches them."""

    def __init__(self, prober: Prober) -> None:
        self._prober = prober

    async def fetch(self, remote: Remote, known: Document | None) -> Document | None:
        """Return the newest document there is; `known` when there is no other."""
        try:
            return await self._fetch(remote, known)
        except (OSError, TimeoutError, StatusError, Unreadable) as error:
            log.info("OpenAPI of %s: %s", remote.name, error)
            return known

    async def _fetch(self, remote: Remote, known: Document | None) -> Document | None:
        path = remote.root.lstrip("/")
        got = await self._prober.get(remote, INDEX)
        url = _listed(got.body, path) if got.code == 200 else ""
        tag = known.tag if known is not None else ""
        got = await self._prober.get(remote, url or OLDER, tag=tag)
        if got.code == 304:
            return known
        if got.code != 200:
            raise Unreadable(f"{url or OLDER} answers {got.code}")
        return await asyncio.to_thread(_read, got.body, remote, tag=got.tag, newer=bool(url))


def _listed(body: bytes, path: str) -> str:
    """Return where an index says that the document of a group version is; "" if it does not, or elsewhere."""
    try:
        url = msgspec.json.decode(body)["paths"][path]["serverRelativeURL"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
    return url if isinstance(url, str) and url.startswith(f"{INDEX}/") else ""


def _read(body: bytes, remote: Remote, *, tag: str, newer: bool) -> Document:
    """Read a document; raises Unreadable."""
    from edgekube.api.openapi import v2  # noqa: PLC0415 - only for those who have extension servers

    try:
        tree = msgspec.json.decode(body)
        whole = b""
        if newer:
            found = {name: v2.older(schema) for name, schema in tree["components"]["schemas"].items()}
        else:
            found = tree["definitions"]
        kept = v2.closure(found, remote.group, remote.version)
        # What cannot be written may not come into ours.
        v2.encode({"swagger": "2.0", "info": {"title": "", "version": ""}, "definitions": kept})
        if not newer:
            paths = {
                path: entry
                for path, entry in (tree.get("paths") or {}).items()
                if path == remote.root or path.startswith(f"{remote.root}/")
            }
            whole = _packed(v2.newer(kept, paths, remote.name))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Unreadable(f"not a document that can be read: {error!r}") from error
    digest = hashlib.sha256(body).hexdigest()[:32].upper()
    return Document(
        path=remote.root.lstrip("/"), hash=digest, definitions=_packed(kept), whole=whole, tag=tag,
    )  # fmt: skip


def _packed(tree: Tree) -> bytes:
    return gzip.compress(msgspec.json.encode(tree), LEVEL)


def unpacked(data: bytes) -> dict[str, Any]:
    """Return what was packed."""
    found: dict[str, Any] = msgspec.json.decode(gzip.decompress(data))
    return found
