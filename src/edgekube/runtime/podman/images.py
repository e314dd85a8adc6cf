"""Images, over podman's REST API."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from edgekube.runtime.base import Credentials, ImageInfo, NoSuchImage, PullFailed, RuntimeFailure
from edgekube.runtime.podman.rest import Call, Refused, Rest
from edgekube.runtime.podman.translate import image as image_info

PULL_STALL = 600.0
"""Seconds a pull may be silent: podman says nothing while a layer comes."""
LOAD = 600.0


class PodmanImages:
    """Images of one podman. `insecure` names registries (host[:port]) spoken to without TLS checks."""

    def __init__(self, rest: Rest, *, insecure: Sequence[str] = ()) -> None:
        self._rest = rest
        self._insecure = frozenset(insecure)

    async def inspect(self, image: str) -> ImageInfo:
        """Return one."""
        try:
            return image_info(await self._rest.json(Call("GET", f"/images/{quote(image, safe='')}/json")))
        except Refused as error:
            if error.status == 404:
                raise NoSuchImage(str(error)) from error
            raise

    async def pull(self, image: str, credentials: Credentials | None = None) -> str:
        """Pull; podman answers 200 at once and hides its errors in the stream."""
        query = {"reference": image, "policy": "always"}
        if image.partition("/")[0] in self._insecure:
            query["tlsVerify"] = "false"
        call = Call("POST", "/images/pull", query, headers=_login(credentials))
        identity, failure = "", ""
        try:
            async for line in self._rest.lines(call, stall=PULL_STALL):
                report: dict[str, Any] = msgspec.json.decode(line)
                failure = report.get("error") or failure
                identity = report.get("id") or identity
        except (Refused, msgspec.DecodeError) as error:
            raise PullFailed(f"{image}: {error}") from error
        if failure or not identity:
            raise PullFailed(f"{image}: {failure or 'podman named no image'}")
        return identity

    async def list(self) -> Sequence[ImageInfo]:
        """Return all."""
        return [image_info(item) for item in await self._rest.json(Call("GET", "/images/json")) or ()]

    async def remove(self, image: str) -> None:
        """Remove; podman refuses one in use."""
        try:
            await self._rest.json(Call("DELETE", f"/images/{quote(image, safe='')}", {"force": "false"}))
        except Refused as error:
            if error.status != 404:
                raise RuntimeFailure(str(error)) from error

    async def load(self, archive: Path) -> Sequence[str]:
        """Send the archive, piece by piece."""
        try:
            answer = await self._rest.json(Call("POST", "/images/load", file=archive), patience=LOAD)
        except Refused as error:
            raise RuntimeFailure(f"{archive}: {error}") from error
        except FileNotFoundError as error:
            raise RuntimeFailure(f"{archive}: {error.strerror}") from error
        return tuple(answer["Names"] or ())


def _login(credentials: Credentials | None) -> dict[str, str]:
    if credentials is None:
        return {}
    login = {"username": credentials.username, "password": credentials.password}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(msgspec.json.encode(login)).decode()}
