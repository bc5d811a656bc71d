"""Starting a process for the event loop without copying this one.

The loop's own way (uvloop's) forks: a daemon of 80 MB stands still for 4 ms each time. `subprocess.Popen` uses vfork(2)
and takes a tenth of that. This joins it to asyncio: what comes out is asyncio's own `Process`, whose `wait` returns at
the process's end, whoever still holds its pipes. Sources: vfork(2), pidfd_open(2), asyncio's `base_subprocess`.
"""

import asyncio
import os
import signal
import subprocess  # noqa: TID251 - this is host/
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

_STREAM_LIMIT = 64 * 1024


async def start(
    argv: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    **options: Any,
) -> Process:
    """Start a process; the options are those of `subprocess.Popen`. Raises OSError as that does."""
    loop = asyncio.get_running_loop()
    ours: dict[int, int] = {}
    theirs: list[int | None] = [stdin, stdout, stderr]
    try:
        for fd, wanted in enumerate((stdin, stdout, stderr)):
            if wanted == PIPE:
                reader, writer = os.pipe2(os.O_CLOEXEC)
                ours[fd], theirs[fd] = (writer, reader) if fd == 0 else (reader, writer)
        popen = subprocess.Popen(  # noqa: ASYNC220 - it blocks for less than a fork would
            argv, stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], **options
        )
    except BaseException:
        for end in ours.values():
            os.close(end)
        raise
    finally:
        for fd in ours:
            os.close(cast(int, theirs[fd]))
    protocol = _Protocol(limit=_STREAM_LIMIT, loop=loop)
    transport = _Transport(loop, popen, protocol)
    try:
        await transport.connect(ours)
    except BaseException:
        transport.close()
        raise
    return Process(transport, protocol, loop)


class _End:
    """Our end of a pipe as a loop wants it: a file.

    uvloop closes the descriptor by itself and then the file, when the number may be another's already.
    """

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self._fd = fd
        self._owner = isinstance(loop, asyncio.BaseEventLoop)

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def close(self) -> None:
        """Close it, if that is the file's business."""
        if self._owner:
            self._owner = False
            os.close(self._fd)


class _Protocol(SubprocessStreamProtocol):
    """asyncio's streams; an input that the process closed is told to who writes, and not to the log as well."""

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A pipe is closed."""
        super().pipe_connection_lost(fd, exc)
        closed: asyncio.Future[None] = vars(self)["_stdin_closed"]
        if fd == 0 and closed.done() and not closed.cancelled():
            closed.exception()


class _Transport(asyncio.SubprocessTransport):
    """A started process as asyncio's streams see it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, popen: "subprocess.Popen[bytes]", protocol: SubprocessStreamProtocol
    ) -> None:
        super().__init__()
        self._loop = loop
        self._popen = popen
        self.protocol = protocol
        self._pipes: dict[int, asyncio.BaseTransport] = {}
        self._open: set[int] = set()
        self._waiters: list[asyncio.Future[int]] = []
        # What happens before the protocol knows its streams is told to it afterwards.
        self._early: list[tuple[Callable[..., object], tuple[Any, ...]]] | None = []
        self._closed = False
        self._finished = False
        # Until it is waited for below, an ended process keeps its number: the descriptor is this process's.
        self._pidfd = os.pidfd_open(popen.pid)
        loop.add_reader(self._pidfd, self._ended)

    async def connect(self, ours: Mapping[int, int]) -> None:
        """Join our ends of its pipes to the loop, by its descriptors."""
        self._open.update(ours)
        for fd, end in ours.items():
            join = self._loop.connect_write_pipe if fd == 0 else self._loop.connect_read_pipe
            self._pipes[fd], _ = await join(lambda fd=fd: _Side(self, fd), _End(end, self._loop))  # type: ignore[misc]
        self.protocol.connection_made(self)
        early, self._early = self._early or [], None
        for call, arguments in early:
            call(*arguments)

    def get_pid(self) -> int:
        """The process's number."""
        return self._popen.pid

    def get_returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._popen.returncode

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        """The pipe at its descriptor 0, 1 or 2."""
        return self._pipes.get(fd)

    def send_signal(self, number: int) -> None:
        """Send a signal. Raises ProcessLookupError when it has ended."""
        if self._popen.returncode is not None:
            raise ProcessLookupError
        os.kill(self._popen.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Close the pipes and kill the process if it runs; it is still waited for."""
        if self._closed:
            return
        self._closed = True
        for pipe in self._pipes.values():
            pipe.close()
        if self._popen.returncode is None:
            self._popen.kill()

    async def _wait(self) -> int:
        """What `Process.wait` waits for."""
        if self._popen.returncode is not None:
            return self._popen.returncode
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._waiters.append(waiter)
        return await waiter

    def _ended(self) -> None:
        code = self._popen.poll()
        if code is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(code)
        self.tell(self.protocol.process_exited)
        self._finish()

    def tell(self, call: Callable[..., object], *arguments: Any) -> None:
        """Call the protocol, now or as soon as it is ready."""
        if self._early is None:
            call(*arguments)
        else:
            self._early.append((call, arguments))

    def lost(self, fd: int, error: Exception | None) -> None:
        """A pipe is closed."""
        self._open.discard(fd)
        self.tell(self.protocol.pipe_connection_lost, fd, error)
        self._finish()

    def _finish(self) -> None:
        if not self._finished and not self._open and self._popen.returncode is not None:
            self._finished = True
            self.tell(self.protocol.connection_lost, None)


class _Side(asyncio.Protocol):
    """Our end of one of its pipes."""

    def __init__(self, transport: _Transport, fd: int) -> None:
        self._transport = transport
        self._fd = fd

    def data_received(self, data: bytes) -> None:
        """It wrote."""
        self._transport.tell(self._transport.protocol.pipe_data_received, self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """It closed the pipe, or we did."""
        self._transport.lost(self._fd, exc)

    def pause_writing(self) -> None:
        """It does not read."""
        self._transport.tell(self._transport.protocol.pause_writing)

    def resume_writing(self) -> None:
        """It reads again."""
        self._transport.tell(self._transport.protocol.resume_writing)
