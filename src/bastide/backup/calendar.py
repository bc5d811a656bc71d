"""Calendar events: when a job is due, written as Proxmox VE and systemd write it.

    EVENT    = [WEEKDAYS] [[YEARS-]MONTHS-DAYS] [TIME] ["UTC"]  |  hourly, daily, weekly ...
    WEEKDAYS = mon,wed..fri            TIME = HOURS:MINUTES[:SECONDS]  |  MINUTES (of every hour)

Numbers are `*`, `8`, `8..17`, `*/5`, `8/2` (from 8 on), `8..17/2`, and lists of them. What is not said is every day, at
midnight. Sources: "Calendar Events" in Proxmox VE's guide; systemd.time(7), of which `~` is not known here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from types import MappingProxyType

from bastide.base.errors import InvalidParameter

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "minutely": "*:*",
        "hourly": "*:00",
        "daily": "00:00",
        "weekly": "mon 00:00",
        "monthly": "*-01 00:00",
        "quarterly": "01,04,07,10-01 00:00",
        "semiannually": "01,07-01 00:00",
        "semi-annually": "01,07-01 00:00",
        "yearly": "01-01 00:00",
        "annually": "01-01 00:00",
    }
)
"""Words for common events."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LONG = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_YEARS = (1970, 2199)
_DAY = 86_400
_HORIZON = 41 * 366
"""Days after which nothing new comes: a Saturday that is the 29th of February may be 40 years away."""

_NUMBER = re.compile(r"(?P<first>\*|\d{1,4})(?:\.\.(?P<last>\d{1,4}))?(?:/(?P<step>\d{1,4}))?", re.ASCII)
_LIMIT = 128


@dataclass(frozen=True, slots=True)
class CalendarEvent:
    """The moments whose wall clock shows all of these. Weekdays count from Monday, 0; `years` None is every year.

    `utc`: by UTC, whatever the zone is.
    """

    weekdays: frozenset[int]
    years: frozenset[int] | None
    months: frozenset[int]
    days: frozenset[int]
    hours: frozenset[int]
    minutes: frozenset[int]
    seconds: frozenset[int]
    utc: bool = False

    @classmethod
    def parse(cls, text: str) -> "CalendarEvent":
        """Read an event. Raises InvalidParameter naming `schedule`, with a sentence that says which part is wrong."""
        try:
            return _parse(text)
        except ValueError as error:
            raise InvalidParameter({"schedule": f"'{text[:60]}' is not a calendar event: {error}"}) from None

    @property
    def every_hour(self) -> bool:
        """Whether it is due in each hour of a day: then an hour that the clock shows twice counts twice."""
        return len(self.hours) == 24

    def wait(self, wall: datetime) -> int:
        """Seconds after which the wall clock may show it, 0 if it does now; at most to the next midnight."""
        midnight = _DAY - (wall.hour * 3600 + wall.minute * 60 + wall.second)
        if not self.on(wall.date()):
            return midnight
        if wall.hour not in self.hours:
            return min(midnight, 3600 - (wall.minute * 60 + wall.second))
        if wall.minute not in self.minutes:
            return 60 - wall.second
        return 0 if wall.second in self.seconds else 1

    def on(self, day: date) -> bool:
        """Whether it is due on that day."""
        return (
            (self.years is None or day.year in self.years)
            and day.month in self.months
            and day.day in self.days
            and day.weekday() in self.weekdays
        )


def next_after(event: CalendarEvent, time: float, zone: tzinfo) -> int | None:
    """The first moment after `time` at which the event is due; seconds since the epoch. None when there is none.

    A time that the clock leaves out in spring is due when the clock has jumped over it. One that it shows twice in
    autumn is due at the first, unless the event is due in every hour.
    """
    zone = UTC if event.utc else zone
    now = int(time) + 1
    until = now + _HORIZON * _DAY
    while now < until:
        wall = _wall(now, zone)
        if event.years is not None and wall.year > max(event.years):
            return None
        if _left_out(event, now, zone):
            return now
        wait = event.wait(wall)
        if wait == 0:
            if not wall.fold or event.every_hour:
                return now
            wait = 60 - wall.second
        now = _advance(now, wait, zone)
    return None


def from_start_time(starttime: str, dow: str | None = None) -> str:
    """The event of Proxmox VE's older form: `02:30` on the days `mon,tue`. Raises InvalidParameter."""
    match = re.fullmatch(r"(\d{1,2}):(\d{1,2})", starttime, re.ASCII)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise InvalidParameter({"starttime": f"'{starttime[:20]}' is not a time such as 02:30"})
    if dow is None:
        return starttime
    try:
        days = _weekdays(dow.replace(" ", ","))
    except ValueError as error:
        raise InvalidParameter({"dow": str(error)}) from None
    if len(days) == len(WEEKDAYS):
        return starttime
    return f"{','.join(WEEKDAYS[day] for day in sorted(days))} {starttime}"


