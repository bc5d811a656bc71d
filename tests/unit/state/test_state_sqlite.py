"""What the SQLite store promises beyond the contract: durability, privacy, one daemon, clear failures."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, NoSpace
from bastide.state import sqlite
from bastide.state.sqlite import SqliteStore

WRITER = """
import asyncio, sys
from pathlib import Path
from bastide.state.sqlite import SqliteStore

async def write(store, worker):
    for number in range(100000):
        entry = await store.put(f"w{worker}/{number % 50}", str(number))
        print(entry.key, entry.value, entry.revision, flush=True)

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    await asyncio.gather(*(write(store, worker) for worker in range(8)))

asyncio.run(main())
"""

DAEMON_WITH_A_CHILD = """
import asyncio, os, sys
from pathlib import Path
from bastide.state.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    if os.fork():
        print("open", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [40, 400, 4000])
def test_every_acknowledged_write_survives_kill_9(tmp_path: Path, after: int) -> None:
    path = tmp_path / "store.db"
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(after)]
    os.kill(child.pid, signal.SIGKILL)
    lines += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    acknowledged: dict[str, tuple[int, int]] = {}
    for line in lines:
        if line.endswith("\n") and line.count(" ") == 2:
            key, value, revision = line.split()
            acknowledged[key] = (int(value), int(revision))

    async def check() -> None:
        store = await SqliteStore.open(path)
        highest = 0
        for key, (value, revision) in acknowledged.items():
            entry = await store.get(key)
            assert entry is not None
            assert (int(entry.value), entry.revision) >= (value, revision)
            highest = max(highest, revision)
        assert (await store.put("next", "")).revision > highest
        await store.close()

    assert len(acknowledged) > 5
    asyncio.run(check())


@pytest.mark.anyio
async def test_a_write_waits_for_the_disk(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    await store.close()


def _daemon_with_a_child(path: Path) -> subprocess.Popen[str]:
    """A process that has the store open, and a child of it that was only forked and lives until the input's end."""
    command = [sys.executable, "-c", DAEMON_WITH_A_CHILD, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


@pytest.mark.anyio
async def test_a_second_daemon_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with _daemon_with_a_child(path) as first:
        with pytest.raises(HostFailure, match=f"another daemon .process {first.pid}. works with"):
            await SqliteStore.open(path)
        first.kill()
        first.wait()
        # Its child goes on, with every descriptor that it was born with.
        await (await SqliteStore.open(path)).close()


@pytest.mark.anyio
async def test_nobody_else_reads_the_files(tmp_path: Path) -> None:
    path = tmp_path / "state" / "store.db"
    mask = os.umask(0)
    try:
        store = await SqliteStore.open(path)
        await store.put("a", "1")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        await store.close()
    finally:
        os.umask(mask)
    assert set(modes.values()) == {0o600}
    assert len(modes) >= 3


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["all", "head", "middle"])
async def test_a_damaged_file_is_a_clear_failure(tmp_path: Path, where: str) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    await asyncio.gather(*(store.put(f"key/{number}", "value" * 50) for number in range(500)))
    await store.close()
    data = bytearray(path.read_bytes())
    spot = {"all": slice(0, None), "head": slice(0, 100), "middle": slice(4096, len(data) // 2)}[where]
    data[spot] = b"\xa5" * len(data[spot])
    path.write_bytes(data)
    with pytest.raises(HostFailure, match=r"is damaged .*restore it from a backup"):
        await SqliteStore.open(path)
    assert path.read_bytes() == bytes(data)


@pytest.mark.anyio
async def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await (await SqliteStore.open(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(HostFailure, match="newer Bastide"):
        await SqliteStore.open(path)


@pytest.mark.anyio
async def test_an_older_schema_is_upgraded_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    await store.put("a", "1")
    await store.close()
    step = ("CREATE TABLE later (x)", "UPDATE entry SET value = value || '!'")
    monkeypatch.setattr(sqlite, "UPGRADES", (*sqlite.UPGRADES, step))
    for _ in range(2):
        store = await SqliteStore.open(path)
        entry = await store.get("a")
        assert entry is not None
        assert entry.value == "1!"
        await store.close()


@pytest.mark.anyio
async def test_a_full_disk_changes_nothing_and_the_next_write_works(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    kept = await store.put("a", "1")
    connection = store._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    results = await asyncio.gather(
        store.put("c", "x" * 100_000), store.put("b", "2"), store.put("a", "", kept.revision), return_exceptions=True
    )
    assert all(isinstance(result, NoSpace) for result in results)
    assert await store.list("") == [kept]
    connection.execute("PRAGMA max_page_count = 1000000")
    assert (await store.put("b", "2")).revision == kept.revision + 1
    await store.close()


@pytest.mark.anyio
async def test_a_cancelled_writer_harms_nobody(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    writers = [asyncio.ensure_future(store.put(f"k/{number}", "v")) for number in range(10)]
    await asyncio.sleep(0)
    writers[3].cancel()
    results = await asyncio.gather(*writers, return_exceptions=True)
    assert isinstance(results[3], asyncio.CancelledError)
    assert len(await store.list("k/")) >= 9
    await store.close()


@pytest.mark.anyio
async def test_writes_that_come_together_share_a_commit_and_reads_cost_no_disk(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    store._connection.set_trace_callback(count)
    await asyncio.gather(*(store.put(f"guest/{number}", "x" * 200) for number in range(10_000)))
    assert commits <= 3
    begun = time.process_time()
    assert len(await store.list("guest/")) == 10_000
    assert time.process_time() - begun < 0.1
    await store.close()
