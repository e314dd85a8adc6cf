"""Exponential back-off per key, as client-go's ItemExponentialFailureRateLimiter has it."""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Backoff(Generic[K]):
    """Delays in seconds: `first`, doubled at each failure of a key, at most `limit`."""

    def __init__(self, *, first: float = 0.005, limit: float = 300.0) -> None:
        self._first = first
        self._limit = limit
        self._failures: dict[K, int] = {}

    def next(self, key: K) -> float:
        """Count a failure of `key` and return how long to wait."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        return float(min(self._first * 2 ** min(failures, 60), self._limit))

    def failures(self, key: K) -> int:
        """Return how often `key` failed since it was last forgotten."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """Start `key` afresh."""
        self._failures.pop(key, None)
