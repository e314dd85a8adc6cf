"""The handler: from a request of a known user to an answer, the same for HTTP and in-process callers."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec

from edgekube.api.errors import InternalError, MethodNotAllowed, NotFound, ServiceUnavailable, StatusError
from edgekube.apiserver import virtual
from edgekube.apiserver.audit.auditor import Auditor, Record
from edgekube.apiserver.authz import Access
from edgekube.apiserver.codec import yaml_of
from edgekube.apiserver.exchange import WHOLE, Exchange, Parts, Serve
from edgekube.apiserver.fairness.gate import Gate
from edgekube.apiserver.fields import relabelled
from edgekube.apiserver.metrics import Metrics
from edgekube.apiserver.negotiate import PROTOBUF, YAML, choose, not_acceptable
from edgekube.apiserver.passage import Passages
from edgekube.apiserver.present import Presenter
from edgekube.apiserver.registry import problems
from edgekube.apiserver.request import Request, Response
from edgekube.apiserver.route import Address, Target, not_served, resolve, split, verb_of
from edgekube.apiserver.subresources import subresource_of
from edgekube.apiserver.verbs import VERBS
from edgekube.apiserver.versions import View
from edgekube.store.base import StoreUnavailable

log = logging.getLogger(__name__)

Page = Callable[[Request], Awaitable[Response]]
"""Serves a path that is no resource."""


@dataclass(frozen=True, slots=True)
class Pages:
    """Paths that are no resources: exact ones first, then by first element (`/openapi/…`)."""

    exact: Mapping[str, Page] = field(default_factory=dict)
    below: Mapping[str, Page] = field(default_factory=dict)

    def find(self, path: str) -> Page | None:
        """Return what serves `path`."""
        trimmed = path.rstrip("/") or "/"
        return self.exact.get(trimmed) or self.below.get(path.split("/", 2)[1] if "/" in path else "")


class Handler:
    """Authorizes, finds what serves a request, and presents the answer as the client likes it."""

    def __init__(
        self, parts: Parts, presenter: Presenter, pages: Pages, metrics: Metrics, gate: Gate, *,
        auditor: Auditor | None = None,
    ) -> None:  # fmt: skip
        self._gate = gate
        self._auditor = auditor
        self.parts = parts
        self._presenter = presenter
        self._pages = pages
        self._metrics = metrics
        self.passages = Passages(gate, metrics, parts.authorization, auditor, failure)
        """For requests that somebody else answers."""

    async def answer(self, request: Request) -> Response:
        """Return the answer, also when it is an error."""
        started = time.perf_counter()
        ticket = record = access = None
        try:
            address = split(request.path)
            access = access_of(request, address)
            if self._auditor is not None:
                record = self._auditor.begin(request, access)
            ticket = self._gate.ticket(request.user, access)
            await self._gate.enter(ticket)
            kind = self._metrics.begin(access.verb)
            try:
                response = await self._serve(request, address, access)
            finally:
                self._metrics.end(kind)
                self._gate.leave(ticket)
        except StatusError as error:
            response = failure(error)
        except Exception:
            # One broken request must not end the connection without an answer.
            log.exception("%s %s", request.method, request.path)
            response = failure(InternalError("Internal error occurred: see the server's log"))
        if ticket is not None:
            response.headers += ticket.headers
        if record is not None:
            record.stage("ResponseComplete" if response.events is None else "ResponseStarted", response)
        self._metrics.count(access, response.code, time.perf_counter() - started)
        return response

    def audited(self, request: Request, address: Address | None) -> Record | None:
        """Begin the audit record of a request that is not served by `answer`; raises MethodNotAllowed."""
        return None if self._auditor is None else self._auditor.begin(request, access_of(request, address))

    def unknown(self, request: Request, error: StatusError) -> None:
        """Note a request of somebody who could not prove who it is."""
        with suppress(MethodNotAllowed):
            record = self.audited(request, split(request.path))
            if record is not None:
                record.stage("ResponseStarted", failure(error))

    async def dispatch(self, request: Request) -> Response:
        """Return the successful answer; raises StatusError."""
        address = split(request.path)
        return await self._serve(request, address, access_of(request, address))

    async def _serve(self, request: Request, address: Address | None, access: Access) -> Response:
        if address is None:
            return await self._page(request, access)
        exchange = self.exchange(request, address, access)
        serve = self._server_of(exchange, address)
        try:
            view = self.parts.versions.of(exchange.target.row)
            response = await (serve(exchange) if view is None else _viewed(exchange, view, serve))
        except StoreUnavailable as error:
            raise ServiceUnavailable(f"the store does not answer: {error}", retry_after=1) from error
        response = self._presenter.present(exchange, response)
        if exchange.media.type == YAML and response.events is None:
            response.body, response.content_type = yaml_of(response.body), YAML
        elif exchange.media.type == PROTOBUF:
            response = _in_protobuf(exchange, response)
        if exchange.warnings:
            response.headers += [("Warning", f"299 - {_quoted(text)}") for text in _cut(exchange.warnings)]
        return response

    def exchange(self, request: Request, address: Address, access: Access | None = None) -> Exchange:
        """Return the request with its verb and target; raises Forbidden, NotFound, NotAcceptable."""
        access = access or access_of(request, address)
        verb = access.verb
        self.parts.authorization.require(request.user, access)
        media = choose(request.headers.get("accept", ""))
        entry = virtual.by_path(address.group, address.version, address.plural)
        if entry is not None and media.transform:
            # What is only asked has no metadata that could be shown instead.
            raise not_acceptable()
        if entry is not None:
            target = Target(entry.row, address.namespace, address.name, address.subresource)
        else:
            target = resolve(self.parts.scheme, address)
        return Exchange(self.parts, request, verb, target, media)

    def _server_of(self, exchange: Exchange, address: Address) -> Serve:
        target = exchange.target
        if address.rest or (target.row.namespaced and not target.namespace and _needs_namespace(exchange)):
            raise not_served()
        serve = _table_of(exchange).get(exchange.verb)
        if serve is None:
            raise MethodNotAllowed("the server does not allow this method on the requested resource")
        return serve

    async def _page(self, request: Request, access: Access) -> Response:
        self.parts.authorization.require(request.user, access)
        page = self._pages.find(request.path)
        if page is None:
            raise NotFound("the server could not find the requested resource")
        return await page(request)


def access_of(request: Request, address: Address | None) -> Access:
    """Return what a request asks to do; raises MethodNotAllowed."""
    if address is None:
        return Access(verb=request.method.lower(), path=request.path)
    return Access(
        verb=verb_of(request.method, address, request.query),
        group=address.group, plural=address.plural, subresource=address.subresource,
        namespace=address.namespace, name=address.name, fields=request.query.get("fieldSelector", ""),
    )  # fmt: skip


WARNINGS_LIMIT, WARNING_LIMIT = 4096, 256
"""Characters of all warnings of an answer, and of one of them when those are too many."""


def _in_protobuf(exchange: Exchange, response: Response) -> Response:
    from edgekube.apiserver import protobuf  # noqa: PLC0415 - its tables are only for those who ask

    fallback = exchange.media.fallback
    if response.events is None:
        return protobuf.answer(response, fallback=fallback)
    row = exchange.target.row
    if protobuf.encodable(row.api_version, row.kind):
        response.events, response.content_type = protobuf.events(response.events), protobuf.STREAM
    elif not fallback:
        raise not_acceptable()
    return response


async def _viewed(exchange: Exchange, view: View, serve: Serve) -> Response:
    """Serve a version through the one that is stored."""
    shown, exchange.view = exchange.target, view
    whole = shown.subresource in WHOLE
    if whole and exchange.verb in {"create", "update"}:
        tree = exchange.tree()
        validation = exchange.query.get("fieldValidation", "")
        found = exchange.parts.codec.normalise(tree, view.row, validation, exchange.warnings)
        if found.missing:
            raise problems.invalid(view.row.kind, view.row.group, shown.name, found.missing)
        exchange.sent = await view.stored(found.tree)
    exchange.target = replace(shown, row=view.storage)
    if chosen := exchange.query.get("fieldSelector"):
        query = {**exchange.query, "fieldSelector": relabelled(view.row, chosen)}
        exchange.request = replace(exchange.request, query=query)
    try:
        response = await serve(exchange)
    finally:
        exchange.target = shown
    if response.events is not None:
        response.events = view.events(response.events)
    elif whole:
        response.body = await view.body(response.body)
    return response


NEED_NAMESPACE = frozenset({"create", "deletecollection"})


def _needs_namespace(exchange: Exchange) -> bool:
    return bool(exchange.target.name) or exchange.verb in NEED_NAMESPACE


def _table_of(exchange: Exchange) -> Mapping[str, Serve]:
    """Return what serves the verbs of the exchange's target."""
    target = exchange.target
    entry = virtual.by_path(target.row.group, target.row.version, target.row.plural)
    if entry is not None:
        return {"create": entry.create}
    if target.subresource:
        table = subresource_of(target)
        if table is None:
            raise not_served()
        return table
    return VERBS if exchange.verb in target.row.verbs else {}


def failure(error: StatusError) -> Response:
    """Return an error as its `Status`."""
    headers = [("Retry-After", str(error.retry_after))] if error.retry_after else []
    return Response(code=error.code, body=msgspec.json.encode(error.tree()), headers=headers)


def _cut(warnings: Iterable[str]) -> Sequence[str]:
    """Return warnings once each, cut as Kubernetes cuts them: clients refuse answers of endless headers."""
    found = list(dict.fromkeys(warnings))
    if sum(map(len, found)) > WARNINGS_LIMIT:
        found = [text[:WARNING_LIMIT] for text in found[: WARNINGS_LIMIT // WARNING_LIMIT]]
    return found


def _quoted(text: str) -> str:
    # Names of unknown fields are the client's own text: no line may end within a header.
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
