"""Requests for a group version that an extension server serves: allowed here, answered there."""

from contextlib import AsyncExitStack

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web

from edgekube.api.errors import ServiceUnavailable, StatusError
from edgekube.apiserver.aggregation.keeper import Aggregation, Extended
from edgekube.apiserver.aggregation.remote import REMOTE, BadBundle, FrontProxy, context_of, headers_of
from edgekube.apiserver.dial import Dialer
from edgekube.apiserver.handler import Handler, access_of, failure
from edgekube.apiserver.proxying import CONNECT_SECONDS, HOP, relay, relay_websocket
from edgekube.apiserver.request import Request, Response
from edgekube.apiserver.route import split

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
        address = split(request.path)
        record = self._handler.audited(request, address)
        try:
            self._handler.parts.authorization.require(request.user, access_of(request, address))
            answer = await self._pass(raw, request, extended)
        except StatusError as error:
            if record is not None:
                record.stage("ResponseComplete", failure(error))
            raise
        if record is not None:
            record.stage("ResponseComplete", Response(code=answer.status))
        return answer

    async def _pass(self, raw: web.BaseRequest, request: Request, extended: Extended) -> web.StreamResponse:
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
                if raw.headers.get("Upgrade", "").lower() == "websocket":
                    return await relay_websocket(raw, session, url, headers, server_hostname=remote.host)
                return await relay(raw, request, session, url, headers, server_hostname=remote.host)
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
