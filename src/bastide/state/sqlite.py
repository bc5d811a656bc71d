"""The embedded store: one SQLite file, written by one thread, mirrored in memory.

Writes that come together are committed together: while one transaction waits for the disk, the next gathers. A write
is acknowledged after its transaction is on disk (write-ahead log, `synchronous=FULL`;
https://www.sqlite.org/pragma.html#pragma_synchronous), so it survives a killed daemon and a power cut.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bastide.base.errors import Conflict, HostFailure, NoSpace
from bastide.state.mirror import Mirror, Watch, check_revision, check_text
from bastide.state.store import ANY, Change, Entry

UPGRADES: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE entry (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO counter VALUES ('revision', 0)",
    ),
)
"""The statements that lead from each schema version to the next; `PRAGMA user_version` counts the steps done."""


@dataclass(slots=True)
class _Write:
    key: str
    value: str | None
    expect: int
    done: asyncio.Future[Entry | None]


class SqliteStore:
    """`state.store.Store` in one SQLite file. Made by `open`; belongs to the event loop that opened it."""

    def __init__(self, connection: sqlite3.Connection, mirror: Mirror, lock: int, writer: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._mirror = mirror
        self._lock = lock
        self._writer = writer
        self._waiting: list[_Write] = []
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or make the store at `path`, and lock it against a second daemon.

        Raises HostFailure when another daemon holds it, when it is damaged or when a newer Bastide wrote it; NoSpace.
        """
        writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            opened = await asyncio.get_running_loop().run_in_executor(writer, _open, path)
        except BaseException:
            writer.shutdown(wait=False)
            raise
        return cls(*opened, writer)

    async def get(self, key: str) -> Entry | None:
        """The entry under a key, or None."""
        return self._mirror.get(key)

    async def list(self, prefix: str) -> list[Entry]:
        """All entries whose key begins with the prefix, in order of their keys."""
        return self._mirror.list(prefix)

    async def put(self, key: str, value: str, expect: int = ANY) -> Entry:
        """Write a value if the key's revision is the expected one; on return it is on disk.

        Raises Conflict, NoSpace, HostFailure. A cancelled caller's write may have happened.
        """
        check_text(key, value)
        entry = await self._write(key, value, expect)
        assert entry is not None  # noqa: S101 - only deletions leave nothing
        return entry

    async def delete(self, key: str, expect: int = ANY) -> None:
        """Remove a key if its revision is the expected one. Raises Conflict, NoSpace, HostFailure."""
        check_text(key)
        await self._write(key, None, expect)

    def watch(self, prefix: str) -> Watch:
        """Changes below a prefix from now on, each once and in order."""
        return self._mirror.watch(prefix)

    async def close(self) -> None:
        """Finish the writes under way, end the watches, release the file."""
        if self._closed:
            return
        self._closed = True
        if self._flusher is not None:
            await asyncio.wait({self._flusher})
        await asyncio.get_running_loop().run_in_executor(self._writer, self._connection.close)
        self._writer.shutdown(wait=False)
        os.close(self._lock)
        self._mirror.close()

    async def _write(self, key: str, value: str | None, expect: int) -> Entry | None:
        if self._closed:
            raise HostFailure("the store is closed")
        done: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(key, value, expect, done))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush(), name="store")
        return await done

    async def _flush(self) -> None:
        """Commit what waits, batch after batch; ends when nothing waits."""
        try:
            while self._waiting:
                # What ends together, as a guest's lock and its task do, is a step of the event loop apart.
                await asyncio.sleep(0)
                batch = [write for write in self._waiting if not write.done.done()]
                self._waiting.clear()
                await self._commit(batch)
        finally:
            self._flusher = None

    async def _commit(self, batch: Sequence[_Write]) -> None:
        changes, results = _plan(self._mirror, batch)
        if changes:
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(self._writer, _save, self._connection, changes)
            except BaseException as error:
                # Decided on changes that did not come to be, the other writes of the batch have no answer either.
                for write in batch:
                    if not write.done.done():
                        write.done.set_exception(_failure(error))
                if not isinstance(error, Exception):
                    raise
                return
        for change in changes:
            self._mirror.apply(change)
        for write, result in zip(batch, results, strict=True):
            if write.done.done():
                continue
            if isinstance(result, Conflict):
                write.done.set_exception(result)
            else:
                write.done.set_result(result)


