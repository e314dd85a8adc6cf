"""
Requests that somebody else answers (an extension server), as far as they are ours to answer for.

They are noted in the audit log, wait for a seat, are authorized and counted as those are that this server answers.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from edgekube.api.errors import StatusError, Timeout
from edgekube.apiserver.audit.auditor import Auditor, Record
from edgekube.apiserver.authz import Access, Authorization
from edgekube.apiserver.fairness.gate import Gate, Ticket
from edgekube.apiserver.metrics import Metrics
from edgekube.apiserver.request import Request, Response

LONG = frozenset({"attach", "exec", "log", "portforward", "proxy"})
"""Subresources whose requests last as long as they like, and need no seat (kube-apiserver's long-running ones)."""
SECONDS = 60.0
"""How long any other request may take (kube-apiserver's --request-timeout)."""
CLIENT_CLOSED = 499
"""Counted when the client went away before there was an answer."""


@dataclass(slots=True)
class Passage:
    """One such request; `leave` gives its seat back."""

    endless: bool
    """Whether it may go on for ever: then it needs its seat until the answer begins only."""
    headers: Sequence[tuple[str, str]] = ()
    leave: Callable[[], None] | None = None
    code: int = 0
    """Of its answer; 0: none has begun."""

    def begun(self, code: int) -> Sequence[tuple[str, str]]:
        """Note that an answer begins; return the headers that are added to it."""
        self.code = code
        if self.endless:
            self.left()
        return self.headers

    def left(self) -> None:
        """Give the seat back, once."""
        leave, self.leave = self.leave, None
        if leave is not None:
            leave()


@dataclass(frozen=True, slots=True)
class Passages:
    """What every request passes."""

    gate: Gate
    metrics: Metrics
    authorization: Authorization
    auditor: Auditor | None
    failure: Callable[[StatusError], Response]

    @asynccontextmanager
    async def of(self, request: Request, access: Access, *, upgrade: bool) -> AsyncIterator[Passage]:
        """Let a request pass; raises StatusError: Forbidden, TooManyRequests, Timeout, or what the body raises."""
        started = time.perf_counter()
        record = None if self.auditor is None else self.auditor.begin(request, access)
        passage = Passage(endless=upgrade or access.verb == "watch" or access.subresource in LONG)
        try:
            async with self._seated(request, access, passage):
                self.authorization.require(request.user, access)
                async with asyncio.timeout(None if passage.endless else SECONDS):
                    yield passage
        except TimeoutError as error:
            late = Timeout("Timeout: request did not complete within the allotted timeout")
            self._ended(record, access, self.failure(late), started)
            raise late from error
        except StatusError as error:
            self._ended(record, access, self.failure(error), started)
            raise
        except BaseException:
            self._ended(record, access, Response(code=passage.code or CLIENT_CLOSED), started)
            raise
        self._ended(record, access, Response(code=passage.code), started)

    @asynccontextmanager
    async def _seated(self, request: Request, access: Access, passage: Passage) -> AsyncIterator[None]:
        if access.subresource not in LONG:
            ticket: Ticket = self.gate.ticket(request.user, access)
            await self.gate.enter(ticket)
            passage.headers, passage.leave = ticket.headers, lambda: self.gate.leave(ticket)
        kind = self.metrics.begin(access.verb)
        try:
            yield
        finally:
            self.metrics.end(kind)
            passage.left()

    def _ended(self, record: Record | None, access: Access, response: Response, started: float) -> None:
        if record is not None:
            record.stage("ResponseComplete", response)
        self.metrics.count(access, response.code, time.perf_counter() - started)
