"""Every acknowledged write of the state survives a loss of power at any moment, and none is half there."""

import asyncio
import random
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bastide.base.errors import Conflict
from bastide.state.sqlite import SqliteStore
from bastide.state.store import ABSENT, Change
from framework.power import Act, Disk, Recorded, losses

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

KEYS = [f"guest/{number}" for number in range(12)]
CHECKPOINT = 12
"""Pages in the log until it is written back: few, so that it happens often."""


@dataclass
class History:
    """`acts` were done; `changes` in the order of their revisions; `known` are (acts so far, revision on disk)."""

    acts: list[Act]
    changes: list[Change]
    known: list[tuple[int, int]]

    def at(self, revision: int) -> dict[str, str]:
        """What the store held then."""
        held: dict[str, str] = {}
        for change in self.changes:
            if change.revision > revision:
                break
            if change.value is None:
                held.pop(change.key, None)
            else:
                held[change.key] = change.value
        return held

    def acknowledged(self, acts: int) -> int:
        """The newest revision of which somebody was told that it is on disk, after so many acts."""
        return max((revision for done, revision in self.known if done <= acts), default=0)


async def _write(store: SqliteStore, chance: random.Random, place: Recorded, told: list[tuple[int, int]]) -> None:
    key = chance.choice(KEYS)
    current = await store.get(key)
    expect = chance.choice([current.revision if current else ABSENT, 1])
    try:
        if current is not None and chance.random() < 0.2:
            await store.delete(key, expect)
            told.append((place.length, store._mirror.revision))
            return
        entry = await store.put(key, chance.choice("abc") * chance.choice([1, 30, 3000, 20_000]), expect)
    except Conflict:
        return
    told.append((place.length, entry.revision))


async def _live(place: Recorded, chance: random.Random, rounds: int) -> History:
    """Write for a while, close the store and open it again now and then."""
    told: list[tuple[int, int]] = []
    changes: list[Change] = []
    for _ in range(rounds):
        store = await SqliteStore.open(place.folder / "bastide.db")
        store._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        watch = store.watch("")
        for _ in range(6):
            await asyncio.gather(*(_write(store, chance, place, told) for _ in range(chance.choice([1, 1, 4]))))
        await store.close()
        changes += [change async for change in watch]
    trace = place.trace()
    lengths = [length for length, _ in trace]
    known = [(sum(done <= length for done in lengths), revision) for length, revision in told]
    return History([act for _, act in trace], changes, known)


def _integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


async def _check(history: History, acts: int, disk: Disk, folder: Path) -> None:
    disk.rebuild(folder)
    path = folder / "bastide.db"
    store = await SqliteStore.open(path)
    try:
        revision = store._mirror.revision
        assert {entry.key: entry.value for entry in await store.list("")} == history.at(revision)
        assert revision >= history.acknowledged(acts), f"an acknowledged write is gone, after {acts} acts"
        assert (await store.put("next", "works")).revision == revision + 1
    finally:
        await store.close()
    assert _integrity(path) == "ok"


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder in memory, for files that are written and read a thousand times."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


async def _sweep(seed: int, tmp_path: Path, quick: Path, rounds: int, parts: int) -> int:
    chance = random.Random(seed)
    with Recorded.mounted(tmp_path) as place:
        history = await _live(place, chance, rounds)
    assert {"write", "fsync", "unlink", "fsyncdir"} <= {act.kind for act in history.acts}
    assert len(history.known) > rounds
    count = 0
    for acts, disk in losses(history.acts, chance, parts):
        folder = quick / str(count)
        folder.mkdir()
        await _check(history, acts, disk, folder)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        count += 1
    return count


@pytest.mark.anyio
async def test_acknowledged_writes_survive_a_loss_of_power(tmp_path: Path, quick: Path) -> None:
    assert await _sweep(1, tmp_path, quick, rounds=4, parts=2) > 300


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(2, 22))
async def test_acknowledged_writes_survive_a_loss_of_power_in_long_histories(
    seed: int, tmp_path: Path, quick: Path
) -> None:
    assert await _sweep(seed, tmp_path, quick, rounds=12, parts=8) > 1000


@pytest.mark.anyio
async def test_a_store_that_does_not_sync_would_be_found_out(
    tmp_path: Path, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = SqliteStore.open

    async def careless(path: Path) -> SqliteStore:
        store = await opened(path)
        store._connection.execute("PRAGMA synchronous = NORMAL")
        return store

    monkeypatch.setattr(SqliteStore, "open", careless)
    with pytest.raises(AssertionError, match="an acknowledged write is gone"):
        await _sweep(1, tmp_path, quick, rounds=4, parts=2)