def _plan(mirror: Mirror, batch: Sequence[_Write]) -> tuple[list[Change], list[Entry | Conflict | None]]:
    """What a batch changes and what each of its writes is answered, each seeing the ones before it."""
    seen: dict[str, Entry | None] = {}
    changes: list[Change] = []
    results: list[Entry | Conflict | None] = []
    revision = mirror.revision
    for write in batch:
        current = seen[write.key] if write.key in seen else mirror.get(write.key)
        try:
            check_revision(write.key, current, write.expect)
        except Conflict as conflict:
            results.append(conflict)
            continue
        entry = None
        if write.value is not None or current is not None:
            revision += 1
            changes.append(Change(write.key, write.value, revision))
            entry = None if write.value is None else Entry(write.key, write.value, revision)
            seen[write.key] = entry
        results.append(entry)
    return changes, results


def _open(path: Path) -> tuple[sqlite3.Connection, Mirror, int]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        _make_private(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path)
            rows = connection.execute("SELECT key, value, revision FROM entry")
            entries = [Entry(*row) for row in rows]
            (revision,) = connection.execute("SELECT value FROM counter WHERE name = 'revision'").fetchone()
        except BaseException:
            connection.close()
            raise
    except BaseException as error:
        os.close(lock)
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            raise _damaged(path, str(error)) from error
        raise _failure(error) if isinstance(error, sqlite3.Error | OSError) else error from None
    return connection, Mirror(entries, revision), lock


def _lock(path: Path) -> int:
    """Hold the file beside the store, by a record lock: no child has one, not even between its fork and its exec.

    So it is free again the moment that the daemon dies; a process does not keep itself out (fcntl(2)).
    """
    name = path.with_name(path.name + ".lock")
    handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
        os.close(handle)
        whose = f"process {holder}" if holder.isdigit() else "another process"
        raise HostFailure(f"another daemon ({whose}) works with {path}: stop it first, or use another --root") from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def _make_private(path: Path) -> None:
    """Make the file with mode 0600 before SQLite does; its log files take the same mode."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(handle, 0o600)
    finally:
        os.close(handle)
    for place in (path.parent, path.parent.parent):
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check the file, set how it is written, and upgrade its schema."""
    # Nobody else has the file open. Without this, SQLite shares the log's index as a mapped file (-shm), and writing to
    # that kills the process where the file system has no room left to copy a block (btrfs).
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _damaged(path, verdict)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(UPGRADES):
        raise HostFailure(f"{path} was written by a newer Bastide (schema {version}): use that version or a later one")
    for number, step in enumerate(UPGRADES[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in step:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number:d}")
        connection.execute("COMMIT")


def _save(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """Commit changes in one transaction; on return they are on disk."""
    last = {change.key: change for change in changes}.values()
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(
            "INSERT INTO entry VALUES (?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision",
            [(change.key, change.value, change.revision) for change in last if change.value is not None],
        )
        connection.executemany(
            "DELETE FROM entry WHERE key = ?", [(change.key,) for change in last if change.value is None]
        )
        connection.execute("UPDATE counter SET value = ? WHERE name = 'revision'", (changes[-1].revision,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _failure(error: BaseException) -> HostFailure:
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == 28
    if full:
        return NoSpace("the disk of the state folder is full: nothing was changed")
    return HostFailure(f"the state could not be read or written: {error}")


def _damaged(path: Path, why: str) -> HostFailure:
    reason = " ".join(why.split())
    return HostFailure(
        f"the state file {path} is damaged ({reason}): restore it from a backup, or move it away to begin anew"
    )
