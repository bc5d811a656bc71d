"""Keeps the web process: starts it, hands it what it needs, and starts it anew when it has ended."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from pathlib import Path

from bastide.base.errors import BastideError
from bastide.host import run
from bastide.web.door import Door
from bastide.web.frames import BrokenFrame

_SOURCE = Path(__file__).parents[2]
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_STEADY = 30.0  # seconds after which a process that ends is no sign of a fault that comes again at once
_END, _LAST_WORDS = 8.0, 1.0
_BACKLOG = 1024
_LINE, _LINES = 2000, 100
_log = logging.getLogger("bastide.web")


class Keeper:
    """The web process of one daemon. `certificate` and `key` are read at each start."""

    def __init__(self, door: Door, listening: socket.socket, certificate: Path, key: Path) -> None:
        self._door = door
        self._listening = listening
        self._certificate = certificate
        self._key = key

    async def run(self, stop: asyncio.Event) -> None:
        """Keep one until `stop` is set; then it lets its requests end (5 s). A failure to start is logged."""
        pause = _FIRST_PAUSE
        while not stop.is_set():
            began = time.monotonic()
            try:
                code = await self._one(stop)
            except (OSError, BastideError) as error:
                _log.error("the web process cannot be started: %s", error)
            else:
                if stop.is_set():
                    return
                _log.error("the web process has ended (%s): it is started again", code)
            if time.monotonic() - began > _STEADY:
                pause = _FIRST_PAUSE
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _one(self, stop: asyncio.Event) -> int:
        """Start one and wait for its end; its exit code, negative for a signal."""
        self._listening.listen(_BACKLOG)  # whoever shares the socket could have shut it down
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with control:
            control.setblocking(False)
            with theirs, _in_memory(self._certificate.read_bytes() + b"\n" + self._key.read_bytes()) as tls:
                given = (theirs.fileno(), self._listening.fileno(), tls)
                process = await run.spawn(
                    [*_program(), str(os.getpid()), *map(str, given)],
                    env=None if sys.flags.isolated else {"PYTHONPATH": str(_SOURCE)},
                    stderr=PIPE,
                    pass_fds=given,
                    cwd=Path("/"),
                )
            try:
                await self._accompany(process, control, stop)
            finally:
                control.close()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_END if stop.is_set() else _LAST_WORDS):
                        await process.wait()
                await run.kill_group(process)
        return process.returncode or 0

    async def _accompany(self, process: Process, control: socket.socket, stop: asyncio.Event) -> None:
        """Speak with it until it ends, or `stop` is set."""
        tasks = [
            asyncio.create_task(self._hand_out(control)),
            asyncio.create_task(_write_down(process.stderr)),
            asyncio.create_task(process.wait()),
            asyncio.create_task(stop.wait()),
        ]
        try:
            await asyncio.wait({tasks[0], *tasks[2:]}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hand_out(self, control: socket.socket) -> None:
        try:
            await self._door.serve(control)
        except BrokenFrame as error:
            _log.error("%s: it is ended", error)


def _program() -> list[str]:
    return [sys.executable, *(["-I"] if sys.flags.isolated else []), "-m", "bastide.web"]


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield descriptor
    finally:
        os.close(descriptor)


async def _write_down(errors: asyncio.StreamReader | None) -> None:
    """Write what it says into the daemon's log, as text of its own: some lines a minute, no control characters."""
    left, since, lost = _LINES, time.monotonic(), 0
    while errors is not None and (line := await _line(errors)):
        if time.monotonic() - since > 60:
            if lost:
                _log.error("%d more lines of the web process's are left out", lost)
            left, since, lost = _LINES, time.monotonic(), 0
        if left:
            left -= 1
            text = line.decode(errors="replace").rstrip()
            _log.error("the web process says: %s", "".join(c if c.isprintable() else "?" for c in text)[:_LINE])
        else:
            lost += 1


async def _line(errors: asyncio.StreamReader) -> bytes:
    try:
        return await errors.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await errors.read(error.consumed or 1)