def _wall(now: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(now, zone)


def _offset(now: int, zone: tzinfo) -> timedelta:
    return _wall(now, zone).utcoffset() or timedelta()


def _left_out(event: CalendarEvent, now: int, zone: tzinfo) -> bool:
    """Whether the clock jumped to this moment over a time at which the event was due."""
    jump = _offset(now, zone) - _offset(now - 1, zone)
    if jump <= timedelta():
        return False
    end = _wall(now, zone).replace(tzinfo=None)
    wall = end - jump
    while wall < end:
        wait = event.wait(wall)
        if wait == 0:
            return True
        wall += timedelta(seconds=wait)
    return False


def _advance(now: int, seconds: int, zone: tzinfo) -> int:
    """The moment that much later, or an earlier one at which the clock is put forward or back."""
    before, later = _offset(now, zone), now + seconds
    if _offset(later, zone) == before:
        return later
    while later - now > 1:
        middle = (now + later) // 2
        if _offset(middle, zone) == before:
            now = middle
        else:
            later = middle
    return later


def _parse(text: str) -> CalendarEvent:
    if len(text) > _LIMIT:
        raise ValueError(f"it is longer than {_LIMIT} characters")
    parts = text.lower().split()
    utc = parts[-1:] == ["utc"]
    rest = parts[:-1] if utc else parts
    if len(rest) == 1:
        rest = ALIASES.get(rest[0], rest[0]).split()
    if not rest:
        raise ValueError("it is empty: say for example 'mon..fri 02:30' or 'daily'")
    days = _weekdays(rest.pop(0)) if rest[0][0].isalpha() else frozenset(range(7))
    years, months, month_days = _date(rest.pop(0)) if rest and "-" in rest[0] else (None, *_every_day())
    hours, minutes, seconds = _time(rest.pop(0)) if rest else _time("0:0")
    if rest:
        raise ValueError(f"'{rest[0]}' is too much: the order is weekdays, date, time")
    if not _possible(years, months, month_days):
        raise ValueError("no year has that date")
    return CalendarEvent(days, years, months, month_days, hours, minutes, seconds, utc)


def _every_day() -> tuple[frozenset[int], frozenset[int]]:
    return frozenset(range(1, 13)), frozenset(range(1, 32))


def _possible(years: frozenset[int] | None, months: frozenset[int], days: frozenset[int]) -> bool:
    for year in years or (2000,):
        for month in months:
            try:
                date(year, month, min(days))
            except ValueError:
                continue
            return True
    return False


def _weekdays(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        if not part:
            continue
        first, dots, last = part.partition("..")
        begin, end = _weekday(first), _weekday(last if dots else first)
        if begin > end:
            raise ValueError(f"'{part}' goes from {first} back to {last}")
        days.update(range(begin, end + 1))
    if not days:
        raise ValueError(f"'{text[:30]}' names no weekday")
    return frozenset(days)


def _weekday(text: str) -> int:
    for names in (WEEKDAYS, _LONG):
        if text.lower() in names:
            return names.index(text.lower())
    raise ValueError(f"'{text[:30]}' is not a weekday ({', '.join(WEEKDAYS)}), nor a word such as daily")


def _date(text: str) -> tuple[frozenset[int] | None, frozenset[int], frozenset[int]]:
    parts = text.split("-")
    if len(parts) > 3:
        raise ValueError(f"'{text[:30]}' is not a date: YEAR-MONTH-DAY or MONTH-DAY")
    years = _numbers(parts[0], "year", *_YEARS) if len(parts) == 3 and parts[0] != "*" else None
    return years, _numbers(parts[-2], "month", 1, 12), _numbers(parts[-1], "day", 1, 31)


def _time(text: str) -> tuple[frozenset[int], frozenset[int], frozenset[int]]:
    parts = text.split(":")
    if len(parts) > 3:
        raise ValueError(f"'{text[:30]}' is not a time: HOUR:MINUTE or HOUR:MINUTE:SECOND")
    if len(parts) == 1:
        parts = ["*", *parts]
    seconds = _numbers(parts[2], "second", 0, 59) if len(parts) == 3 else frozenset({0})
    return _numbers(parts[0], "hour", 0, 23), _numbers(parts[1], "minute", 0, 59), seconds


def _numbers(text: str, what: str, lowest: int, highest: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _NUMBER.fullmatch(part)
        if match is None or (match["first"] == "*" and match["last"]):
            raise ValueError(f"'{part[:30]}' is not a {what}: a number, FIRST..LAST, */STEP or FIRST/STEP")
        step = int(match["step"] or 1)
        first = lowest if match["first"] == "*" else int(match["first"])
        open_ended = match["first"] == "*" or (match["step"] and not match["last"])
        last = highest if open_ended else int(match["last"] or first)
        if not lowest <= first <= highest or not lowest <= last <= highest:
            raise ValueError(f"'{part[:30]}': a {what} is a number from {lowest} to {highest}")
        if first > last:
            raise ValueError(f"'{part}' goes from {first} back to {last}")
        if not 1 <= step <= highest:
            raise ValueError(f"'{part}': the step is a number from 1 to {highest}")
        found.update(range(first, last + 1, step))
    return frozenset(found)
