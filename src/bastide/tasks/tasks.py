"""Long work as tasks: recorded before it begins, logged while it runs, known after a restart.

A task is an asyncio task of this daemon. Its record lies in the store under `task/<upid>`, its log under
`logs/tasks/<digit>/<upid>`. When the daemon dies, the next one finds the record without an end and writes one.
"""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from bastide.base.errors import BastideError, InvalidParameter, NotFound, WrongState
from bastide.base.exhaustion import exhausted
from bastide.base.ids import Upid
from bastide.base.layout import Layout
from bastide.model.access import Identity
from bastide.model.task import LogLine, TaskRecord
from bastide.state.store import Entry, Store
from bastide.tasks.filters import Source, TaskFilter
from bastide.tasks.log import TaskLog, append_last, clean_lines, follow_lines, log_path, read_lines

KEPT = 10_000
"""How many ended tasks are remembered."""

STOPPED = "received interrupt"
"""The end of a task that a user stopped, in Proxmox VE's words."""

DAEMON_STOPPED = "interrupted: the daemon stopped during this task"
DAEMON_DIED = "interrupted: the daemon ended during this task"

_PREFIX = "task/"
_LINES = 1000
_PRUNE_STEP = 64
_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Records = list[TaskRecord]
_Lines = list[LogLine]


class Task:
    """What the work sees of its task: its id, and its log."""

    def __init__(self, upid: Upid, log: TaskLog) -> None:
        self.upid = upid
        self.warnings = 0
        self._log = log

    def log(self, line: str) -> None:
        """Add a line to the log. May be called from any thread."""
        self._log.append(line)

    def warn(self, line: str) -> None:
        """Add a warning to the log; a task with warnings ends as `WARNINGS: n` instead of `OK`."""
        self.warnings += 1
        self._log.append(f"WARN: {line}")


