"""Round-robin time series in one SQLite file: a minute's rows for a day, coarser ones for a month, a year, a decade.

Each kind of target (node, guest, storage) is a table of numbered series. A row is a bucket of one level; its slot is
`(time / step) % slots`, so that a new bucket overwrites the one that fell out of the level and the file stops growing.
A finished coarse bucket is made from the finer level: AVERAGE of what is known, MAX of the highest average. What was
not measured has no row or is NULL, and is absent from the answer.
"""

import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Consolidation = Literal["AVERAGE", "MAX"]
Timeframe = Literal["hour", "day", "week", "month", "year", "decade"]
Kind = Literal["node", "guest", "storage"]
Values = Mapping[str, float | int | None]


@dataclass(frozen=True, slots=True)
class Level:
    """Buckets of `step` seconds, the last `slots` of which are kept."""

    step: int
    slots: int


LEVELS = (Level(60, 1440), Level(1800, 1440), Level(21_600, 1440), Level(604_800, 570))

# Proxmox VE 9's windows: which level answers, and how many of its buckets.
_WINDOWS: dict[Timeframe, tuple[int, int]] = {
    "hour": (0, 60),
    "day": (0, 1440),
    "week": (1, 336),
    "month": (1, 1440),
    "year": (2, 1440),
    "decade": (3, 570),
}

_PRESSURE = ("pressurecpusome", "pressureiosome", "pressureiofull", "pressurememorysome", "pressurememoryfull")
FIELDS: dict[Kind, tuple[str, ...]] = {
    "node": (
        "cpu", "maxcpu", "iowait", "loadavg", "memtotal", "memused", "memavailable", "swaptotal", "swapused",
        "roottotal", "rootused", "netin", "netout", *_PRESSURE,
    ),
    "guest": (
        "cpu", "maxcpu", "mem", "maxmem", "disk", "maxdisk", "netin", "netout", "diskread", "diskwrite",
        "pressurecpufull", *_PRESSURE,
    ),
    "storage": ("total", "used"),
}  # fmt: skip


