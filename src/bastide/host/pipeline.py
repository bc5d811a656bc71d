"""Processes that hand a stream on from one to the next, which the daemon counts and slows down but never looks into.

The kernel moves it between the first two: see splice(2), pipe(7).
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from bastide.base.errors import HostFailure, NoSpace
from bastide.base.units import MIB
from bastide.host.run import kill_group, last_words, spawn

_PIPE_SIZE = MIB
# tar(1) says it of a file on a full disk, and of a pipe whose reader has gone.
_SHORT = ": Wrote only "
_FULL = ("No space left on device", "Disk quota exceeded", _SHORT)


@dataclass(frozen=True, slots=True)
class Stage:
    """A process of a pipeline: what it does, in words for an error ("the files could not be read"), and how it runs.

    `fine` are the exit codes that are no failure; `pass_fds` are inherited with their numbers.
    """

    argv: Sequence[str]
    doing: str
    fine: frozenset[int] = frozenset({0})
    pass_fds: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """How many bytes passed between the first stage and the second; each stage's exit code, and its last words."""

    total: int
    codes: Sequence[int]
    said: Sequence[str]


async def run_pipeline(
    stages: Sequence[Stage],
    *,
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    limit: float | None = None,
    progress: Callable[[int], None] | None = None,
    partial: bool = False,
) -> Flow:
    """Run two stages or more to their ends, from the descriptor `stdin` to the descriptor `stdout`.

    `limit` is in bytes a second; `progress` gets the bytes so far, from another thread. With `partial` the last stage
    may end well before it has read everything. Raises NoSpace, or HostFailure in the words of the stage that is the
    cause. Cancelling kills all of them.
    """
    processes: list[Process] = []
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        source, first_out = _pipe(ours, theirs)
        next_in, sink = _pipe(theirs, ours)
        try:
            for number, stage in enumerate(stages):
                reading = stdin if number == 0 else next_in
                if number == 0:
                    writing = first_out
                elif number == len(stages) - 1:
                    writing = stdout
                else:
                    next_in, writing = _pipe(theirs, theirs)
                processes.append(
                    await spawn(stage.argv, stdin=reading, stdout=writing, stderr=PIPE, pass_fds=stage.pass_fds)
                )
        except BaseException:
            await _end(processes)
            raise
        ours.pop_all()
    moving = asyncio.create_task(asyncio.to_thread(_move, source, sink, limit, progress))
    try:
        said = await asyncio.gather(*(last_words(process) for process in processes))
        codes = [await process.wait() for process in processes]
    finally:
        await asyncio.shield(_end(processes))
        total = await moving
    _check(stages, codes, said, partial=partial)
    return Flow(total, codes, said)


async def streamed(
    stages: Sequence[Stage], *, stdin: int = DEVNULL, ended: Callable[[Flow], None] = lambda _flow: None
) -> AsyncIterator[bytes]:
    """What the last of the stages writes, part by part; at last raises as `run_pipeline` does, or what `ended` does."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    stream = asyncio.StreamReader(limit=_PIPE_SIZE)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb"))
    running = asyncio.create_task(_closing(run_pipeline(stages, stdin=stdin, stdout=writing, partial=True), writing))
    try:
        while part := await stream.read(_PIPE_SIZE):
            yield part
        ended(await running)
    finally:
        transport.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _closing(work: Coroutine[Any, Any, Flow], descriptor: int) -> Flow:
    try:
        return await work
    finally:
        os.close(descriptor)


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe; the stacks close its reading and its writing end."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    reader.callback(os.close, reading)
    writer.callback(os.close, writing)
    with contextlib.suppress(OSError):  # an unprivileged limit on pipes only makes it slower
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    return reading, writing


def _move(source: int, sink: int, limit: float | None, progress: Callable[[int], None] | None) -> int:
    began, total = time.monotonic(), 0
    part = min(_PIPE_SIZE, max(4096, int(limit / 4))) if limit else _PIPE_SIZE
    try:
        with contextlib.suppress(BrokenPipeError):
            while moved := os.splice(source, sink, part):
                total += moved
                if progress is not None:
                    progress(total)
                if limit:
                    time.sleep(max(0.0, began + total / limit - time.monotonic()))
    finally:
        os.close(source)
        os.close(sink)
    return total


async def _end(processes: Sequence[Process]) -> None:
    for process in processes:
        if process.returncode is None:
            await kill_group(process)


def _check(stages: Sequence[Stage], codes: Sequence[int], said: Sequence[str], *, partial: bool) -> None:
    """Raise what the first stage says that failed by itself: one that lost its reader says at most that."""
    failed = [number for number, stage in enumerate(stages) if codes[number] not in stage.fine]
    if not failed:
        return
    lost = ("Broken pipe", _SHORT)
    causes = [
        number
        for number in failed
        if codes[number] != -signal.SIGPIPE
        and not any(words in said[number] for words in (lost if number < len(stages) - 1 else lost[:1]))
    ]
    if partial and not causes:
        return
    cause = (causes or failed)[0]
    if any(words in said[cause] for words in _FULL):
        raise NoSpace(f"the volume is full: the files could not be {stages[cause].doing}")
    lines = [line for line in said[cause].strip().splitlines() if "Exiting with failure status" not in line]
    reason = lines[-1].strip() if lines else f"exit code {codes[cause]}"
    raise HostFailure(f"the files could not be {stages[cause].doing}: {reason}")
