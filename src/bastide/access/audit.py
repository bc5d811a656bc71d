"""The audit log: who did what from where, and what came of it.

A line of JSON each, in two books: what was done, and what was refused. A flood of refused calls, which costs its sender
nothing, can push older refusals out of the second, but nothing out of the first. Lines reach the kernel before the call
is answered, so that a killed daemon loses none, and the disk within about a second.

Writes go on when no line can be written: whoever fills the disk would otherwise stop the host. How many lines were
lost is counted, said in the daemon's log, and stands as a line of its own in the book as soon as there is room.
"""

import asyncio
import contextlib
import heapq
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import cast

from bastide.access.audit_book import Book
from bastide.model.audit import AuditRecord, AuditRow, Event, cut

BOOK_FILES = 8
BOOK_BYTES = 8 * 1024 * 1024
"""Each of the two books has at most so many files of at most so many bytes: 128 MiB together."""

_SYNC_SECONDS = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records are asked for; None is no matter.

    `user` is a user, with all their tokens, or one token; `path` a part of the path; `since` and `until` are seconds
    since the epoch, both included; `after` an id: only newer ones.
    """

    user: str | None = None
    path: str | None = None
    event: Event | None = None
    since: int | None = None
    until: int | None = None
    after: int | None = None
    failed: bool = False

    def matches(self, record: AuditRecord) -> bool:
        """Whether the record is asked for."""
        return not (
            (self.user is not None and self.user not in (record.user, record.user.partition("!")[0]))
            or (self.path is not None and self.path not in record.path)
            or (self.event is not None and self.event != record.event)
            or (self.since is not None and record.time < self.since)
            or (self.until is not None and record.time > self.until)
            or (self.failed and not record.failed)
        )


class AuditLog:
    """The books in a folder. `lost` is how many records could not be written since the daemon started."""

    def __init__(
        self, folder: Path, *, size: int = BOOK_BYTES, kept: int = BOOK_FILES, clock: Callable[[], float] = time.time
    ) -> None:
        self._done = Book(folder, "done", size=size, kept=kept)
        self._refused = Book(folder, "refused", size=size, kept=kept)
        self._clock = clock
        self._last: int | None = None
        self._gap = 0
        self._syncing: asyncio.TimerHandle | None = None
        self._reading = asyncio.Lock()
        self.lost = 0

    def begin(self) -> None:
        """Open the files: a daemon that runs out of descriptors later loses no line. What fails is logged."""
        for book in self._books:
            try:
                book.begin()
            except OSError as error:
                _log.error("the audit log cannot be opened: %s", error)

    def write(self, record: AuditRecord) -> None:
        """Add a record; its `id` and `time` are given here. Never raises: a record that is lost is counted."""
        try:
            if self._gap:
                self._tell_gap()
            self._append(record)
        except Exception as problem:  # whatever it is, the call that is recorded goes on
            if not self._gap:
                _log.error("the audit log cannot be written, what happens is not recorded: %s", problem)
            self._gap += 1
            self.lost += 1

    async def read(self, wanted: AuditFilter, start: int = 0, limit: int = 50) -> list[AuditRow]:
        """The records that match, newest first, from `start` on and at most `limit`."""
        async with self._reading:  # it may read all of the books: one at a time
            return await asyncio.to_thread(self._read, wanted, start, limit)

    def close(self) -> None:
        """Let go of the files."""
        if self._syncing is not None:
            self._syncing.cancel()
        self._done.close()
        self._refused.close()

    def _tell_gap(self) -> None:
        text = f"{self._gap} records were lost before this one"
        self._append(AuditRecord("write", "", "", "", "", 0, error=text))
        _log.warning("the audit log is written again: %s", text)
        self._gap = 0

    def _append(self, record: AuditRecord) -> None:
        if self._last is None:
            self._last = max((found.id for book in self._books for found in islice(_records(book), 1)), default=0)
        numbered = replace(record, id=self._last + 1, time=round(self._clock(), 3))
        # What a call was refused for, before anything was done, has a status from 400 to 499, or 501.
        refused = 400 <= record.status < 500 or record.status == 501
        (self._refused if refused else self._done).append(f"{json.dumps(row(numbered))}\n".encode())
        self._last += 1
        self._sync_soon()

    @property
    def _books(self) -> tuple[Book, Book]:
        return self._done, self._refused

    def _read(self, wanted: AuditFilter, start: int, limit: int) -> list[AuditRow]:
        both = heapq.merge(*map(_records, self._books), key=lambda record: -record.id)
        found: Iterator[AuditRecord] = iter(both)
        if wanted.after is not None:
            newer = wanted.after
            found = _until(found, newer)
        return [row(record) for record in islice(filter(wanted.matches, found), start, start + limit)]

    def _sync_soon(self) -> None:
        if self._syncing is None:
            with contextlib.suppress(RuntimeError):  # no loop: a test's, or the daemon's end
                self._syncing = asyncio.get_running_loop().call_later(_SYNC_SECONDS, self._sync)

    def _sync(self) -> None:
        self._syncing = None
        for book in self._books:
            try:
                handle = book.duplicate()
            except OSError:
                continue  # out of descriptors: the kernel writes it by itself, later
            if handle is not None:
                asyncio.get_running_loop().run_in_executor(None, _flush, handle)


def row(record: AuditRecord) -> AuditRow:
    """The record as it is stored and answered; its texts cut, what is empty left out."""
    values = {key: cut(value) if isinstance(value, str) else value for key, value in asdict(record).items()}
    kept = {key: value for key, value in values.items() if value not in (None, {}, "") or key == "user"}
    return cast(AuditRow, kept)


def _flush(handle: int) -> None:
    try:
        os.fdatasync(handle)
    except OSError as error:
        _log.error("the audit log did not reach the disk: %s", error)
    finally:
        os.close(handle)


def _records(book: Book) -> Iterator[AuditRecord]:
    """The records of a book, newest first, each once; lines that are none are passed over."""
    before: int | None = None
    for line in book.newest_first():
        try:
            record = AuditRecord(**{"method": "", "path": "", "address": "", **json.loads(line)})
            known = not isinstance(record.id, int) or (before is not None and record.id >= before)
        except (ValueError, TypeError):
            continue
        if not known:
            before = record.id
            yield record


def _until(records: Iterator[AuditRecord], after: int) -> Iterator[AuditRecord]:
    for record in records:
        if record.id <= after:
            return
        yield record
