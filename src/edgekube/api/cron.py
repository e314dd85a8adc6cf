"""
Cron schedules as CronJobs write them: five fields, names, ranges, steps, `@daily` and `@every 1h30m`.

Times are Unix seconds. Clock changes follow robfig/cron, which Kubernetes uses: a local time that a
change skips does not run that day, one that comes twice runs twice.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edgekube.lib.errors import EdgekubeError

YEARS = 5
"""How far a schedule is searched: `0 0 30 2 *` never comes, `0 0 29 2 *` may need four years (eight over 2100)."""
MINUTE = 60.0
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
STARS = frozenset({"*", "?", "*/1", "?/1"})
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|us|µs|ns|m|s)")


class CronError(EdgekubeError, ValueError):
    """Not a schedule."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: Sequence[str] = ()


_FIELDS = (
    _Field("minute", 0, 59), _Field("hour", 0, 23), _Field("day of month", 1, 31), _Field("month", 1, 12, ("", *MONTHS)),
    _Field("day of week", 0, 6, WEEKDAYS),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fields:
    """The five fields; `any_day` and `any_weekday` say that the field was a star."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def on_day(self, day: datetime) -> bool:
        """Tell whether it runs on that day: both day fields must fit, either does when both are given."""
        monthly, weekly = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return monthly and weekly if self.any_day or self.any_weekday else monthly or weekly


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something runs: by `fields` in `zone`, or `every` so many seconds."""

    fields: Fields | None
    zone: tzinfo = UTC
    every: float = 0.0

    def next(self, after: float) -> float | None:
        """Return the first time after `after`, None when there is none within five years."""
        if self.fields is None:
            return float(int(after)) + self.every
        return _search(self.fields, self.zone, (after // MINUTE + 1) * MINUTE, _forward)

    def latest(self, after: float, until: float) -> float | None:
        """Return the last time in (after, until], None when there is none."""
        if self.fields is None:
            start = float(int(after))
            runs = (until - start) // self.every
            return start + runs * self.every if runs >= 1 else None
        found = _search(self.fields, self.zone, until // MINUTE * MINUTE, _backward)
        return found if found is not None and found > after else None


def parse(text: str, zone: str = "") -> Schedule:
    """Read a schedule; `zone` is an IANA name, "" is UTC; raises CronError."""
    where = _zone(zone)
    text = text.strip()
    if text.startswith(("TZ=", "CRON_TZ=")):
        named, _, text = text.partition(" ")
        where, text = _zone(named.partition("=")[2]), text.strip()
    if text.startswith("@every "):
        return Schedule(None, where, _duration(text.removeprefix("@every ").strip()))
    if text.startswith("@"):
        if text not in MACROS:
            raise CronError(f"unrecognized descriptor: {text}")
        text = MACROS[text]
    words = text.split()
    if len(words) != len(_FIELDS):
        raise CronError(f"expected exactly 5 fields, found {len(words)}: {words}")
    minutes, hours, days, months, weekdays = (_values(w, f) for w, f in zip(words, _FIELDS, strict=True))
    starred = [any(part in STARS for part in words[i].split(",")) for i in (2, 4)]
    return Schedule(Fields(minutes, hours, days, months, weekdays, *starred), where)


def _zone(name: str) -> tzinfo:
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CronError(f"unknown time zone {name}") from error


def _duration(text: str) -> float:
    """Return the seconds of a Go duration, whole ones and at least one."""
    if not text or _DURATION.sub("", text):
        raise CronError(f"failed to parse duration @every {text}")
    amount = sum(float(number) * UNITS[unit] for number, unit in _DURATION.findall(text))
    return max(1.0, float(int(amount)))


def _values(text: str, field: _Field) -> frozenset[int]:
    return frozenset(value for part in text.split(",") for value in _range(part, field))


def _range(text: str, field: _Field) -> Sequence[int]:
    span, slash, step_text = text.partition("/")
    if span in {"*", "?"}:
        low, high = field.low, field.high
    else:
        first, dash, last = span.partition("-")
        low = _number(first, field)
        high = _number(last, field) if dash else field.high if slash else low
    step = 1
    if slash and not (step_text.isascii() and step_text.isdigit() and (step := int(step_text))):
        raise CronError(f"step of range should be a positive number: {text}")
    if low < field.low:
        raise CronError(f"beginning of range ({low}) below minimum ({field.low}): {text}")
    if high > field.high:
        raise CronError(f"end of range ({high}) above maximum ({field.high}): {text}")
    if low > high:
        raise CronError(f"beginning of range ({low}) beyond end of range ({high}): {text}")
    return range(low, high + 1, step)


def _number(text: str, field: _Field) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    if text and text.lower() in field.names:
        return field.names.index(text.lower())
    raise CronError(f"failed to parse int from {text}: {field.name}")


@dataclass(frozen=True, slots=True)
class _Direction:
    """How to leave a month, a day and an hour that do not fit; instants, not local times, are stepped for hours."""

    sign: int
    month: Callable[[datetime], datetime]
    day: Callable[[datetime], datetime]
    hour: Callable[[datetime], float]


def _midnight(day: datetime) -> datetime:
    return day.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


_forward = _Direction(
    1,
    lambda t: _midnight(t.replace(day=28) + timedelta(days=4)).replace(day=1),
    lambda t: _midnight(t + timedelta(days=1)),
    lambda t: (60 - t.minute) * MINUTE,
)
_backward = _Direction(
    -1,
    lambda t: _midnight(t.replace(day=1)),
    _midnight,
    lambda t: -(t.minute + 1) * MINUTE,
)


def _search(fields: Fields, zone: tzinfo, start: float, direction: _Direction) -> float | None:
    """Step over whole months, days and hours that do not fit until a minute does."""
    now, limit = start, YEARS * 366 * 86400.0
    while abs(now - start) <= limit:
        local = datetime.fromtimestamp(now, zone)
        if local.month not in fields.months:
            now = _leave(direction.month(local), now, direction.sign)
        elif not fields.on_day(local):
            now = _leave(direction.day(local), now, direction.sign)
        elif local.hour not in fields.hours:
            now += direction.hour(local)
        elif local.minute not in fields.minutes:
            now += direction.sign * MINUTE
        else:
            return now
    return None


def _leave(border: datetime, now: float, sign: int) -> float:
    """Return the instant of a local border going forward, the minute before it going backward."""
    instant = border.timestamp()
    if sign > 0:
        # A midnight that a clock change skips lies, as an instant, at or after the change.
        return instant if instant > now else now + MINUTE
    return min(instant, now) - MINUTE
