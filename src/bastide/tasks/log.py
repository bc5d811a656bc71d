"""A task's log: one text file, appended a line at a time, followed while it grows.

Lines hold no control characters, whatever a program or a guest printed, and a log that has grown to its limit takes
only the task's last line.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from bastide.base.errors import HostFailure, NoSpace
from bastide.base.ids import Upid
from bastide.model.task import LogLine

LOG_LIMIT = 10 * 1024 * 1024
"""Bytes a log may grow to."""

LINE_LIMIT = 8192
"""Characters a line may have."""

_CHUNK = 256 * 1024
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean_lines(text: str) -> list[str]:
    """The text as lines without terminal escapes, control characters or reordering marks; at least one line."""
    lines = [_CONTROLS.sub("", line)[:LINE_LIMIT] for line in _ESCAPES.sub("", text).splitlines()]
    return lines or [""]


def log_path(folder: Path, upid: Upid) -> Path:
    """Where a task's log lies: 16 folders by the last digit of the start time, as Proxmox VE has it.

    A UPID longer than a file name may be is cut and told apart by its hash.
    """
    name = str(upid)
    if len(name.encode()) > 255:
        name = f"{name.encode()[:180].decode(errors='ignore')}{hashlib.sha256(name.encode()).hexdigest()}"
    return folder / f"{upid.starttime & 0xF:X}" / name


class TaskLog:
    """The writing end. `append` may be called from any thread; followers are woken on the log's event loop."""

    def __init__(self, path: Path, limit: int = LOG_LIMIT) -> None:
        """Make the file, which must not exist, with mode 0600. Raises HostFailure, NoSpace."""
        self.path = path
        self._limit = limit
        self._size = 0
        self._full = False
        self.lines = 0
        """How many have been written."""
        self._mutex = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._followers: set[asyncio.Event] = set()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno == 28:
                raise NoSpace(f"no space for the task's log: {error}") from error
            raise HostFailure(f"the task's log cannot be made: {error}") from error

    def append(self, text: str, *, last: bool = False) -> None:
        """Add a line (or several). `last` is written even when the log is full. A full disk loses lines, not tasks."""
        lines = clean_lines(text)
        data = "".join(f"{line}\n" for line in lines).encode()
        with self._mutex:
            if self._handle < 0 or (self._full and not last):
                return
            if self._size + len(data) > self._limit and not last:
                self._full = True
                lines, data = [""], b"the log is full: what follows was not kept\n"
            with contextlib.suppress(OSError):
                self._size += os.write(self._handle, data)
                self.lines += len(lines)
        if threading.get_ident() == self._loop_thread:
            self._wake()
        else:
            self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """Take no more lines and wake the followers a last time."""
        with self._mutex:
            if self._handle >= 0:
                os.close(self._handle)
            self._handle = -1
        self._wake()

    def subscribe(self) -> asyncio.Event:
        """An event that is set whenever the log has grown or was closed; give it back with `unsubscribe`."""
        event = asyncio.Event()
        self._followers.add(event)
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Wake that follower no more."""
        self._followers.discard(event)

    def _wake(self) -> None:
        for event in tuple(self._followers):
            event.set()


def append_last(path: Path, text: str) -> None:
    """Add a last line to the log of a task that nobody runs any more; a log that is gone stays gone."""
    with contextlib.suppress(OSError), path.open("ab") as file:
        file.write("".join(f"{line}\n" for line in clean_lines(text)).encode())


def read_lines(path: Path, start: int, limit: int) -> tuple[list[LogLine], int]:
    """At most `limit` lines after the first `start`, and how many the log has. No log: no lines. Blocks."""
    lines: list[LogLine] = []
    total = 0
    try:
        with path.open("rb") as file:
            for raw in file:
                if start <= total < start + limit:
                    lines.append(LogLine(total + 1, raw.rstrip(b"\n").decode(errors="replace")))
                total += 1
    except OSError:
        return [], 0
    return lines, total


async def follow_lines(
    path: Path, from_line: int, ended: Callable[[], bool], news: asyncio.Event
) -> AsyncIterator[LogLine]:
    """Lines from `from_line` (counted from 1) on, waiting for `news` until `ended()` and all of them were given."""
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError:
        return
    number, rest = 0, b""
    with file:
        while True:
            news.clear()
            last = ended()
            data = await asyncio.to_thread(file.read, _CHUNK)
            *whole, rest = (rest + data).split(b"\n")
            for raw in whole:
                number += 1
                if number >= from_line:
                    yield LogLine(number, raw.decode(errors="replace"))
            if not data and last:
                return
            if not data:
                await news.wait()
