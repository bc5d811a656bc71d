"""Tasks that a task starts and waits for: they end with it when it is stopped, and their failure is its own."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from bastide.base.errors import BastideError, HostFailure
from bastide.base.ids import Upid
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task


class Part(Task):
    """A guest's share of a task: its lines stand in the whole's log behind the guest's name."""

    def __init__(self, whole: Task, name: str) -> None:
        self.upid = whole.upid
        self._whole, self._name = whole, name

    def log(self, line: str) -> None:
        """Add a line to the whole's log."""
        self._whole.log(f"{self._name}: {line}")

    def warn(self, line: str) -> None:
        """Add a warning to the whole's."""
        self._whole.warn(f"{self._name}: {line}")


async def finished(rooms: Rooms, starting: Coroutine[Any, Any, Upid]) -> None:
    """Start a task and wait for its end. Cancelled, it stops the task and waits until that has undone its work.

    Raises what the start raises, and HostFailure with the end of a task that failed.
    """
    begun = asyncio.create_task(starting)
    try:
        upid = await asyncio.shield(begun)
        record = await rooms.tasks.wait(upid)
    except asyncio.CancelledError:
        with contextlib.suppress(BastideError):
            upid = await begun
            await rooms.tasks.stop(upid)
            await rooms.tasks.wait(upid)
        raise
    status = str(record.exitstatus)
    if status != "OK" and not status.startswith("WARNINGS"):
        raise HostFailure(status)
