"""Calls that may hang for ever (a dead network or FUSE file system), bounded in time and in number.

A thread in an uninterruptible system call cannot be ended. It runs as a daemon thread of its own, so that it holds up
neither the event loop's thread pool nor the end of the process, and a `Bounded` starts no second one while it hangs.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bastide.base.errors import DeadlineExceeded

T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> "asyncio.Future[T]":
    """Run a blocking call in a daemon thread of its own; the future gets its result or exception."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(method: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            method(value)

    def work() -> None:
        try:
            outcome: tuple[Callable[[Any], None], Any] = (future.set_result, call())
        except Exception as error:
            outcome = (future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile; nobody waits
            loop.call_soon_threadsafe(finish, *outcome)

    threading.Thread(target=work, daemon=True, name="bounded").start()
    return future


class Bounded:
    """Runs blocking calls for at most `deadline` seconds each, and none while an earlier one hangs beyond it."""

    def __init__(self, what: str, deadline: float = 10.0) -> None:
        self._what = what
        self._deadline = deadline
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

    async def call(self, function: Callable[[], T]) -> T:
        """Run a blocking call. Raises DeadlineExceeded, at once when an earlier call hangs; else what it raises."""
        self.check()
        return await self._within(in_thread(function))

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine that runs tools, in the same way: a tool that hangs in the kernel cannot be killed."""
        try:
            self.check()
        except DeadlineExceeded:
            work.close()
            raise
        return await self._within(asyncio.ensure_future(work))

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
