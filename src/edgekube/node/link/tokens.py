"""ServiceAccount tokens: asked of the hub, kept until most of their life is over."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.node.clock import parse_stamp
from edgekube.transport.base import Disconnected
from edgekube.transport.wire import TOKEN, Reply, Request, Token, TokenRequest

TIMEOUT = 10.0
"""Seconds to wait for the hub's answer."""
LIFE = 0.8
"""Part of a token's life after which a new one is asked for (as the kubelet does)."""


@dataclass(frozen=True, slots=True)
class _Held:
    token: Token
    until: float


class Tokens:
    """Requests and answers; `send` puts a Request on the wire and raises Disconnected."""

    def __init__(self, send: Callable[[Request], None], clock: Callable[[], float]) -> None:
        self._send, self._clock = send, clock
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._held: dict[TokenRequest, _Held] = {}
        self._number = 0

    async def get(self, key: Key, audience: str, seconds: int, pod: core_v1.Pod) -> tuple[str, str]:
        """Return token and expiry; raises Disconnected."""
        meta = pod.metadata
        wish = TokenRequest(key.namespace, key.name, audience, seconds, meta.name, meta.uid)
        now = self._clock()
        held = self._held.get(wish)
        if held is None or held.until <= now:
            token = await self._ask(wish)
            left = parse_stamp(token.expires) - now
            # A board without a clock of its own may think the token is long over.
            held = _Held(token, now + LIFE * (left if 0 < left <= 2 * seconds else seconds))
            self._held = {w: h for w, h in self._held.items() if h.until > now} | {wish: held}
        return held.token.token, held.token.expires

    def answer(self, reply: Reply) -> None:
        """Take the hub's answer."""
        waiting = self._waiting.get(reply.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def forget(self, uid: str) -> None:
        """Drop the tokens of a pod that is gone."""
        self._held = {wish: held for wish, held in self._held.items() if wish.uid != uid}

    async def _ask(self, wish: TokenRequest) -> Token:
        self._number += 1
        number = self._number
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._send(Request(number, TOKEN, msgspec.msgpack.encode(wish)))
            async with asyncio.timeout(TIMEOUT):
                reply = await answer
        except TimeoutError as error:
            raise Disconnected(f"the hub did not answer within {TIMEOUT:g}s") from error
        finally:
            del self._waiting[number]
        if reply.error:
            raise Disconnected(f"no token for {wish.namespace}/{wish.name}: {reply.error}")
        try:
            return msgspec.msgpack.decode(reply.body, type=Token)
        except msgspec.DecodeError as error:
            raise Disconnected(f"the hub's answer makes no sense: {error}") from error
