"""Copying a file tree from one confined process to another, as a tar stream that the kernel moves between two pipes.

The daemon counts what passes and slows it down where a limit is asked for; it never looks into it. See splice(2).
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from pathlib import Path

from bastide.base.errors import HostFailure, NoSpace
from bastide.base.units import MIB
from bastide.host.run import kill_group, spawn

_PIPE_SIZE = MIB
_LAST_WORDS = 64 * 1024
_WHOLE = ("--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*")
_FULL = ("No space left on device", "Disk quota exceeded")


async def copy_tree(
    pack: Sequence[str],
    unpack: Sequence[str],
    *,
    limit: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Let `pack` write a tar stream into the standard input of `unpack`; returns how many bytes it had.

    `limit` is in bytes a second; `progress` gets the bytes so far, from another thread. Raises NoSpace, HostFailure.
    Cancelling kills both processes.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        source, packing = _pipe(ours, theirs)
        sink, unpacking = reversed(_pipe(theirs, ours))
        first = await spawn(pack, stdout=packing, stderr=PIPE)
        try:
            second = await spawn(unpack, stdin=unpacking, stderr=PIPE)
        except BaseException:
            await kill_group(first)
            raise
        ours.pop_all()
    moving = asyncio.create_task(asyncio.to_thread(_move, source, sink, limit, progress))
    try:
        said = await asyncio.gather(_last_of(first), _last_of(second))
        codes = (await first.wait(), await second.wait())
    finally:
        await asyncio.shield(_end(first, second))
        total = await moving
    # Whoever lost its reader says at most that; the cause is then what the reader says.
    lost = codes[0] == -signal.SIGPIPE or "Broken pipe" in said[0]
    if codes[0] != 0 and (codes[1] == 0 or not lost):
        raise _explain("read", codes[0], said[0])
    if codes[1] != 0:
        raise _explain("written", codes[1], said[1])
    return total


async def copy_folder(source: Path, target: Path, limit: float) -> None:
    """Copy what a folder of ours holds into an existing one, with owners, modes, links and extended attributes.

    Nobody writes to the source. `limit` is in bytes a second. Raises NoSpace, HostFailure.
    """
    pack = ["tar", "--create", "--file=-", f"--directory={source}", "--sparse", *_WHOLE, "--warning=no-file-ignored"]
    unpack = ["tar", "--extract", "--file=-", f"--directory={target}", "--same-owner", "--preserve-permissions"]
    await copy_tree([*pack, "--", "."], [*unpack, *_WHOLE, "--warning=no-timestamp"], limit=limit)


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


async def _last_of(process: Process) -> str:
    kept = b""
    assert process.stderr is not None  # noqa: S101 - every caller asks for it
    while part := await process.stderr.read(_LAST_WORDS):
        kept = (kept + part)[-_LAST_WORDS:]
    return kept.decode(errors="replace")


async def _end(*processes: Process) -> None:
    for process in processes:
        if process.returncode is None:
            await kill_group(process)


def _explain(doing: str, code: int, text: str) -> HostFailure:
    if any(words in text for words in _FULL):
        return NoSpace("the volume is full: the files do not fit")
    lines = [line for line in text.strip().splitlines() if "Exiting with failure status" not in line]
    return HostFailure(f"the files could not be {doing}: {lines[-1].strip() if lines else f'exit code {code}'}")
