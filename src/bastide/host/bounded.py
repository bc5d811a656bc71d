"""Calls that may hang for ever (a dead network or FUSE file system), bounded in time and in number.

A thread in an uninterruptible system call cannot be ended. It is a daemon thread of its own, so that it does not hold
up the event loop's thread pool, and a `Bounded` starts no second one while it hangs. It would keep the whole
process from ending, though, and its sockets open: a place whose file system may hang is asked by another process first.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from bastide.base.errors import DeadlineExceeded
from bastide.host.filesystems import failure, mount_over
from bastide.host.run import run

T = TypeVar("T")

_LOCAL = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "ramfs", "overlay", "vfat", "exfat"}
)
"""File systems that answer without asking another process or machine."""

_FRESH = 0.5
_MOST_IDLE = 8
_FOR_EVER = 365 * 24 * 3600.0


def in_thread(call: Callable[[], T]) -> "asyncio.Future[T]":
    """Run a blocking call in a daemon thread that does nothing else; the future gets its result or exception."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(method: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            method(value)

    def work() -> _Telling:
        try:
            outcome: tuple[Callable[[Any], None], Any] = (future.set_result, call())
        except Exception as error:
            outcome = (future.set_exception, error)

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile; nobody waits
                loop.call_soon_threadsafe(finish, *outcome)

        return tell

    try:
        _idle.pop().put(work)
    except IndexError:
        threading.Thread(target=_serve, args=(work,), daemon=True, name="bounded").start()
    return future


_Telling = Callable[[], None]
_idle: deque["queue.SimpleQueue[Callable[[], _Telling]]"] = deque()
"""Where threads that have nothing to do wait for work. To start one for each call takes longer than most calls."""


def _serve(work: Callable[[], _Telling]) -> None:
    mine: queue.SimpleQueue[Callable[[], _Telling]] = queue.SimpleQueue()
    while True:
        tell = work()
        # Before it tells: who hears of it may have work again.
        if len(_idle) >= _MOST_IDLE:
            tell()
            return
        _idle.append(mine)
        tell()
        del work, tell
        work = mine.get()


class Bounded:
    """Runs blocking calls for at most `deadline` seconds each, and none while an earlier one hangs beyond it."""

    def __init__(self, what: str, deadline: float = 8.0, place: Callable[[], Path] | None = None) -> None:
        """`place` tells the folder, without links in it, that the calls look into."""
        self._what = what
        self._deadline = deadline
        self._place = place
        self._answered = 0.0
        self._running: dict[asyncio.Future[Any], float] = {}

    @property
    def hangs(self) -> bool:
        """Whether a call has been running for longer than the deadline."""
        now = time.monotonic()
        return any(now - started > self._deadline for started in self._running.values())

    def check(self) -> None:
        """Raise DeadlineExceeded while an earlier call hangs."""
        if self.hangs:
            raise DeadlineExceeded(f"{self._what} does not answer")

    async def call(self, function: Callable[[], T], *, fresh: bool = False) -> T:
        """Run a blocking call. Raises DeadlineExceeded, at once when an earlier call hangs; else what it raises.

        What its file system cannot do is a HostFailure; that something is there, or is not, stays an OSError. With
        `fresh` the place is asked first even if it has just answered.
        """
        self.check()
        if self._place is not None and (fresh or time.monotonic() - self._answered > _FRESH):
            await self._ask(self._place())
        try:
            return await self._within(in_thread(function))
        except (FileNotFoundError, FileExistsError, NotADirectoryError, TimeoutError):
            raise
        except OSError as error:
            raise failure(error, f"use {self._what}") from error

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine that runs tools, in the same way: a tool that hangs in the kernel cannot be killed."""
        try:
            self.check()
        except DeadlineExceeded:
            work.close()
            raise
        return await self._within(asyncio.ensure_future(work))

    async def _ask(self, place: Path) -> None:
        entry = mount_over(place)
        if entry is not None and entry.fstype not in _LOCAL:
            # Not killed at the deadline: while it hangs, everybody else is refused at once.
            asking = run(["stat", "--file-system", "--", str(place)], deadline=_FOR_EVER, check=False)
            await self._within(asyncio.ensure_future(asking))
        self._answered = time.monotonic()

    async def _within(self, future: "asyncio.Future[T]") -> T:
        self._running[future] = time.monotonic()
        future.add_done_callback(self._forget)
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.shield(future)
        except TimeoutError:
            if future.done():
                raise  # the call's own error
            raise DeadlineExceeded(f"{self._what} did not answer within {self._deadline:g} seconds") from None

    def _forget(self, future: "asyncio.Future[Any]") -> None:
        self._running.pop(future, None)
        if not future.cancelled():
            future.exception()  # seen: a call that fails after its caller has gone is nobody's error
