"""A process that works for a client: its descriptors, its end, and ending it with everything it started.

Sources: pidfd_open(2), pty(7) (a master whose slaves are all closed reads EIO), signal(7) for exit codes of shells.
"""

import asyncio
import contextlib
import errno
import os
from asyncio.subprocess import Process
from collections.abc import Callable

from bastide.host import processes

CHUNK = 64 * 1024
"""Most bytes that are read at once, and so the size of the largest frame."""


class Descriptor:
    """An open descriptor, such as a terminal's master, read and written without blocking the loop. It owns it."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd

    async def read(self) -> bytes:
        """What there is to read, at most CHUNK bytes; empty at the end."""
        while self.fd >= 0:
            try:
                return os.read(self.fd, CHUNK)
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader)
            except OSError as error:
                if error.errno == errno.EIO:
                    return b""
                raise
        return b""

    async def write(self, data: bytes) -> None:
        """Write everything. Raises OSError when the other side is gone."""
        view = memoryview(data)
        while view:
            if self.fd < 0:
                raise BrokenPipeError(errno.EPIPE, "closed")
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_writer, asyncio.get_running_loop().remove_writer)

    async def _ready(self, watch: Callable[..., object], forget: Callable[[int], object]) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        fd = self.fd
        watch(fd, _settle, ready)
        try:
            await ready
        finally:
            forget(fd)

    def close(self) -> None:
        """Close it, after whoever reads or writes has been cancelled."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def exit_code(process: Process) -> int:
    """Wait for a process's own end and return its exit code, 128 + n when signal n killed it.

    `Process.wait` of asyncio also waits until all its pipes are closed, which a background process it left may delay
    for ever.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            handle = processes.Handle(process.pid)
            loop = asyncio.get_running_loop()
            ended: asyncio.Future[None] = loop.create_future()
            loop.add_reader(handle.fd, _settle, ended)
            try:
                await ended
            finally:
                loop.remove_reader(handle.fd)
                handle.close()
    while process.returncode is None:  # noqa: ASYNC110 - there is no event for it
        # It has ended; the loop's own watcher collects the code in this very moment.
        await asyncio.sleep(0.0005)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def kill_tree(process: Process) -> None:
    """Kill a process with its children and theirs, also those in another PID namespace.

    What has been reparented (a daemon that the command started) is left alone.
    """
    if process.returncode is not None:
        return
    handles: dict[int, processes.Handle] = {}
    waiting = [process.pid]
    while waiting:
        pid = waiting.pop()
        if pid not in handles:
            with contextlib.suppress(ProcessLookupError):
                handles[pid] = processes.Handle(pid)
                waiting += processes.children(pid)
    # Children first: a parent that sees its child die before itself would start another at worst.
    for handle in reversed(handles.values()):
        handle.kill()
        handle.close()


def let_go(process: Process) -> None:
    """Kill a process as `kill_tree` does, and close our ends of its pipes, which a process it left may still hold."""
    kill_tree(process)
    if process.stdin is not None:
        process.stdin.close()
    # asyncio has no public way to close them; `Process.communicate` waits for the other ends.
    transport: asyncio.SubprocessTransport = vars(process)["_transport"]
    transport.close()
