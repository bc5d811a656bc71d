"""The one place that spawns processes: argument lists, a fixed locale, a deadline, errors that carry stderr.

No shell is ever involved. A secret goes in through `input` or a file descriptor, never through `argv`.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from bastide.base.errors import DeadlineExceeded, Exhausted, NotSupported, RunError
from bastide.host.programs import missing

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
T = TypeVar("T")
_STDERR_LIMIT = 64 * 1024
_DRAIN_DEADLINE = 2.0
_KILL_DEADLINE = 5.0


@dataclass(frozen=True, slots=True)
class Completed:
    """An ended process: exit code, everything it wrote."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")


_kept: set[Process] = set()


class Runner(Protocol):
    """What `run` is to those who only run tools to their end; tests give one that answers from memory."""

    async def __call__(self, argv: Sequence[str], *, deadline: float = 60, check: bool = True) -> Completed:
        """Run a process to its end; see `run`."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: a fixed path and locale, nothing of ours, plus `extra`."""
    return {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **(extra or {})}


async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    stderr: int = DEVNULL,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
    new_session: bool = True,
    umask: int = -1,
) -> Process:
    """Start a process and return at once. Its environment is `environment(env)`; a `umask` of -1 is the daemon's own.

    Raises NotSupported when the program is not installed, Exhausted when the host has no process left.
    """
    options: dict[str, Any] = {
        "cwd": cwd,
        "pass_fds": tuple(pass_fds),
        "start_new_session": new_session,
        "umask": umask,
    }
    with contextlib.ExitStack() as ends:
        writing = None
        if stdin == PIPE:
            # asyncio gives a socket (Python 3.11), which nft refuses and which a guest cannot open as /dev/stdin.
            stdin, writer = os.pipe2(os.O_CLOEXEC)
            ends.callback(os.close, stdin)
            writing = open(writer, "wb", buffering=0)  # noqa: SIM115, ASYNC230 - the transport below closes it
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, env=environment(env), stdin=stdin, stdout=stdout, stderr=stderr, **options
            )
        except BaseException as error:
            if writing is not None:
                writing.close()
            if isinstance(error, FileNotFoundError):
                raise NotSupported(missing(argv[0])) from error
            if isinstance(error, BlockingIOError):  # fork(2): EAGAIN, no process or thread is left
                raise Exhausted(f"no process could be started for {argv[0]}: the host has too many") from error
            raise
    _keep(process)
    if writing is not None:
        process.stdin = await _writer(writing)
    return process


def _keep(process: Process) -> None:
    """Hold on to a process while it runs: asyncio kills one that nobody refers to any more, also at the loop's end.

    What outlives the daemon (QEMU, lxcfs, dnsmasq) depends on that, and on the daemon's ending by `os._exit`.
    """
    _kept.difference_update([one for one in _kept if one.returncode is not None])
    _kept.add(process)


async def _writer(file: BinaryIO) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), loop=loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, file)
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def run(
    argv: Sequence[str],
    *,
    input: bytes | None = None,  # noqa: A002 - the name the standard library uses
    env: Mapping[str, str] | None = None,
    deadline: float = 60,
    check: bool = True,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> Completed:
    """Run a process to its end, at most `deadline` seconds, and return what it wrote.

    Raises RunError when it fails and `check` is set, DeadlineExceeded when it does not end (it is killed with its
    process group), NotSupported when it is not installed. Cancelling kills it too.
    """
    process = await spawn(
        argv,
        env=env,
        stdin=DEVNULL if input is None else PIPE,
        stdout=PIPE,
        stderr=PIPE,
        pass_fds=pass_fds,
        cwd=cwd,
    )
    try:
        async with asyncio.timeout(deadline):
            out, err = await process.communicate(input)
    except TimeoutError:
        await kill_group(process)
        raise DeadlineExceeded(f"{argv[0]} did not end within {deadline:g} seconds") from None
    except asyncio.CancelledError:
        # One that hangs in the kernel dies when it comes back: nobody who is told to end waits for that.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_DEADLINE):
                await kill_group(process)
        raise
    completed = Completed(process.returncode or 0, out, err[-_STDERR_LIMIT:].decode(errors="replace"))
    if check and completed.code != 0:
        raise RunError(argv, completed.code, completed.stderr)
    return completed


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """Await what must not be killed half way; when that is cancelled, the work comes to its end first."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # seen: the caller has gone
        raise


async def last_words(process: Process) -> str:
    """What a process that `spawn` started with a pipe as stderr says until its end; of much, the end of it."""
    kept = b""
    if process.stderr is None:
        raise ValueError("its standard error is no pipe")
    while part := await process.stderr.read(_STDERR_LIMIT):
        kept = (kept + part)[-_STDERR_LIMIT:]
    return kept.decode(errors="replace")


async def kill_group(process: Process) -> None:
    """Kill a process that `spawn` started, with everything it started, and reap it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # asyncio takes a process for ended when its pipes are, too; a full pipe that nobody reads never is.
    await asyncio.gather(*(_drain(stream) for stream in (process.stdout, process.stderr) if stream is not None))
    await process.wait()


async def _drain(stream: asyncio.StreamReader) -> None:
    with contextlib.suppress(RuntimeError, TimeoutError):  # another task reads it; a process outside holds it open
        async with asyncio.timeout(_DRAIN_DEADLINE):
            while await stream.read(_STDERR_LIMIT):
                pass
