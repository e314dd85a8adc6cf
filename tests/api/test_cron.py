"""Cron schedules: the table of robfig/cron's documented behaviour, and next/latest against looking at every minute."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.cron import CronError, parse


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(("schedule", "zone", "after", "then"), [
    ("0/15 * * * *", "UTC", "2026-07-09T14:59:59", "2026-07-09T15:00"),
    ("20-35/15 * * * *", "UTC", "2026-07-09T14:45", "2026-07-09T15:20"),
    ("@hourly", "UTC", "2026-07-09T14:00", "2026-07-09T15:00"),
    ("@every 1h30m", "UTC", "2026-07-09T14:00", "2026-07-09T15:30"),
    ("0 0 29 2 ?", "UTC", "2026-07-09T14:00", "2028-02-29T00:00"),
    ("0 0 13 * fri", "UTC", "2026-07-09T14:00", "2026-07-10T00:00"),
    ("0 0 */13 * fri", "UTC", "2026-07-11T14:00", "2026-07-14T00:00"),
    ("0 0 * * MON-WED", "UTC", "2026-11-26T00:00", "2026-11-30T00:00"),
    ("30 3 1 jan,JUL *", "UTC", "2026-01-01T03:30", "2026-07-01T03:30"),
    ("0 6 * * *", "Asia/Kolkata", "2026-07-09T14:00", "2026-07-10T06:00"),
    # The clocks leap from 02:00 to 03:00 on 29 March 2026: half past two does not come.
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T03:00", "2026-03-30T02:30"),
    ("TZ=Europe/Berlin 0 9 * * *", "Europe/Berlin", "2026-07-09T10:00", "2026-07-10T09:00"),
    ("0 0 * * *", "America/Havana", "2026-03-07T12:00", "2026-03-09T00:00"),
])  # fmt: skip
def test_the_next_time(schedule, zone, after, then):
    found = parse(schedule, zone).next(at(after, zone))
    assert datetime.fromtimestamp(found, UTC) == datetime.fromtimestamp(at(then, zone), UTC)


def test_an_hour_that_comes_twice_runs_twice():
    schedule = parse("30 2 * * *", "Europe/Berlin")
    first = schedule.next(at("2026-10-25T00:00"))
    assert schedule.next(first) == first + 3600


def test_a_day_that_never_comes():
    assert parse("0 0 30 2 *").next(0.0) is None
    assert parse("0 0 30 2 *").latest(0.0, 1e9) is None


@pytest.mark.parametrize("text", [
    "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 7", "5-1 * * * *",
    "*/0 * * * *", "a * * * *", "1,,2 * * * *", "@often", "@every", "@every 5", "@every x1h", "- * * * *", "+1 * * * *", "1 * * ٣ *",
])  # fmt: skip
def test_what_is_no_schedule(text):
    with pytest.raises(CronError):
        parse(text)


def test_what_is_no_time_zone():
    for name in ("Mars/Olympus", "../etc/passwd", "/etc/localtime"):
        with pytest.raises(CronError, match="unknown time zone"):
            parse("* * * * *", name)


def field(low, high):
    one = st.integers(low, high).map(str)
    stepped = st.integers(1, 9).map(lambda step: f"*/{step}")
    return st.one_of(st.just("*"), one, stepped, st.lists(one, min_size=1, max_size=3).map(",".join))


@settings(max_examples=200, deadline=None)
@given(
    words=st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    start=st.integers(1_770_000_000, 1_800_000_000),
    hours=st.integers(1, 60),
)
def test_next_and_latest_are_what_looking_at_every_minute_finds(words, zone, start, hours):
    schedule, end = parse(" ".join(words), zone), start + hours * 3600
    minutes = range((start // 60 + 1) * 60, end + 1, 60)

    def runs(instant):
        local = datetime.fromtimestamp(instant, ZoneInfo(zone))
        fields = schedule.fields
        return local.minute in fields.minutes and local.hour in fields.hours and local.month in fields.months and fields.on_day(local)  # fmt: skip

    expected = [float(instant) for instant in minutes if runs(instant)]
    found = schedule.next(start)
    assert (found if found is not None and found <= end else None) == (expected[0] if expected else None)
    assert schedule.latest(start, end) == (expected[-1] if expected else None)


@given(st.integers(1, 10_000), st.integers(0, 100_000))
def test_every_so_often_counts_from_the_last(every, elapsed):
    schedule = parse(f"@every {every}s")
    latest = schedule.latest(1000.0, 1000.0 + elapsed)
    assert latest == (None if elapsed < every else 1000.0 + elapsed // every * every)
