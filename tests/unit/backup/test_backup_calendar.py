"""Calendar events: parsed as Proxmox VE and systemd read them; the next moment against a look at every second."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.backup.calendar import WEEKDAYS, CalendarEvent, from_start_time, next_after
from bastide.base.errors import InvalidParameter

VIENNA = ZoneInfo("Europe/Vienna")
ZONES = [UTC, VIENNA, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kathmandu")]


def moments(text: str, after: str, count: int, zone: tzinfo = UTC) -> list[str]:
    event = CalendarEvent.parse(text)
    now: int | None = int(datetime.fromisoformat(after).replace(tzinfo=zone).timestamp())
    found = []
    for _ in range(count):
        assert now is not None
        now = next_after(event, now, zone)
        if now is None:
            break
        found.append(datetime.fromtimestamp(now, zone).strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mon..fri", ["2026-11-27 00:00", "2026-11-30 00:00"]),
        ("mon,tue,wed,thu,fri", ["2026-11-27 00:00", "2026-11-30 00:00"]),
        ("sat..sun", ["2026-11-28 00:00", "2026-11-29 00:00"]),
        ("12:05", ["2026-11-26 12:05", "2026-11-27 12:05"]),
        ("*/5", ["2026-11-26 09:05", "2026-11-26 09:10"]),
        ("*:0/5", ["2026-11-26 09:05", "2026-11-26 09:10"]),
        ("mon..wed 30/10", ["2026-11-30 00:30", "2026-11-30 00:40", "2026-11-30 00:50", "2026-11-30 01:30"]),
        ("mon..fri 8..17,22:0/15", ["2026-11-26 09:15", "2026-11-26 09:30"]),
        ("fri 12..13:5/20", ["2026-11-27 12:05", "2026-11-27 12:25", "2026-11-27 12:45", "2026-11-27 13:05"]),
        ("12/2:5", ["2026-11-26 12:05", "2026-11-26 14:05"]),
        ("*", ["2026-11-26 09:02", "2026-11-26 09:03"]),
        ("*-05", ["2026-12-05 00:00", "2027-01-05 00:00"]),
        ("Sat *-1..7 15:00", ["2026-12-05 15:00", "2027-01-02 15:00"]),
        ("2026-12-21", ["2026-12-21 00:00"]),
        ("2015-10-21", []),
        ("2,4:05", ["2026-11-27 02:05", "2026-11-27 04:05"]),
        ("21:00", ["2026-11-26 21:00"]),
        ("mon..fri 02:30", ["2026-11-27 02:30", "2026-11-30 02:30"]),
        ("*-31 0:0", ["2026-12-31 00:00", "2027-01-31 00:00", "2027-03-31 00:00"]),
        ("2-29 1:0", ["2028-02-29 01:00", "2032-02-29 01:00"]),
        ("sat 2-29", ["2048-02-29 00:00"]),
        ("Monday 8:00 UTC", ["2026-11-30 08:00"]),
        ("Hourly UTC", ["2026-11-26 10:00"]),
        ("minutely", ["2026-11-26 09:02"]),
        ("hourly", ["2026-11-26 10:00"]),
        ("daily", ["2026-11-27 00:00"]),
        ("weekly", ["2026-11-30 00:00", "2026-12-07 00:00"]),
        ("monthly", ["2026-12-01 00:00"]),
        ("quarterly", ["2027-01-01 00:00", "2027-04-01 00:00"]),
        ("semiannually", ["2027-01-01 00:00", "2027-07-01 00:00"]),
        ("yearly", ["2027-01-01 00:00", "2028-01-01 00:00"]),
    ],
)
def test_events_of_the_guide(text: str, expected: list[str]) -> None:
    assert moments(text, "2026-11-26 09:01", max(1, len(expected))) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("utc", "it is empty"),
        ("never", "'never' is not a weekday"),
        ("sat..mon", "goes from sat back to mon"),
        ("mon tue", "not a minute"),
        ("25:00", "a hour is a number from 0 to 23"),
        ("02:60", "a minute is a number from 0 to 59"),
        ("02:30:61", "a second is a number"),
        ("1:2:3:4", "HOUR:MINUTE"),
        ("13-01", "a month is a number from 1 to 12"),
        ("*-0", "a day is a number from 1 to 31"),
        ("02-30", "no year has that date"),
        ("2026-02-29", "no year has that date"),
        ("1-2-3-4", "not a date"),
        ("8..3:00", "goes from 8 back to 3"),
        ("*:0/0", "the step"),
        ("*:*..5", "is not a minute"),
        ("mon 1:00 2:00", "'2:00' is too much"),
        ("2*", "is not a minute"),
        ("\u0663:00", "is not a hour"),
        ("1:00" * 50, "longer than"),
        ("mon..fri ~03", "is not a minute"),
    ],
)
def test_errors_say_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        CalendarEvent.parse(text)
    assert words in error.value.errors["schedule"]


def test_spring_runs_what_the_clock_leaves_out_once_and_at_once() -> None:
    assert moments("02:30", "2026-03-28 12:00", 2, VIENNA) == ["2026-03-29 03:00", "2026-03-30 02:30"]
    assert moments("*:20/20", "2026-03-29 01:30", 3, VIENNA) == [
        "2026-03-29 01:40", "2026-03-29 03:00", "2026-03-29 03:20",
    ]  # fmt: skip
    assert moments("04:00", "2026-03-29 01:30", 1, VIENNA) == ["2026-03-29 04:00"]


def test_autumn_runs_what_the_clock_shows_twice_once() -> None:
    event, begin = CalendarEvent.parse("02:30"), datetime(2026, 10, 24, 12, tzinfo=VIENNA).timestamp()
    first = next_after(event, begin, VIENNA)
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
    second = next_after(event, first, VIENNA)
    assert second == datetime(2026, 10, 26, 1, 30, tzinfo=UTC).timestamp()
    every = CalendarEvent.parse("*:30")
    once = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
    assert next_after(every, once, VIENNA) == once + 3600


def test_the_older_form() -> None:
    assert from_start_time("02:30") == "02:30"
    assert from_start_time("2:30", "sat,mon") == "mon,sat 2:30"
    assert from_start_time("2:30", ",".join(WEEKDAYS)) == "2:30"
    for starttime, dow, key in [("25:00", None, "starttime"), ("x", None, "starttime"), ("1:00", "moon", "dow")]:
        with pytest.raises(InvalidParameter) as error:
            from_start_time(starttime, dow)
        assert key in error.value.errors


def numbers(lowest: int, highest: int) -> st.SearchStrategy[str]:
    number = st.integers(lowest, highest)
    spans = st.tuples(number, number).map(lambda pair: f"{min(pair)}..{max(pair)}")
    steps = st.tuples(number, st.integers(1, max(highest, 1))).map(lambda pair: f"{pair[0]}/{pair[1]}")
    one = st.one_of(st.just("*"), number.map(str), spans, steps, st.integers(1, highest).map(lambda n: f"*/{n}"))
    return st.lists(one, min_size=1, max_size=2).map(",".join)


weekdays = st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=3).map(",".join)
dates = st.tuples(numbers(1, 12), numbers(1, 28)).map("-".join)
times = st.tuples(numbers(0, 23), numbers(0, 59)).map(":".join)
events = st.tuples(st.one_of(st.just(""), weekdays), st.one_of(st.just(""), dates), times).map(" ".join)


def shows(event: CalendarEvent, wall: datetime) -> bool:
    return (
        wall.month in event.months
        and wall.day in event.days
        and wall.weekday() in event.weekdays
        and (wall.hour, wall.minute, wall.second) == (wall.hour, wall.minute, 0)
        and wall.hour in event.hours
        and wall.minute in event.minutes
    )


def by_looking(event: CalendarEvent, after: int, zone: tzinfo, minutes: int) -> int | None:
    """The definition, tried for each minute in turn."""
    now = after - after % 60
    for _ in range(minutes):
        before, now = now, now + 60
        wall, earlier = datetime.fromtimestamp(now, zone), datetime.fromtimestamp(before, zone)
        left_out = wall.replace(tzinfo=None) - earlier.replace(tzinfo=None) - timedelta(minutes=1)
        skipped = [wall - timedelta(minutes=n) for n in range(1, int(left_out.total_seconds()) // 60 + 1)]
        if any(shows(event, one) for one in skipped):
            return now
        if shows(event, wall) and (not wall.fold or len(event.hours) == 24):
            return now
    return None


# Around the changes of the clocks of the zones above, and around the ends of months.
begins = st.sampled_from(
    ["2026-03-29 00:10", "2026-10-25 00:10", "2026-03-08 06:00", "2026-11-01 05:10", "2026-04-04 14:20",
     "2026-10-03 14:50", "2026-02-28 22:00", "2028-02-28 23:50", "2026-12-31 23:30"]
).flatmap(lambda text: st.integers(-7200, 7200).map(
    lambda more: int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) + more
))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(events, begins, st.sampled_from(ZONES))
def test_next_is_what_a_look_at_every_minute_finds(text: str, after: int, zone: tzinfo) -> None:
    event = CalendarEvent.parse(text)
    found = next_after(event, after, zone)
    looked = by_looking(event, after, zone, 3 * 1440)
    if looked is None:
        assert found is None or found > after + 3 * 86_400 - 60
    else:
        assert found == looked


@settings(max_examples=200)
@given(st.text(alphabet="mondaysutc0123456789*:/.,- ", max_size=30))
def test_any_text_is_an_event_or_a_sentence(text: str) -> None:
    refused: dict[str, str] = {}
    try:
        event = CalendarEvent.parse(text)
    except InvalidParameter as error:
        refused = dict(error.errors)
    assert set(refused) == {"schedule"} or event.minutes


# What `systemd-analyze calendar --base-time='2026-11-26 09:01 UTC' --iterations=3` (systemd 252) prints.
SYSTEMD = {
    "annually": ["2027-01-01 00:00", "2028-01-01 00:00", "2029-01-01 00:00"],
    "daily": ["2026-11-27 00:00", "2026-11-28 00:00", "2026-11-29 00:00"],
    "hourly": ["2026-11-26 10:00", "2026-11-26 11:00", "2026-11-26 12:00"],
    "minutely": ["2026-11-26 09:02", "2026-11-26 09:03", "2026-11-26 09:04"],
    "monthly": ["2026-12-01 00:00", "2027-01-01 00:00", "2027-02-01 00:00"],
    "quarterly": ["2027-01-01 00:00", "2027-04-01 00:00", "2027-07-01 00:00"],
    "semiannually": ["2027-01-01 00:00", "2027-07-01 00:00", "2028-01-01 00:00"],
    "semi-annually": ["2027-01-01 00:00", "2027-07-01 00:00", "2028-01-01 00:00"],
    "weekly": ["2026-11-30 00:00", "2026-12-07 00:00", "2026-12-14 00:00"],
    "yearly": ["2027-01-01 00:00", "2028-01-01 00:00", "2029-01-01 00:00"],
    "mon..fri 02:30": ["2026-11-27 02:30", "2026-11-30 02:30", "2026-12-01 02:30"],
    "*:0/5": ["2026-11-26 09:05", "2026-11-26 09:10", "2026-11-26 09:15"],
    "sat *-1..7 15:00": ["2026-12-05 15:00", "2027-01-02 15:00", "2027-02-06 15:00"],
    "2,4:05": ["2026-11-27 02:05", "2026-11-27 04:05", "2026-11-28 02:05"],
    "*-05": ["2026-12-05 00:00", "2027-01-05 00:00", "2027-02-05 00:00"],
    "8..17/3:10": ["2026-11-26 11:10", "2026-11-26 14:10", "2026-11-26 17:10"],
    "2-29 1:0": ["2028-02-29 01:00", "2032-02-29 01:00", "2036-02-29 01:00"],
    "2026-12-31 23:59": ["2026-12-31 23:59"],
}


@pytest.mark.parametrize("text", SYSTEMD)
def test_systemd_finds_the_same(text: str) -> None:
    assert moments(text, "2026-11-26 09:01", 3) == SYSTEMD[text]
