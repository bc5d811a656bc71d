import sqlite3
from pathlib import Path

import pytest

from bastide.metrics.series import FIELDS, LEVELS, Series

EPOCH = 1_700_000_000 // 604_800 * 604_800  # the beginning of a bucket on every level


@pytest.fixture
def series(tmp_path: Path):
    series = Series(tmp_path / "metrics.db")
    yield series
    series.close()


def known(rows: list[dict], field: str) -> dict[int, float]:
    return {row["time"]: row[field] for row in rows if field in row}


def test_hour_has_sixty_rows_and_gaps_are_gaps(series: Series) -> None:
    for minute in (1, 2, 5):
        series.record(EPOCH + 60 * minute, [("guest", "100", {"cpu": minute / 10, "mem": 1 << 40, "netin": None})])
    rows = series.read("guest", "100", "hour", now=EPOCH + 60 * 6 + 3)
    assert len(rows) == 60
    assert rows[-1] == {"time": EPOCH + 360}
    assert known(rows, "cpu") == {EPOCH + 60: 0.1, EPOCH + 120: 0.2, EPOCH + 300: 0.5}
    assert known(rows, "netin") == {}
    assert isinstance(rows[-2]["mem"], int)


def test_coarse_buckets_hold_the_mean_and_the_peak(series: Series) -> None:
    for minute in range(1, 61):
        series.record(EPOCH + 60 * minute, [("node", "n", {"cpu": 1.0 if minute == 7 else 0.0})])
    now = EPOCH + 3600 + 5
    mean = known(series.read("node", "n", "week", "AVERAGE", now), "cpu")
    peak = known(series.read("node", "n", "week", "MAX", now), "cpu")
    assert mean == {EPOCH + 1800: pytest.approx(1 / 30), EPOCH + 3600: 0.0}
    assert peak == {EPOCH + 1800: 1.0, EPOCH + 3600: 0.0}


def test_every_level_is_filled_from_the_one_below(series: Series) -> None:
    for hour in range(1, 24 * 8):
        series.record(EPOCH + 3600 * hour, [("storage", "local", {"used": hour, "total": 500})])
    now = EPOCH + 3600 * 24 * 8
    year = known(series.read("storage", "local", "year", "MAX", now), "used")
    decade = known(series.read("storage", "local", "decade", "MAX", now), "used")
    assert year[EPOCH + 6 * 3600] == 6
    assert decade == {EPOCH + 604_800: 168}


def test_the_file_stops_growing_after_a_round(series: Series, tmp_path: Path) -> None:
    for minute in range(2 * LEVELS[0].slots):
        series.record(EPOCH + 60 * minute, [("guest", "100", {"cpu": 0.5})])
    series.close()
    with sqlite3.connect(tmp_path / "metrics.db") as look:
        (rows,) = look.execute("SELECT count(*) FROM guest_0").fetchone()
    look.close()
    assert rows == LEVELS[0].slots


def test_consolidation_is_made_up_for_after_a_restart(tmp_path: Path) -> None:
    first = Series(tmp_path / "metrics.db")
    for minute in range(1, 11):
        first.record(EPOCH + 60 * minute, [("guest", "100", {"cpu": 0.4})])
    first.close()
    second = Series(tmp_path / "metrics.db")
    second.record(EPOCH + 7200, [("guest", "100", {"cpu": 0.8})])
    rows = known(second.read("guest", "100", "week", now=EPOCH + 7200), "cpu")
    second.close()
    assert rows == {EPOCH + 1800: pytest.approx(0.4), EPOCH + 7200: 0.8}


def test_a_removed_guest_leaves_nothing_to_its_successor(series: Series) -> None:
    series.record(EPOCH + 60, [("guest", "100", {"cpu": 0.9}), ("guest", "101", {"cpu": 0.1})])
    series.remove("guest", "100")
    assert series.names("guest") == ["101"]
    assert series.read("guest", "100", "hour", now=EPOCH + 60) == []
    series.record(EPOCH + 120, [("guest", "100", {"cpu": 0.2})])
    assert known(series.read("guest", "100", "hour", now=EPOCH + 120), "cpu") == {EPOCH + 120: 0.2}


def test_a_clock_set_back_does_not_stop_the_series(series: Series) -> None:
    series.record(EPOCH + 10 * 1800, [("guest", "100", {"cpu": 0.9})])
    for minute in range(1, 32):
        series.record(EPOCH + 60 * minute, [("guest", "100", {"cpu": 0.1})])
    assert EPOCH + 1800 in known(series.read("guest", "100", "week", now=EPOCH + 1860), "cpu")


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "metrics.db").write_bytes(b"not a database" * 1000)
    series = Series(tmp_path / "metrics.db")
    series.record(EPOCH, [("node", "n", {"cpu": 0.5})])
    series.close()
    assert (tmp_path / "metrics.damaged").exists()


def test_a_file_of_an_earlier_version_is_read_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setitem(FIELDS, "guest", ("cpu", "mem"))
        old = Series(tmp_path / "metrics.db")
        old.record(EPOCH + 60, [("guest", "100", {"cpu": 0.5})])
        old.close()
    now = Series(tmp_path / "metrics.db")
    now.record(EPOCH + 120, [("guest", "100", {"cpu": 0.25, "pressurecpusome": 7.5})])
    rows = now.read("guest", "100", "hour", now=EPOCH + 120)
    now.record(EPOCH + 1860, [("guest", "100", {"cpu": 0.0})])
    coarse = now.read("guest", "100", "week", "MAX", now=EPOCH + 1860)
    now.close()
    assert rows[-2:] == [
        {"time": EPOCH + 60, "cpu": 0.5},
        {"time": EPOCH + 120, "cpu": 0.25, "pressurecpusome": 7.5},
    ]
    assert coarse[-1] == {"time": EPOCH + 1800, "cpu": 0.5, "pressurecpusome": 7.5}