class Series:
    """The series of one Bastide. Every method blocks for milliseconds at most and may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises OSError or sqlite3.OperationalError when the place cannot be written.

        A damaged file is set aside: figures of the past are worth less than a running daemon.
        """
        self._guard = threading.Lock()
        self._numbers: dict[tuple[Kind, str], int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = _open(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            path.replace(path.with_suffix(".damaged"))
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._connection = _open(path)

    def close(self) -> None:
        """Release the file."""
        with self._guard:
            self._connection.close()

    def record(self, moment: float, rows: Iterable[tuple[Kind, str, Values]]) -> None:
        """Keep the values (kind, name, field to value) of the minute that ended at `moment`, seconds since the epoch.

        Also finishes the coarser buckets that ended by then; all in one transaction. Fields that the kind does not
        have are ignored, absent ones stay unknown.
        """
        bucket = int(moment) // LEVELS[0].step * LEVELS[0].step
        slot = bucket // LEVELS[0].step % LEVELS[0].slots
        by_kind: dict[Kind, list[list[float | int | None]]] = {}
        with self._guard, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for kind, name, values in rows:
                row: list[float | int | None] = [self._number(kind, name), slot, bucket]
                by_kind.setdefault(kind, []).append(row + [values.get(field) for field in FIELDS[kind]])
            for kind, values_of_kind in by_kind.items():
                marks = ", ".join("?" * (3 + len(FIELDS[kind])))
                columns = ", ".join(("series", "slot", "time", *FIELDS[kind]))
                self._connection.executemany(
                    f"INSERT OR REPLACE INTO {kind}_0 ({columns}) VALUES ({marks})",  # noqa: S608 - names of ours
                    values_of_kind,
                )
            for level in range(1, len(LEVELS)):
                self._consolidate(level, moment)

    def read(
        self, kind: Kind, name: str, timeframe: Timeframe, cf: Consolidation = "AVERAGE", now: float | None = None
    ) -> list[dict[str, float | int]]:
        """Rows of a window up to now, oldest first: `time` (seconds since the epoch) and the known fields.

        Buckets without a measurement are rows with `time` alone, as Proxmox VE answers. A target that was never
        measured has no rows.
        """
        level, count = _WINDOWS[timeframe]
        step = LEVELS[level].step
        end = int(time.time() if now is None else now) // step * step
        begin = end - count * step
        wanted = [_column(field, cf) if level else field for field in FIELDS[kind]]
        with self._guard:
            number = self._known(kind, name)
            if number is None:
                return []
            found = self._connection.execute(
                f"SELECT time, {', '.join(wanted)} FROM {kind}_{level} "  # noqa: S608 - names of ours
                "WHERE series = ? AND time > ? AND time <= ?",
                (number, begin, end),
            ).fetchall()
        rows: dict[int, dict[str, float | int]] = {at: {"time": at} for at in range(begin + step, end + step, step)}
        for at, *values in found:
            row = rows[at]
            for field, value in zip(FIELDS[kind], values, strict=True):
                if value is not None:
                    row[field] = value
        return list(rows.values())

    def names(self, kind: Kind) -> list[str]:
        """Everything of a kind that has a series."""
        with self._guard:
            return [row[0] for row in self._connection.execute("SELECT name FROM series WHERE kind = ?", (kind,))]

    def remove(self, kind: Kind, name: str) -> None:
        """Forget a target."""
        with self._guard, self._connection:
            number = self._known(kind, name)
            if number is None:
                return
            for level in range(len(LEVELS)):
                self._connection.execute(f"DELETE FROM {kind}_{level} WHERE series = ?", (number,))  # noqa: S608 - as above
            self._connection.execute("DELETE FROM series WHERE number = ?", (number,))
            self._numbers.pop((kind, name), None)

    def _known(self, kind: Kind, name: str) -> int | None:
        number = self._numbers.get((kind, name))
        if number is None:
            row = self._connection.execute(
                "SELECT number FROM series WHERE kind = ? AND name = ?", (kind, name)
            ).fetchone()
            if row is None:
                return None
            number = self._numbers[kind, name] = int(row[0])
        return number

    def _number(self, kind: Kind, name: str) -> int:
        number = self._known(kind, name)
        if number is None:
            self._connection.execute("INSERT INTO series (kind, name) VALUES (?, ?)", (kind, name))
            number = self._known(kind, name)
        assert number is not None  # noqa: S101 - it was just inserted
        return number

    def _consolidate(self, level: int, moment: float) -> None:
        """Make this level's buckets that ended since the last time from the level below.

        Like a minute's row, a bucket carries the time at which it ended. A daemon that slept makes up for it from what
        the finer level still holds.
        """
        step, slots = LEVELS[level].step, LEVELS[level].slots
        end = int(moment) // step * step
        row = self._connection.execute("SELECT until FROM consolidated WHERE level = ?", (level,)).fetchone()
        begin = row[0] if row else 0
        # A clock set back must not stop consolidation until it has caught up.
        if begin == end:
            return
        self._connection.execute("INSERT OR REPLACE INTO consolidated VALUES (?, ?)", (level, end))
        if begin > end:
            return
        for kind, fields in FIELDS.items():
            target = ", ".join([*fields, *(f"max_{field}" for field in fields)])
            highest = [f"MAX({field if level == 1 else f'max_{field}'})" for field in fields]
            source = ", ".join([*(f"AVG({field})" for field in fields), *highest])
            number = f"((time + {step - 1}) / {step})"
            self._connection.execute(
                f"INSERT OR REPLACE INTO {kind}_{level} (series, slot, time, {target}) "  # noqa: S608 - names of ours
                f"SELECT series, {number} % {slots}, {number} * {step}, {source} FROM {kind}_{level - 1} "
                f"WHERE time > ? AND time <= ? GROUP BY series, {number}",
                (begin, end),
            )


def buckets(timeframe: Timeframe) -> int:
    """How many rows a window has."""
    return _WINDOWS[timeframe][1]


def _column(field: str, cf: Consolidation) -> str:
    return f"max_{field}" if cf == "MAX" else field


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
    try:
        # Nobody else has it open; as in state/sqlite.py, no mapped file whose writing could kill the process.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        # A minute of figures may be lost with the power; the file stays whole.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -2048")
        _make_tables(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make what is missing, and columns that a newer version added."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS series "
            "(number INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (kind, name))"
        )
        connection.execute("CREATE TABLE IF NOT EXISTS consolidated (level INTEGER PRIMARY KEY, until INTEGER)")
        for kind, fields in FIELDS.items():
            for level in range(len(LEVELS)):
                table = f"{kind}_{level}"
                columns = [*fields, *(f"max_{field}" for field in fields if level)]
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} "
                    "(series INTEGER, slot INTEGER, time INTEGER NOT NULL, PRIMARY KEY (series, slot)) WITHOUT ROWID"
                )
                with closing(connection.execute(f"PRAGMA table_info({table})")) as cursor:
                    present = {row[1] for row in cursor}
                for column in columns:
                    if column not in present:
                        connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} NUMERIC")
