"""A file of bearer tokens: lines of `token,user,uid,"group1,group2"` (Kubernetes docs, "Static token file")."""

import csv
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from edgekube.apiserver.authn.base import Credentials
from edgekube.apiserver.authn.tokens import StaticTokens
from edgekube.apiserver.identity import User
from edgekube.lib.errors import EdgekubeError

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two looks at the file."""


class BadTokenFile(EdgekubeError):
    """A line of the file is no token."""


def read_tokens(text: str) -> dict[str, User]:
    """Return users by token; raises BadTokenFile."""
    return dict(_users(text))


def _users(text: str) -> Iterator[tuple[str, User]]:
    for number, row in enumerate(csv.reader(text.splitlines(), skipinitialspace=True), 1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) < 3 or not row[0].strip() or not row[1].strip():
            raise BadTokenFile(f"token file: line {number}: expected token,user,uid and perhaps groups")
        groups = tuple(name.strip() for name in row[3].split(",") if name.strip()) if len(row) > 3 else ()
        yield row[0].strip(), User(row[1].strip(), groups, row[2].strip())


class TokenFile:
    """Reads the file again when it was changed; a broken one leaves what was known before."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """`clock` returns seconds that only grow. Raises OSError, BadTokenFile."""
        self._path, self._clock = path, clock
        self._seen = self._stamp()
        self._tokens = StaticTokens(read_tokens(path.read_text()))
        self._looked = clock()

    async def authenticate(self, credentials: Credentials) -> User | None:
        """Return the token's user."""
        if not credentials.token:
            return None
        if self._clock() - self._looked >= PAUSE:
            self._look()
        return await self._tokens.authenticate(credentials)

    def _look(self) -> None:
        self._looked = self._clock()
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                self._tokens = StaticTokens(read_tokens(self._path.read_text()))
        except (OSError, BadTokenFile) as error:
            log.warning("%s: %s; the tokens known before still hold", self._path, error)

    def _stamp(self) -> tuple[int, int, int]:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
