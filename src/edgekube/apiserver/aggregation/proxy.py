"""Requests for a group version that an extension server serves: allowed here, answered there."""

from contextlib import AsyncExitStack

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web

from edgekube.api.errors import ServiceUnavailable, StatusError
from edgekube.apiserver.aggregation.keeper import Aggregation, Extended
from edgekube.apiserver.aggregation.remote import REMOTE, BadBundle, FrontProxy, context_of, headers_of
from edgekube.apiserver.dial import Dialer
from edgekube.apiserver.handler import Handler, access_of
from edgekube.apiserver.passage import Passage
from edgekube.apiserver.proxying import CONNECT_SECONDS, HOP, relay
from edgekube.apiserver.request import Request
from edgekube.apiserver.route import split
from edgekube.apiserver.upgrading import wanted

IMPERSONATE = "impersonate-"
UNAVAILABLE = "service unavailable"


class AggregatedProxy:
    """Serves what an extension server has; hands back None for anything else."""

    def __init__(
        self, handler: Handler, aggregation: Aggregation, dialer: Dialer, proxy: FrontProxy | None
    ) -> None:
        self._handler, self._aggregation, self._dialer, self._proxy = handler, aggregation, dialer, proxy

    async def serve(self, raw: web.BaseRequest, request: Request) -> web.StreamResponse | None:
        """Return the finished answer; raises StatusError before it has begun."""
        extended = self._aggregation.find(request.path)
        if extended is None:
            return None
        access, begun = access_of(request, split(request.path)), False
        try:
            async with self._handler.passages.of(request, access, upgrade=bool(wanted(raw))) as passage:
                try:
                    return await self._pass(raw, request, extended, passage)
                finally:
                    begun = passage.code != 0
        except StatusError:
            if begun and raw.transport is not None:
                # Too late to say so: the client sees an answer that is cut off.
                raw.transport.abort()
            raise

    async def _pass(
        self, raw: web.BaseRequest, request: Request, extended: Extended, passage: Passage
    ) -> web.StreamResponse:
        remote = extended.remote
        if extended.finding is not None and not extended.finding.available:
            raise ServiceUnavailable(UNAVAILABLE, retry_after=1)
        async with AsyncExitStack() as stack:
            try:
                context = context_of(remote.bundle, self._proxy, insecure=remote.insecure)
                reach = self._dialer.service(remote.namespace, remote.service, remote.port)
                host, port = await stack.enter_async_context(reach)
                connector = TCPConnector(ssl=context)
                session = await stack.enter_async_context(
                    ClientSession(
                        timeout=ClientTimeout(total=None, connect=CONNECT_SECONDS),
                        connector=connector,
                        auto_decompress=False,
                    )
                )
                shown = f"[{host}]" if ":" in host else host
                url, headers = f"https://{shown}:{port}{raw.raw_path}", _headers(raw, request, remote.host)
                return await relay(
                    raw, request, session, url, headers, server_hostname=remote.host, begun=passage.begun
                )
            except (ClientError, BadBundle, OSError, TimeoutError) as error:
                raise ServiceUnavailable(f"error trying to reach service: {error}", retry_after=1) from error


def _headers(raw: web.BaseRequest, request: Request, host: str) -> list[tuple[str, str]]:
    """Return what goes on: nothing that only we may say, and no credentials."""
    passed = [
        (name, value)
        for name, value in raw.headers.items()
        if (small := name.lower()) not in HOP and not small.startswith((REMOTE, IMPERSONATE))
    ]
    forwarded = ("X-Forwarded-For", raw.remote or "")
    return [*passed, *headers_of(request.user), ("Host", host), forwarded]
