"""A command or terminal in a container, joined to a client by frames. The first byte of a frame is its stream.

From the client: 0 input, 1 a terminal's size `COLS:ROWS`, 2 the end of input. To the client: 1 output, 2 errors,
3 the exit code in ASCII, the last frame. Nothing is kept that the other side does not take: a command that does not
read stops the client's sending, a client that does not read stops the command. A client that goes ends the command.
A VM's agent runs its commands: `operations/vm/execute.py` speaks the same frames.
"""

import asyncio
import contextlib
import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bastide.base.errors import InvalidParameter, WrongState
from bastide.guest.protocol import Command, Terminal
from bastide.host import attached, pty
from bastide.model.guest import Guest, GuestState
from bastide.operations.rooms import Rooms

INPUT, RESIZE, END = 0, 1, 2
OUTPUT, ERRORS, EXIT = 1, 2, 3

HEARTBEAT = 15.0
"""Seconds of silence after which an empty frame is sent, which finds out that a client is gone."""

PLAIN_ENVIRONMENT = {"LANG": "C.UTF-8"}
"""What a command without a terminal has in its environment when nothing is asked."""

_QUIET = 0.25
_LEFT_OVER = 1024 * 1024


class Channel(Protocol):
    """The client's side."""

    async def receive(self) -> bytes | None:
        """The next frame, or None when the client is gone."""

    async def send(self, frame: bytes) -> None:
        """Send a frame; waits while the client does not take it. Raises OSError when it is gone."""


class Source(Protocol):
    """What the process writes to."""

    async def read(self) -> bytes:
        """What there is; empty at the end."""


