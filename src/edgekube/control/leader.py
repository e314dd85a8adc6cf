"""
Leader election by a Lease (client-go's tools/leaderelection).

Of several servers one leads: it renews the Lease, the others look on and take it when it has not
been renewed for its duration, as seen by their own clock since they saw it change. So clocks need
not agree, they only need to run at about the same speed.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from edgekube.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from edgekube.api.kinds.coordination_v1 import LEASES
from edgekube.api.resource import Key
from edgekube.api.types import coordination_v1, meta_v1
from edgekube.client.base import Unreachable
from edgekube.client.typed import Client
from edgekube.control.clock import Clock, micro_stamp
from edgekube.lib.errors import EdgekubeError

log = logging.getLogger(__name__)

Lease = coordination_v1.Lease


class LeadershipLost(EdgekubeError):
    """Somebody else leads, or the API could not be reached for too long: what was led must stop."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds: how long a Lease holds, how long a leader tries to renew it, how often anybody looks."""

    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The last form of the Lease that differed from the one before, and when it was seen (monotonic seconds)."""

    spec: coordination_v1.LeaseSpec
    at: float


def wish(lease: Lease, seen: Seen, identity: str, *, terms: Terms, clock: float, tick: float) -> Lease | None:
    """
    Return the Lease to write to lead or to go on leading; None while somebody else holds it.

    `clock` is Unix seconds for people to read, `tick` the monotonic seconds that decide.
    """
    spec = lease.spec
    ours = spec.holder_identity == identity
    duration = terms.duration if spec.lease_duration_seconds is None else spec.lease_duration_seconds
    if spec.holder_identity and not ours and tick < seen.at + duration:
        return None
    now = micro_stamp(clock)
    held = msgspec.structs.replace(
        spec, holder_identity=identity, lease_duration_seconds=round(terms.duration), renew_time=now,
        acquire_time=spec.acquire_time if ours else now,
        lease_transitions=(spec.lease_transitions or 0) + (not ours),
    )  # fmt: skip
    return msgspec.structs.replace(lease, spec=held)


class Elector:
    """Runs something while this process leads."""

    def __init__(
        self, client: Client, key: Key, identity: str, *, terms: Terms | None = None, clock: Clock = time.time,
        tick: Clock = time.monotonic,
    ) -> None:  # fmt: skip
        self._client, self._key, self._identity = client, key, identity
        self._terms, self._clock, self._tick = terms or Terms(), clock, tick
        self._seen = Seen(coordination_v1.LeaseSpec(), 0.0)
        self._lease: Lease | None = None

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait to lead, then await `lead()` and renew; raises LeadershipLost, which cancels it."""
        while True:
            if await self._try():
                break
            await asyncio.sleep(self._terms.retry)
        log.info("%s leads as %s", self._identity, self._key)
        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(self._renew(), name="leader-renew")
                await lead()
                renewing.cancel()
        except* LeadershipLost as lost:
            raise LeadershipLost(str(lost.exceptions[0])) from lost
        finally:
            await asyncio.shield(self._release())

    async def _renew(self) -> None:
        renewed = self._tick()
        while True:
            left = renewed + self._terms.deadline - self._tick()
            try:
                # Not only a refusal: an API that does not answer must not keep us leading either.
                async with asyncio.timeout(left):
                    await asyncio.sleep(self._terms.retry)
                    if await self._try():
                        renewed = self._tick()
            except TimeoutError as error:
                raise LeadershipLost(f"{self._key} could not be renewed in time") from error
            if self._seen.spec.holder_identity not in {"", self._identity}:
                raise LeadershipLost(f"{self._key} is held by {self._seen.spec.holder_identity}")

    async def _try(self) -> bool:
        """Take or renew the Lease; False when that did not work."""
        try:
            lease = await self._get()
            if lease.spec != self._seen.spec:
                self._seen = Seen(lease.spec, self._tick())
            held = wish(
                lease, self._seen, self._identity, terms=self._terms, clock=self._clock(), tick=self._tick()
            )
            if held is None:
                return False
            self._lease = await self._client.update(LEASES, held)
            self._seen = Seen(self._lease.spec, self._tick())
        except (StatusError, Unreachable) as error:
            if not isinstance(error, Conflict):
                log.warning("%s: %s", self._key, error)
            return False
        return True

    async def _get(self) -> Lease:
        try:
            return await self._client.get(LEASES, self._key)
        except NotFound:
            meta = meta_v1.ObjectMeta(name=self._key.name, namespace=self._key.namespace)
            try:
                return await self._client.create(LEASES, Lease(metadata=meta))
            except AlreadyExists:
                return await self._client.get(LEASES, self._key)

    async def _release(self) -> None:
        """Let the next one lead at once."""
        if self._lease is None or self._lease.spec.holder_identity != self._identity:
            return
        free = msgspec.structs.replace(self._lease.spec, holder_identity="", lease_duration_seconds=1)
        try:
            async with asyncio.timeout(self._terms.retry):
                await self._client.update(LEASES, msgspec.structs.replace(self._lease, spec=free))
        except (StatusError, Unreachable, TimeoutError) as error:
            log.debug("%s: not released: %s", self._key, error)
