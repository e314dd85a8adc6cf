"""An extra route of the server: the whole state as one file, consistent while the server runs."""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgekube.api.errors import Forbidden
from edgekube.apiserver.identity import MASTERS, User
from edgekube.store.base import Store

SNAPSHOT_PATH = "/edgekube/v1/snapshot"


class Snapshots:
    """Serves snapshots of one store to administrators; one at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = asyncio.Lock()

    async def get(
        self, _body: bytes, _headers: Mapping[str, str], user: User | None
    ) -> tuple[int, str, bytes]:
        """Answer with the file's bytes."""
        if user is None or MASTERS not in user.groups:
            error = Forbidden("snapshots hold every Secret: only system:masters may take them")
            return error.code, "application/json", msgspec.json.encode(error.tree())
        async with self._lock:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "snapshot"
                await self._store.snapshot(path)
                return 200, "application/octet-stream", await asyncio.to_thread(path.read_bytes)