@dataclass(slots=True)
class Session:
    """A process with its standard streams: pipes, or a terminal's master. It lives until `close`."""

    process: Process
    master: attached.Descriptor | None = None

    def sources(self) -> dict[int, Source]:
        """The streams that the process writes."""
        if self.master is not None:
            return {OUTPUT: self.master}
        pipes = {OUTPUT: self.process.stdout, ERRORS: self.process.stderr}
        return {stream: _Pipe(reader) for stream, reader in pipes.items() if reader is not None}

    async def write(self, data: bytes) -> None:
        """Give the process input. Raises OSError when it does not want any."""
        if self.master is not None:
            await self.master.write(data)
        elif self.process.stdin is not None:
            self.process.stdin.write(data)
            await self.process.stdin.drain()

    async def end_input(self) -> None:
        """Let the process see the end of its input; a terminal has a character for it."""
        if self.master is not None:
            await self.master.write(b"\x04")
        elif self.process.stdin is not None:
            self.process.stdin.close()

    def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size; without one nothing happens."""
        if self.master is not None:
            pty.resize(self.master.fd, columns, rows)

    def close(self) -> None:
        """Kill the process if it lives, and let go of its pipes or terminal. May be called again."""
        attached.let_go(self.process)
        if self.master is not None:
            self.master.close()


@dataclass(frozen=True, slots=True)
class _Pipe:
    reader: asyncio.StreamReader

    async def read(self) -> bytes:
        return await self.reader.read(attached.CHUNK)


def command_of(argv: Sequence[str], env: Sequence[str] = (), cwd: str | None = None, *, tty: bool = False) -> Command:
    """A command as a caller words it; `env` are `NAME=VALUE`. Raises InvalidParameter."""
    values = dict(PLAIN_ENVIRONMENT)
    if tty:
        values["TERM"] = "xterm-256color"
    problems: dict[str, str] = {}
    for text in env:
        name, equals, value = text.partition("=")
        if not equals or not name or not name.replace("_", "a").isalnum() or not name.isascii() or name[0].isdigit():
            problems["env"] = f"'{text[:60]}' is not NAME=VALUE"
        values[name] = value
    if not argv or not argv[0]:
        problems["command"] = "property is missing and it is not optional"
    if cwd is not None and not cwd.startswith("/"):
        problems["cwd"] = f"'{cwd[:60]}' is not an absolute path"
    for name, texts in (("command", argv), ("env", env), ("cwd", [cwd or ""])):
        if any("\0" in text for text in texts):
            problems[name] = "holds a NUL character"
    if problems:
        raise InvalidParameter(problems)
    return Command(list(argv), values, cwd)


async def execute(rooms: Rooms, guest: Guest, command: Command, terminal: Terminal | None) -> Session:
    """Start a command in a running guest. Raises WrongState, HostFailure."""
    require_running(rooms, guest)
    if terminal is None:
        return Session(await rooms.containers.execute(guest.vmid, command))
    process, master = await rooms.containers.execute_terminal(guest.vmid, command, terminal)
    return Session(process, attached.Descriptor(master))


def require_running(rooms: Rooms, guest: Guest) -> None:
    """Raise WrongState unless processes of the guest can run."""
    state = rooms.containers.state(guest.vmid)
    if state is GuestState.STOPPED:
        raise WrongState(f"CT {guest.vmid} not running: start it first")
    if state is GuestState.PAUSED:
        raise WrongState(f"CT {guest.vmid} is suspended: resume it first")


async def join(session: Session, channel: Channel) -> int | None:
    """Copy between process and client until either ends; then the process is gone.

    Returns the exit code, which the client got as the last frame, or None when the client was gone first.
    """
    copy = _Copy(session, channel)
    client = asyncio.create_task(copy.from_client())
    outputs = {asyncio.create_task(copy.to_client(stream, source)) for stream, source in session.sources().items()}
    ended = asyncio.create_task(attached.exit_code(session.process))
    heart = asyncio.create_task(copy.heartbeat())
    try:
        while not ended.done():
            watched = {client, heart, ended, *outputs}
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            outputs -= done
            if client in done or heart in done or any(task.exception() for task in done - {client, heart, ended}):
                return None
        await copy.rest(outputs)
        code = ended.result()
        with contextlib.suppress(OSError):
            await channel.send(bytes([EXIT]) + str(code).encode())
            return code
        return None
    finally:
        tasks = [client, heart, ended, *outputs]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            session.close()


@dataclass(slots=True)
class _Copy:
    """The copying both ways, with what it has to know of its own progress."""

    session: Session
    channel: Channel
    sent_at: float = field(default_factory=time.monotonic)
    sent: int = 0
    sending: int = 0

    async def from_client(self) -> None:
        """Feed the process until the client is gone."""
        wanted = True
        while (frame := await self.channel.receive()) is not None:
            if not frame:
                continue
            stream, data = frame[0], frame[1:]
            if stream == RESIZE:
                with contextlib.suppress(ValueError, OSError):
                    columns, _, rows = data[:16].partition(b":")
                    self.session.resize(int(columns), int(rows))
            elif wanted:
                try:
                    await (self.session.write(data) if stream == INPUT else self.session.end_input())
                except (OSError, RuntimeError):
                    wanted = False  # the process closed its input: what still comes is of no use
                wanted = wanted and stream != END

    async def to_client(self, stream: int, source: Source) -> None:
        """Send what the process writes until it closes the stream. Raises OSError when the client is gone."""
        head = bytes([stream])
        while data := await source.read():
            await self._send(head + data)

    async def heartbeat(self) -> None:
        """Ends when the client turns out to be gone."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            if not self.sending and time.monotonic() - self.sent_at >= HEARTBEAT:
                try:
                    await self._send(bytes([OUTPUT]))
                except OSError:
                    return

    async def rest(self, outputs: set[asyncio.Task[None]]) -> None:
        """After the process's end: send what it left in its pipes.

        A background process that it left may keep them open. They count as done when nothing comes for a moment, or
        when more came than a pipe can hold.
        """
        begin = self.sent
        pending = set(outputs)
        while pending and self.sent - begin < _LEFT_OVER:
            before = self.sent
            _, pending = await asyncio.wait(pending, timeout=_QUIET)
            if self.sent == before and not self.sending and pending:
                return

    async def _send(self, frame: bytes) -> None:
        self.sending += 1
        try:
            await self.channel.send(frame)
        finally:
            self.sending -= 1
        self.sent += len(frame)
        self.sent_at = time.monotonic()


def terminal_of(columns: int | None, rows: int | None) -> Terminal:
    """A terminal of the asked size, 80 by 24 where nothing was asked."""
    return Terminal(columns or 80, rows or 24)
