"""logs, exec, attach and port-forward: checks here, the carrying in `apiserver.streams`."""

import msgspec
from aiohttp import web

from edgekube.api.errors import BadRequest, ServiceUnavailable, StatusError
from edgekube.api.types import core_v1
from edgekube.apiserver.connecting import connect
from edgekube.apiserver.exchange import Exchange
from edgekube.apiserver.handler import Handler, failure
from edgekube.apiserver.request import Request, Response
from edgekube.apiserver.route import Address, not_served, split
from edgekube.transport.base import StreamGateway

KINDS = frozenset({"log", "exec", "attach", "portforward"})
VERBS = {
    "log": ("get",),
    "exec": ("get", "create"),
    "attach": ("get", "create"),
    "portforward": ("get", "create"),
}
ENDED = ("Succeeded", "Failed")


class Streaming:
    """Finds out whether a request is for a pod's stream, and hands it on when it may pass."""

    def __init__(self, handler: Handler, gateway: StreamGateway | None) -> None:
        self._handler = handler
        self._gateway = gateway

    async def serve(self, raw: web.BaseRequest, request: Request) -> web.StreamResponse | None:
        """Return the finished stream, or None when this is another sort of request."""
        if request.path.rpartition("/")[2] not in KINDS:
            return None
        address = split(request.path)
        if address is None or address.subresource not in KINDS or address.plural != "pods" or address.group:
            return None
        record = self._handler.audited(request, address)
        try:
            stream = await self._stream(raw, request, address)
        except StatusError as error:
            if record is not None:
                record.stage("ResponseComplete", failure(error))
            raise
        if record is not None:
            record.stage("ResponseComplete", Response(code=stream.status))
        return stream

    async def _stream(self, raw: web.BaseRequest, request: Request, address: Address) -> web.StreamResponse:
        from edgekube.apiserver.streams import serve_stream  # noqa: PLC0415 - WebSockets only when somebody streams

        exchange = self._exchange(request, address)
        pod = await self._pod(exchange, address)
        await connect(exchange, raw.query_string)
        if self._gateway is None:
            raise ServiceUnavailable("this server has no way to nodes")
        return await serve_stream(raw, kind=address.subresource, pod=pod, gateway=self._gateway)

    def _exchange(self, request: Request, address: Address) -> Exchange:
        exchange = self._handler.exchange(request, address)
        if exchange.verb not in VERBS[address.subresource]:
            raise not_served()
        return exchange

    async def _pod(self, exchange: Exchange, address: Address) -> core_v1.Pod:
        stored = await exchange.parts.registry.stored(exchange.target)
        pod = msgspec.json.decode(stored.body, type=core_v1.Pod)
        if not pod.spec or not pod.spec.node_name:
            raise BadRequest(f"pod {address.name} does not have a host assigned")
        if address.subresource in {"exec", "attach"} and pod.status and pod.status.phase in ENDED:
            raise BadRequest(
                f"cannot exec into a container in a completed pod; current phase is {pod.status.phase}"
            )
        return pod