@dataclass(slots=True, eq=False)
class _Running:
    record: TaskRecord
    log: TaskLog
    work: asyncio.Task[None]
    interruption: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Tasks:
    """The tasks of this daemon and those of earlier ones. `node` is the node's name in their UPIDs."""

    def __init__(self, store: Store, layout: Layout, node: str, *, kept: int = KEPT) -> None:
        self._store = store
        self._folder: Path = layout.logs / "tasks"
        self._node = node
        self._kept = kept
        self._pid, self._pstart = os.getpid(), _process_start()
        self._last_second, self._in_second = 0, 0
        self._records: dict[str, TaskRecord] = {}
        self._running: dict[str, _Running] = {}
        self._unsaved: _Records = []
        self._background: set[asyncio.Task[Any]] = set()
        self._loaded = False
        self._closing = False

    async def start(self, kind: str, id: str, by: Identity, work: Callable[[Task], Awaitable[None]]) -> Upid:  # noqa: A002 - the UPID's word
        """Record a task and let `work` run; returns when the record is on disk.

        `kind` and `id` are the UPID's type and what it works on. What `work` raises becomes the task's end. A caller
        that is cancelled meanwhile does not stop the task. Raises InvalidParameter, WrongState, HostFailure.
        """
        return await asyncio.shield(self._later(self._start(kind, id, by, work)))

    async def stop(self, upid: Upid | str) -> None:
        """Cancel a task; one that has ended is left alone. Raises NotFound."""
        record = await self.get(upid)
        running = self._running.get(str(record.upid))
        if running is not None:
            _interrupt(running, STOPPED)

    async def wait(self, upid: Upid | str) -> TaskRecord:
        """Wait for a task's end. Raises NotFound."""
        record = await self.get(upid)
        running = self._running.get(str(record.upid))
        if running is not None:
            await running.ended.wait()
        return self._records.get(str(record.upid), record)

    async def get(self, upid: Upid | str) -> TaskRecord:
        """A task's record. Raises NotFound."""
        await self._load()
        record = self._records.get(str(upid))
        if record is None:
            raise NotFound(f"no such task '{clean_lines(str(upid))[0][:300]}'")
        return record

    async def page(
        self, wanted: TaskFilter, start: int = 0, limit: int = 50, visible: Callable[[TaskRecord], bool] | None = None
    ) -> tuple[_Records, int]:
        """The tasks that match, newest first, from `start` on and at most `limit`; and how many match altogether.

        `visible` says which ones the caller may know of.
        """
        await self._load()
        found = [
            record
            for record in reversed(self._records.values())
            if wanted.matches(record) and (visible is None or visible(record))
        ]
        return found[start : start + limit], len(found)

    async def list(
        self,
        *,
        start: int = 0,
        limit: int = 50,
        vmid: int | str | None = None,
        typefilter: str | None = None,
        userfilter: str | None = None,
        statusfilter: Iterable[str] = (),
        since: int | None = None,
        until: int | None = None,
        errors: bool = False,
        source: Source = "all",
    ) -> _Records:
        """The tasks that match, newest first. The filters are those of `TaskFilter`."""
        wanted = TaskFilter(
            vmid=vmid,
            typefilter=typefilter,
            userfilter=userfilter,
            statusfilter=frozenset(statusfilter),
            since=since,
            until=until,
            errors=errors,
            source=source,
        )
        return (await self.page(wanted, start, limit))[0]

    async def log(self, upid: Upid | str, start: int = 0, limit: int = 50) -> tuple[_Lines, int]:
        """At most `limit` lines of a task's log after the first `start`, and how many it has. Raises NotFound."""
        record = await self.get(upid)
        return await asyncio.to_thread(read_lines, log_path(self._folder, record.upid), start, limit)

    async def news(self, upid: Upid | str, start: int | None, seconds: float) -> tuple[TaskRecord, _Lines]:
        """A task's record and its log's lines after the first `start`: when there are any, at its end, or in `seconds`.

        Without `start` its end alone is waited for, and no lines are read. Raises NotFound.
        """
        record = await self.get(upid)
        running = self._running.get(str(record.upid))
        if running is not None:
            news = running.log.subscribe()
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        while not running.ended.is_set() and (start is None or running.log.lines <= start):
                            news.clear()
                            await news.wait()
            finally:
                running.log.unsubscribe(news)
        lines = [] if start is None else (await self.log(upid, start, _LINES))[0]
        return self._records.get(str(record.upid), record), lines

    async def follow(self, upid: Upid | str, from_line: int = 1) -> AsyncIterator[LogLine]:
        """A task's log from a line (counted from 1) on, as it grows, until the task has ended. Raises NotFound."""
        record = await self.get(upid)
        running = self._running.get(str(record.upid))
        news = running.log.subscribe() if running else asyncio.Event()
        try:
            lines = follow_lines(
                log_path(self._folder, record.upid), from_line, lambda: running is None or running.ended.is_set(), news
            )
            async for line in lines:
                yield line
        finally:
            if running is not None:
                running.log.unsubscribe(news)

    async def recover(self) -> _Records:
        """At the daemon's start: end the tasks that a dead daemon left running, and return them as they end."""
        await self._load()
        left = [r for key, r in self._records.items() if r.running and key not in self._running]
        ended = [replace(record, endtime=int(time.time()), exitstatus=DAEMON_DIED) for record in left]
        for record in ended:
            append_last(log_path(self._folder, record.upid), f"TASK ERROR: {DAEMON_DIED}")
            self._records[str(record.upid)] = record
        await asyncio.gather(*(self._save(record) for record in ended))
        return ended

    async def shutdown(self, deadline: float = 20.0) -> None:
        """The daemon stops: interrupt what runs, and wait at most `deadline` seconds for its undoing.

        What does not end in time is ended by the next daemon's `recover`.
        """
        self._closing = True
        for running in self._running.values():
            _interrupt(running, DAEMON_STOPPED)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while self._background:
                    await asyncio.wait(self._background)

    async def _start(self, kind: str, what: str, by: Identity, work: Callable[[Task], Awaitable[None]]) -> Upid:
        await self._load()
        if self._closing:
            raise WrongState("the daemon is stopping and takes no new tasks")
        upid = self._new_upid(kind, what, str(by))
        log = TaskLog(log_path(self._folder, upid))
        record = TaskRecord(upid)
        try:
            await self._store.put(f"{_PREFIX}{upid}", _to_json(record))
        except BaseException:
            log.close()
            log.path.unlink(missing_ok=True)
            raise
        task = Task(upid, log)
        running = _Running(record, log, asyncio.create_task(_run(work, task), name=str(upid)))
        self._records[str(upid)] = record
        self._running[str(upid)] = running
        if self._closing:
            _interrupt(running, DAEMON_STOPPED)
        self._later(self._supervise(task, running))
        return upid

    def _new_upid(self, kind: str, what: str, user: str) -> Upid:
        """A UPID that no task has: the start ticks count up within a second."""
        now = int(time.time())
        self._in_second = self._in_second + 1 if now == self._last_second else 0
        self._last_second = now
        upid = Upid(self._node, self._pid, self._pstart + self._in_second, now, kind, what, user)
        if Upid.parse(str(upid)) != upid or not str(upid).isprintable():
            raise InvalidParameter({"upid": f"'{kind}', '{what}' and '{user}' do not make a task id"})
        while str(upid) in self._records:
            upid = replace(upid, pstart=upid.pstart + 1)
        return upid

    async def _supervise(self, task: Task, running: _Running) -> None:
        """Wait for the work, whatever becomes of it, and write down its end."""
        await asyncio.wait({running.work})
        status, last = _end(task, running)
        record = replace(running.record, endtime=int(time.time()), exitstatus=status)
        running.log.append(last, last=True)
        try:
            await self._save(record)
        finally:
            key = str(task.upid)
            self._records[key] = record
            self._running.pop(key, None)
            running.ended.set()
            running.log.close()
        await self._prune()

    async def _save(self, record: TaskRecord) -> None:
        """Store a record. What a full disk refuses is kept in mind and stored after the next one that succeeds."""
        try:
            await self._store.put(f"{_PREFIX}{record.upid}", _to_json(record))
        except BastideError as error:
            _log.error("the end of task %s is not stored yet: %s", record.upid, error)
            self._unsaved.append(record)
            return
        waiting, self._unsaved = self._unsaved, []
        for earlier in waiting:
            await self._save(earlier)

    async def _prune(self) -> None:
        """Forget the oldest ended tasks beyond the number that is kept, some at a time."""
        ended = len(self._records) - len(self._running)
        if ended < self._kept + min(_PRUNE_STEP, self._kept):
            return
        old = [record for record in self._records.values() if not record.running][: ended - self._kept]
        for record in old:
            del self._records[str(record.upid)]
        for record in old:
            log_path(self._folder, record.upid).unlink(missing_ok=True)
        with contextlib.suppress(BastideError):
            await asyncio.gather(*(self._store.delete(f"{_PREFIX}{record.upid}") for record in old))

    async def _load(self) -> None:
        if self._loaded:
            return
        records = _readable(await self._store.list(_PREFIX))
        if self._loaded:
            return
        self._loaded = True
        records.sort(key=lambda record: (record.upid.starttime, record.upid.pstart))
        self._records = {str(record.upid): record for record in records}

    def _later(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


async def _run(work: Callable[[Task], Awaitable[None]], task: Task) -> None:
    await work(task)


def _interrupt(running: _Running, why: str) -> None:
    """Cancel the work, once: a second time would tear down the undoing of the first."""
    if running.interruption is None:
        running.interruption = why
        running.work.cancel()


def _end(task: Task, running: _Running) -> tuple[str, str]:
    """A task's end status, and its log's last line."""
    if running.work.cancelled():
        status = running.interruption or STOPPED
        return status, f"TASK ERROR: {status}"
    error = running.work.exception()
    if error is None:
        status = f"WARNINGS: {task.warnings}" if task.warnings else "OK"
        return status, f"TASK {status}"
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, BastideError):
        _log.error("task %s failed", task.upid, exc_info=error)
    told = exhausted(error) or error
    status = " ".join(line for line in clean_lines(str(told)) if line)[:2000] or type(told).__name__
    return status, f"TASK ERROR: {status}"


def _process_start() -> int:
    """When this process started, in clock ticks after boot: field 22 of /proc/self/stat (proc(5))."""
    text = Path("/proc/self/stat").read_text()
    # The second field is the program's name in parentheses and may hold anything, parentheses too.
    return int(text[text.rindex(")") + 2 :].split()[19]) & 0xFFFFFFFF


def _to_json(record: TaskRecord) -> str:
    return json.dumps({"endtime": record.endtime, "exitstatus": record.exitstatus})


def _readable(entries: Iterable[Entry]) -> _Records:
    """The records. One that cannot be read must not keep the daemon from starting."""
    records = []
    for entry in entries:
        try:
            raw = json.loads(entry.value)
            upid = Upid.parse(entry.key.removeprefix(_PREFIX))
            records.append(TaskRecord(upid, raw["endtime"], raw["exitstatus"]))
        except (InvalidParameter, ValueError, KeyError, TypeError) as error:
            _log.error("the record %s cannot be read: %s", entry.key, error)
    return records
