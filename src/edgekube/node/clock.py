"""Time as the API writes it. Loops take a `Clock`, so that tests may pass virtual time."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Returns seconds since the epoch."""


def stamp(seconds: float) -> str:
    """Return RFC 3339 in UTC, whole seconds: metav1.Time; "" for 0."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


def parse_stamp(text: str) -> float:
    """Return seconds since the epoch; 0 for "" or what is no time."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        moment = None
    if moment is None:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
