"""Commands of ours in a guest of either kind: a container's attach and a VM's agent, told the same way.

Standard input carries what is secret or long: an argument list is seen by everybody on the host.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bastide.base.errors import DeadlineExceeded, HostFailure, RunError
from bastide.guest.protocol import Command
from bastide.model.guest import Guest
from bastide.operations import execute, files
from bastide.operations.execute import END, ERRORS, INPUT, OUTPUT
from bastide.operations.rooms import Rooms
from bastide.operations.vm import execute as vm_execute
from bastide.operations.vm import files as vm_files

Line = Callable[[str], None]

KEPT = 256 * 1024
"""Bytes of each stream that are kept: the last ones."""

_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code (128 and the number for a signal), and the end of what it wrote."""

    code: int
    output: str
    errors: str


@dataclass(slots=True)
class _Channel:
    """The client's side of a command that gets all its input at once; lines of output go to `line` as they end."""

    data: bytes
    line: Line | None
    kept: dict[int, bytearray] = field(default_factory=lambda: {OUTPUT: bytearray(), ERRORS: bytearray()})
    unfinished: dict[int, bytes] = field(default_factory=dict)
    at: int = 0
    ended: bool = False

    async def receive(self) -> bytes | None:
        if self.at < len(self.data):
            part = self.data[self.at : self.at + _CHUNK]
            self.at += len(part)
            return bytes([INPUT]) + part
        if not self.ended:
            self.ended = True
            return bytes([END])
        await asyncio.Event().wait()  # None would say that the client is gone
        return None

    async def send(self, frame: bytes) -> None:
        kept = self.kept.get(frame[0]) if frame else None
        if kept is None:
            return
        kept += frame[1:]
        del kept[:-KEPT]
        if self.line is not None:
            *lines, rest = (self.unfinished.get(frame[0], b"") + frame[1:]).split(b"\n")
            self.unfinished[frame[0]] = rest[-KEPT:]
            for text in lines:
                self._tell(text)

    def finish(self) -> None:
        for rest in self.unfinished.values():
            self._tell(rest)
        self.unfinished.clear()

    def _tell(self, text: bytes) -> None:
        if self.line is not None and text.strip():
            self.line(text.decode(errors="replace").rstrip())


async def run(
    rooms: Rooms,
    guest: Guest,
    argv: Sequence[str],
    *,
    data: bytes = b"",
    env: Mapping[str, str] | None = None,
    deadline: float = 60,
    line: Line | None = None,
    check: bool = True,
) -> Ended:
    """Run a command in a running guest as its root, to its end, at most `deadline` seconds.

    `data` is its standard input; `env` is seen on the host and so holds nothing secret. `line` gets each line of output
    (of a VM: when the command has ended). Raises RunError when it fails and `check` is set, DeadlineExceeded (it is
    killed), WrongState when the guest does not run or its agent does not answer, HostFailure.
    """
    command = Command(list(argv), {**execute.PLAIN_ENVIRONMENT, **(env or {})})
    channel = _Channel(data, line)
    try:
        async with asyncio.timeout(deadline):
            code = await _join(rooms, guest, command, channel)
    except TimeoutError:
        raise DeadlineExceeded(f"'{argv[0]}' did not end within {deadline:g} seconds in {guest.title}") from None
    finally:
        channel.finish()
    if code is None:
        raise HostFailure(f"'{argv[0]}' was lost in {guest.title}")
    output, errors = (channel.kept[stream].decode(errors="replace") for stream in (OUTPUT, ERRORS))
    if check and code != 0:
        raise RunError(argv, code, errors or output)
    return Ended(code, output, errors)


async def _join(rooms: Rooms, guest: Guest, command: Command, channel: _Channel) -> int | None:
    if guest.kind == "qemu":
        return await (await vm_execute.execute(rooms, guest, command, None)).join(channel)
    session = await execute.execute(rooms, guest, command, None)
    try:
        return await execute.join(session, channel)
    finally:
        session.close()


async def script(
    rooms: Rooms, guest: Guest, text: str, *arguments: str, deadline: float = 60, line: Line | None = None
) -> Ended:
    """Run a shell script in the guest, `sh -eu` with the text on its standard input. Raises as `run`."""
    # A script that a program in it could read on would be cut short: it is read whole, then its input is empty.
    whole = f"{{\n{text}\n}} </dev/null\n"
    argv = ["/bin/sh", "-eu", "-s", "--", *arguments]
    return await run(rooms, guest, argv, data=whole.encode(), deadline=deadline, line=line)


async def write(rooms: Rooms, guest: Guest, path: str, text: str, mode: int) -> None:
    """Write a file of root's in the guest, with the folders above it. Raises HostFailure, NoSpace, WrongState."""
    folder = path.rpartition("/")[0]
    if folder:
        await run(rooms, guest, ["mkdir", "-p", "--", folder])
    new = files.Writing(mode, 0, 0)
    if guest.kind == "qemu":
        await vm_files.write_file(rooms, guest, path, _once(text), new)
    else:
        await files.write_file(rooms, guest, path, _once(text), new)


async def _once(text: str) -> AsyncIterator[bytes]:
    yield text.encode()
