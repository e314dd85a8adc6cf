"""The in-process carrier: the same way through the handler as a request from outside, without HTTP."""

from collections.abc import AsyncIterator

from edgekube.api.errors import from_tree
from edgekube.apiserver.codec import from_json
from edgekube.apiserver.handler import Handler
from edgekube.apiserver.identity import User
from edgekube.apiserver.request import Request
from edgekube.apiserver.route import METHODS
from edgekube.apiserver.watching import close
from edgekube.client.base import Call, WatchEvent


class LocalCarrier:
    """Calls the handler as `user`."""

    def __init__(self, handler: Handler, user: User) -> None:
        self._handler = handler
        self._user = user

    async def do(self, call: Call) -> bytes:
        """Return the body of the successful answer."""
        response = await self._handler.dispatch(self._request(call))
        return response.body

    async def watch(self, call: Call) -> AsyncIterator[WatchEvent]:
        """Yield events until the server ends the watch."""
        response = await self._handler.dispatch(self._request(call))
        assert response.events is not None
        try:
            async for batch in response.events:
                for event in batch:
                    if event.type == "ERROR":
                        raise from_tree(from_json(event.raw))
                    yield WatchEvent(event.type, event.raw)
        finally:
            await close(response.events)

    def _request(self, call: Call) -> Request:
        query = dict(call.query)
        if call.verb == "watch":
            query["watch"] = "true"
        return Request(
            method=METHODS[call.verb],
            path="/" + call.resource.path(call.namespace, call.name, call.subresource).lstrip("/"),
            user=self._user,
            query=query,
            headers={"content-type": call.content_type},
            body=call.body,
        )
