"""What runs by itself at its times: backup jobs, verifications, restore tests.

When a piece of work last ran, or was last set up, is in the store under `scheduled/<its key>`: a restart goes on from
there. The moment is written before the work begins, so that a daemon that dies in between does not begin it twice.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from bastide.backup.calendar import CalendarEvent, next_after
from bastide.base.errors import BastideError, InvalidParameter, NotFound
from bastide.base.ids import Upid
from bastide.host import facts
from bastide.operations.rooms import Rooms

_PREFIX = "scheduled/"
_INTERVAL = 5.0
_LATE = 300
"""Seconds after which what was due counts as missed."""
_SET_BACK = 25 * 3600
"""Seconds of a time in the future from which on the clock must have been wrong then.

Up to there what has run stays run: a clock that is set back by hours, for a wrong time zone, or by a day, for a wrong
date, begins nothing a second time. A job may then rest for so long.
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timed:
    """A piece of work with a schedule: `key` names it (`backupjob/nightly`), `start` begins it as a task.

    With `repeat_missed` what was due while no daemon ran is begun, once, as soon as one does.
    """

    key: str
    schedule: str
    start: Callable[[], Awaitable[Upid]]
    repeat_missed: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """Up to when (seconds since the epoch) a piece of work is settled, and its last task."""

    until: int
    upid: str | None = None
    started: int | None = None


Source = Callable[[Rooms], Awaitable[Sequence[Timed]]]
"""What there is to run: the enabled ones of a kind."""


async def last(rooms: Rooms, key: str) -> Ran | None:
    """When a piece of work last ran, None for one that was never set up."""
    entry = await rooms.store.get(_PREFIX + key)
    return None if entry is None else Ran(**json.loads(entry.value))


async def settle(rooms: Rooms, key: str, now: float | None = None) -> None:
    """Let nothing be due before now: when a schedule is new, changed, or enabled again."""
    before = await last(rooms, key)
    until = int(time.time() if now is None else now)
    await _keep(rooms, key, Ran(until) if before is None else replace(before, until=until))


async def forget(rooms: Rooms, key: str) -> None:
    """Remove what is known of a piece of work that is no more."""
    await rooms.store.delete(_PREFIX + key)


async def next_run(rooms: Rooms, key: str, schedule: str, now: float | None = None) -> int | None:
    """When it is due next, in seconds since the epoch; None for never."""
    ran, present = await last(rooms, key), time.time() if now is None else now
    begin = present if ran is None or ran.until > present + _SET_BACK else max(ran.until, present - 1)
    return next_after(CalendarEvent.parse(schedule), begin, facts.zone())


def check(schedule: str) -> None:
    """Raise InvalidParameter naming `schedule` unless it is a calendar event."""
    CalendarEvent.parse(schedule)


class Scheduler:
    """Begins what is due. `clock` tells the seconds since the epoch."""

    def __init__(self, rooms: Rooms, sources: Sequence[Source], clock: Callable[[], float] = time.time) -> None:
        self._rooms = rooms
        self._sources = sources
        self._clock = clock
        self._next: dict[str, tuple[tuple[str, int, str], int | None]] = {}
        self._set_back: dict[str, int] = {}

    async def run(self) -> None:
        """For the daemon's life."""
        while True:
            await self.look()
            await asyncio.sleep(_INTERVAL)

    async def look(self) -> None:
        """Begin what is due. What is late by minutes was missed: no daemon ran, the machine slept, the clock jumped."""
        for source in self._sources:
            timed: Sequence[Timed] = ()
            with _told("a schedule could not be read"):
                timed = await source(self._rooms)
            for one in timed:
                with _told(f"{one.key} could not be begun"):
                    await self._look_at(one)

    async def _look_at(self, timed: Timed) -> None:
        now = int(self._clock())
        ran = await last(self._rooms, timed.key)
        if ran is None:
            await settle(self._rooms, timed.key, now)
            return
        due = self._due(timed, self._begin(timed.key, ran, now))
        if due is None or due > now:
            return
        if now - due > _LATE and not timed.repeat_missed:
            _log.info("%s was missed at its time: it is left out", timed.key)
            await _keep(self._rooms, timed.key, replace(ran, until=now))
            return
        if ran.upid is not None and await self._goes_on(ran.upid):
            _log.warning("%s is due, and its last run goes on: this one is left out", timed.key)
            await _keep(self._rooms, timed.key, replace(ran, until=now))
            return
        await _keep(self._rooms, timed.key, Ran(now))
        upid = await timed.start()
        await _keep(self._rooms, timed.key, Ran(now, str(upid), now))

    def _begin(self, key: str, ran: Ran, now: int) -> int:
        """The moment after which it may be due.

        What is settled far in the future was so by a clock that was wrong, or this one is, until it is set: at a boot
        without a battery. So that is only kept in mind.
        """
        if ran.until <= now + _SET_BACK:
            self._set_back.pop(key, None)
            return ran.until
        return self._set_back.setdefault(key, now)

    def _due(self, timed: Timed, begin: int) -> int | None:
        zone = facts.zone()
        asked = (timed.schedule, begin, zone.key)
        kept = self._next.get(timed.key)
        if kept is None or kept[0] != asked:
            kept = (asked, next_after(CalendarEvent.parse(timed.schedule), begin, zone))
            self._next[timed.key] = kept
        return kept[1]

    async def _goes_on(self, upid: str) -> bool:
        try:
            return (await self._rooms.tasks.get(upid)).running
        except (NotFound, InvalidParameter):
            return False


@contextmanager
def _told(what: str) -> Iterator[None]:
    """One that fails, whatever the cause, shall not keep the others from their times."""
    try:
        yield
    except BastideError as error:
        _log.error("%s: %s", what, error)
    except Exception:
        _log.exception(what)


async def _keep(rooms: Rooms, key: str, ran: Ran) -> None:
    await rooms.store.put(_PREFIX + key, json.dumps(asdict(ran)))
