"""The time as the API writes it (RFC 3339, UTC) and as loops count it (Unix seconds)."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Returns Unix seconds; `time.time` outside of tests."""


def stamp(now: float) -> str:
    """Return a metav1.Time: whole seconds, `2026-01-31T12:00:00Z`."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp(now: float) -> str:
    """Return a metav1.MicroTime."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: str) -> float:
    """Return the Unix seconds of an RFC 3339 time; 0.0 for no time."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0
