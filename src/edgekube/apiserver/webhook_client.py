"""Calling webhooks: HTTPS POST of a review, by URL or by Service (admissionregistration WebhookClientConfig)."""

import asyncio
import base64
import binascii
import ssl
from contextlib import AsyncExitStack
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from edgekube.api.errors import StatusError
from edgekube.apiserver.dial import Dialer
from edgekube.apiserver.request import Tree
from edgekube.lib.errors import EdgekubeError

if TYPE_CHECKING:
    import aiohttp

LARGEST = 8 << 20
"""Bytes of an answer."""


class WebhookError(EdgekubeError):
    """A webhook that could not be asked, or answered nonsense."""


class WebhookClient:
    """Posts reviews."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    async def post(self, config: Tree, body: Tree, *, seconds: float) -> Tree:
        """Return the answer to `body`; raises WebhookError."""
        try:
            async with asyncio.timeout(seconds), AsyncExitStack() as stack:
                url, name = await self._where(config, stack)
                return await _post(url, name, body, config.get("caBundle", ""), seconds)
        except TimeoutError as error:
            raise WebhookError(f"context deadline exceeded after {seconds:g} s") from error
        except (StatusError, OSError) as error:
            raise WebhookError(str(error)) from error

    async def _where(self, config: Tree, stack: AsyncExitStack) -> tuple[str, str]:
        """Return the URL to ask, and the name its certificate must have."""
        if config.get("url"):
            return config["url"], urlsplit(config["url"]).hostname or ""
        service = config.get("service") or {}
        namespace, name = service.get("namespace", ""), service.get("name", "")
        reach = self._dialer.service(namespace, name, service.get("port", 443))
        host, port = await stack.enter_async_context(reach)
        path = service.get("path", "").lstrip("/")
        shown = f"[{host}]" if ":" in host else host
        return f"https://{shown}:{port}/{path}", f"{name}.{namespace}.svc"


async def _post(url: str, name: str, body: Tree, bundle: str, seconds: float) -> Tree:
    import aiohttp  # noqa: PLC0415 - the client is only for those who have webhooks

    timeout = aiohttp.ClientTimeout(total=seconds)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Host": name}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                url,
                data=msgspec.json.encode(body),
                headers=headers,
                ssl=_context(bundle),
                # Whoever answers must be who was asked.
                allow_redirects=False,
                server_hostname=name,
            ) as answer,
        ):
            raw = await _bounded(answer.content)
            if answer.status != 200:
                raise WebhookError(f"an error on the server ({raw[:200].decode(errors='replace')!r}) has prevented the request from succeeding: {answer.status}")  # fmt: skip
    except aiohttp.ClientError as error:
        raise WebhookError(str(error) or type(error).__name__) from error
    return _decoded(raw)


async def _bounded(content: "aiohttp.StreamReader") -> bytes:
    """Return all of a body; one that is too large is read no further."""
    raw = bytearray()
    async for chunk in content.iter_any():
        raw += chunk
        if len(raw) > LARGEST:
            break
    return bytes(raw)


def _decoded(raw: bytes) -> Tree:
    if len(raw) > LARGEST:
        raise WebhookError("the answer is too large")
    try:
        tree = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise WebhookError(f"the answer is no JSON: {error}") from error
    if not isinstance(tree, dict):
        raise WebhookError("the answer is no object")
    return tree


@lru_cache(maxsize=64)
def _context(bundle: str) -> ssl.SSLContext:
    try:
        authority = base64.b64decode(bundle).decode() if bundle else None
        return ssl.create_default_context(cadata=authority)
    except (ValueError, binascii.Error, ssl.SSLError) as error:
        raise WebhookError(f"caBundle cannot be read: {error}") from error
