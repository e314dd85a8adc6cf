"""/openapi/v3: an index and one document a group version, built when first asked for and kept compressed."""

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Iterable, Sequence

import msgspec

from edgekube.api import openapi
from edgekube.api.openapi.custom import SchemaOf
from edgekube.api.resource import AnyResource
from edgekube.api.schema import Schemas
from edgekube.apiserver.aggregation.documents import Document, unpacked
from edgekube.apiserver.request import JSON, Request, Response
from edgekube.apiserver.route import not_served

ROOT = "/openapi/v3"
OLDER = "/openapi/v2"
GNOSTIC = (
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
)
"""How clients ask for v2 in protobuf, and how they did."""
LEVEL = 6
FOR_EVER = ("Cache-Control", "public, immutable, max-age=31536000")
"""Documents asked for by hash never change."""


class OpenApiPages:
    """Serves the rows that `rows` returns; `version` goes into the hash that clients cache by."""

    def __init__(
        self,
        schemas: Schemas,
        rows: Callable[[], Iterable[AnyResource]],
        version: str,
        *,
        schema_of: SchemaOf,
        others: Callable[[], Sequence[Document]] = tuple,
    ) -> None:
        self._schemas = schemas
        self._others = others
        """What extension servers say of their kinds."""
        self._rows = rows
        self._version, self._schema_of = version, schema_of
        self._documents: dict[tuple[str, str], bytes] = {}
        self._building = asyncio.Lock()

    async def page(self, request: Request) -> Response:
        """Answer any path below /openapi; raises NotFound."""
        path = request.path.rstrip("/")
        if path == ROOT:
            tree = openapi.index(self._rows(), self._digest(""))
            tree["paths"] |= {
                other.path: {"serverRelativeURL": f"{ROOT}/{other.path}?hash={other.hash}"}
                for other in self._others()
            }
            return Response(body=msgspec.json.encode(tree))
        if path == OLDER:
            return await self._older(request)
        for row in self._rows():
            if path == f"{ROOT}/{openapi.group_path(row.group, row.version)}":
                return await self._document(request, row)
        for other in self._others():
            if other.whole and path == f"{ROOT}/{other.path}":
                return _sent(
                    request, other.whole, other.hash, for_ever=request.query.get("hash") == other.hash
                )
        raise not_served()

    async def _older(self, request: Request) -> Response:
        """Answer in v2: gnostic's protobuf for those who ask for it, else JSON."""
        wanted = next((kind for kind in GNOSTIC if kind in request.headers.get("accept", "")), "")
        others = tuple(self._others())
        digest = self._digest(OLDER, "\n".join(f"{one.path} {one.hash}" for one in others))
        tag = f'"{digest}"'
        headers = [("ETag", tag), ("Vary", "Accept, Accept-Encoding")]
        if request.headers.get("if-none-match") == tag:
            return Response(code=304, headers=headers)
        key = (OLDER + wanted, digest)
        async with self._building:
            if key not in self._documents:
                # Of what is served no more nothing is kept.
                for known in [k for k in self._documents if k[0].startswith(OLDER) and k[1] != digest]:
                    del self._documents[known]
                self._documents[key] = await asyncio.to_thread(
                    self._build_older, others, protobuf=bool(wanted)
                )
        # The other name has a sign that media types may not have.
        kind, body = GNOSTIC[0] if wanted else JSON, self._documents[key]
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(body=body, content_type=kind, headers=[*headers, ("Content-Encoding", "gzip")])
        return Response(body=gzip.decompress(body), content_type=kind, headers=headers)

    def _build_older(self, others: Sequence[Document], *, protobuf: bool) -> bytes:
        from edgekube.api.openapi import v2  # noqa: PLC0415 - only for older clients

        tree = v2.document(self._schemas, self._rows(), self._version, schema_of=self._schema_of)
        tree["definitions"] = v2.merged(
            tree["definitions"], (unpacked(other.definitions) for other in others)
        )
        return gzip.compress(v2.encode(tree) if protobuf else msgspec.json.encode(tree), LEVEL)

    async def _document(self, request: Request, row: AnyResource) -> Response:
        path = openapi.group_path(row.group, row.version)
        for_ever, digest = request.query.get("hash") == self._digest(""), self._digest(path)
        if request.headers.get("if-none-match") == f'"{digest}"':
            return _sent(request, b"", digest, for_ever=for_ever)
        return _sent(request, await self._compressed(row, path), digest, for_ever=for_ever)

    async def _compressed(self, row: AnyResource, path: str) -> bytes:
        key = (path, self._digest(path))
        async with self._building:
            if key not in self._documents:
                # Of what is served no more nothing is kept.
                for known in [
                    k for k in self._documents if not k[0].startswith(OLDER) and k[1] != self._digest(k[0])
                ]:
                    del self._documents[known]
                # Takes a noticeable time on a small board: requests go on meanwhile.
                self._documents[key] = await asyncio.to_thread(self._build, row.group, row.version)
        return self._documents[key]

    def _build(self, group: str, version: str) -> bytes:
        tree = openapi.document(self._schemas, group, version, self._rows(), schema_of=self._schema_of)
        return gzip.compress(msgspec.json.encode(tree), LEVEL)

    def _digest(self, path: str, more: str = "") -> str:
        """Hash what documents are made from: the server's version and the rows served."""
        text = "\n".join(
            f"{r.path()} {r.kind} {r.verbs} {r.subresources} {r.custom.revision if r.custom else ''}"
            for r in self._rows()
        )
        return hashlib.sha256(f"{self._version}\n{path}\n{text}{more}".encode()).hexdigest()[:32].upper()


def _sent(request: Request, packed: bytes, digest: str, *, for_ever: bool) -> Response:
    """Return a document as the client takes it, or that it has it already."""
    tag = f'"{digest}"'
    headers = [("ETag", tag), ("Vary", "Accept, Accept-Encoding")]
    if for_ever:
        headers.append(FOR_EVER)
    if request.headers.get("if-none-match") == tag:
        return Response(code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(body=packed, headers=[*headers, ("Content-Encoding", "gzip")])
    return Response(body=gzip.decompress(packed), headers=headers)
