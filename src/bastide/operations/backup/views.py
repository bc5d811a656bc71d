"""What is looked into for a while: opened once, and closed some minutes after the last look."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

VIEW_SECONDS = 600.0
"""How long disks stay open after the last look; the file-restore VM of Proxmox VE stays as long."""


@dataclass(slots=True)
class View:
    """The open disks of a VM's backup, and who looks at them.

    `images` are descriptors in the order of the disks' keys, `file_systems` {name in paths: GRUB's device}.
    """

    images: list[int]
    file_systems: Mapping[str, str]
    users: int = 0
    used: float = field(default_factory=time.monotonic)


class Views:
    """The open views by the archives' volume ids. Each is held by a task of its own."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Future[View]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: str, opening: Callable[[], AbstractAsyncContextManager[View]]) -> View:
        """The view of an archive, opened if it is not; raises what opening it raises."""
        if key not in self._open:
            self._open[key] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._hold(key, opening()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._open[key])

    async def close(self) -> None:
        """Let go of all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _hold(self, key: str, opening: AbstractAsyncContextManager[View]) -> None:
        ready = self._open[key]
        try:
            async with opening as view:
                ready.set_result(view)
                while view.users or time.monotonic() < view.used + VIEW_SECONDS:  # noqa: ASYNC110 - it waits for time
                    await asyncio.sleep(min(5.0, VIEW_SECONDS / 4))
                # From here on a new question opens it anew.
                self._open.pop(key, None)
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            if not ready.done():
                ready.cancel()
            if self._open.get(key) is ready:
                del self._open[key]
