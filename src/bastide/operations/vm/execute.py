"""A command in a VM, run by its agent and joined to a client by the frames of `operations/execute.py`.

The agent takes a command with the whole of its input and hands out what it wrote when it has ended, 16 MiB of each
stream at most; it has no terminals. Source: QEMU's docs/interop/qemu-ga-ref, guest-exec and guest-exec-status.
"""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from bastide.base.errors import BastideError, DeadlineExceeded, HostFailure, NotSupported, WrongState
from bastide.guest.protocol import Command, Terminal
from bastide.model.guest import Guest, GuestState
from bastide.operations.execute import END, ERRORS, EXIT, HEARTBEAT, INPUT, OUTPUT, PLAIN_ENVIRONMENT, Channel
from bastide.operations.rooms import Rooms
from bastide.operations.vm import agent

INPUT_LIMIT = 8 * 1024 * 1024
"""Bytes of input that a command can get: the agent keeps them in the guest's memory, as text."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25
_PROBE_SECONDS = 5.0
_DEADLINE = 60.0
_PATIENCE = 60.0
_CHUNK = 256 * 1024
_INPUT_PATIENCE = 3.0
_WAITING = b"bastide: the command begins in the VM at the end of its input (exec -n: without any)\n"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command in a VM ended: its exit code (128 and the signal's number for a signal) and what it wrote."""

    code: int
    output: bytes
    errors: bytes
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class AgentCommand:
    """A command that the VM's agent shall run. It begins when `join` has all of its input."""

    rooms: Rooms
    vmid: int
    argv: list[str]

    async def join(self, channel: Channel) -> int | None:
        """Run the command for a client: its input, then its output and its exit code.

        Returns the exit code, or None when the client was gone first; then the command is killed, as far as the guest
        has a program for that. Raises NotSupported for too much input, WrongState, HostFailure, DeadlineExceeded.
        """
        data = await _input(channel)
        if data is None:
            return None
        pid = await agent.execute(self.rooms, self.vmid, self.argv, data or None)
        working = asyncio.create_task(await_end(self.rooms, self.vmid, pid))
        client, heart = asyncio.create_task(_gone(channel)), asyncio.create_task(_heartbeat(channel))
        try:
            await asyncio.wait({working, client, heart}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = working.result() if working.done() and not working.cancelled() else None
            for task in (working, client, heart):
                task.cancel()
            await asyncio.gather(working, client, heart, return_exceptions=True)
            if ended is None:
                with contextlib.suppress(BastideError):
                    await agent.execute(self.rooms, self.vmid, ["kill", "-KILL", str(pid)])
        return None if ended is None else await _deliver(channel, ended)


async def execute(rooms: Rooms, guest: Guest, command: Command, terminal: Terminal | None) -> AgentCommand:
    """A command for a running VM whose agent answers. `uid` and `gid` of the command are the agent's, root's.

    Raises NotSupported for a terminal, WrongState without a running VM or an agent.
    """
    if terminal is not None:
        raise NotSupported(
            f"a terminal is not supported by the guest agent of {guest.title}: give a command without one (exec -T), "
            "or use its console"
        )
    await require_agent(rooms, guest)
    return AgentCommand(rooms, guest.vmid, argv_of(command))


def argv_of(command: Command) -> list[str]:
    """The command as a VM's agent gets it: folder and environment by env(1) of the guest."""
    if command.cwd is None and dict(command.env) == PLAIN_ENVIRONMENT:
        return list(command.argv)  # a guest that is not a Unix has no env
    options = ["-C", command.cwd] if command.cwd is not None else []
    settings = [f"{name}={value}" for name, value in command.env.items()]
    # A program whose name holds an equals sign would be taken for a setting.
    guard = ["/bin/sh", "-c", 'exec "$@"', "sh"] if "=" in command.argv[0] else []
    return ["/usr/bin/env", *options, *settings, *guard, *command.argv]


async def require_agent(rooms: Rooms, guest: Guest) -> None:
    """Raise WrongState, with what to do, unless the VM runs and its agent answers."""
    state = rooms.vms.state(guest.vmid)
    if state is GuestState.STOPPED:
        raise WrongState(f"VM {guest.vmid} not running: start it first")
    if state is GuestState.PAUSED:
        raise WrongState(f"VM {guest.vmid} is not running but paused: resume it first")
    try:
        await agent.ask(rooms, guest.vmid, "guest-ping", deadline=_PROBE_SECONDS)
    except (WrongState, DeadlineExceeded) as error:
        advice = (
            f"set agent=1 for VM {guest.vmid} and start it again"
            if "configured" in str(error)
            else "wait until it has booted, and see that qemu-guest-agent is installed in it"
        )
        raise WrongState(f"{error} in VM {guest.vmid} ({guest.name}): {advice}") from None


async def run(rooms: Rooms, vmid: int, argv: Sequence[str], *, deadline: float = _DEADLINE) -> Ended:
    """Run a short command of ours in a VM. Raises DeadlineExceeded, WrongState, HostFailure."""
    try:
        async with asyncio.timeout(deadline):
            return await await_end(rooms, vmid, await agent.execute(rooms, vmid, argv))
    except TimeoutError:
        raise DeadlineExceeded(f"'{argv[0]}' did not end within {deadline:g} seconds in VM {vmid}") from None


async def await_end(rooms: Rooms, vmid: int, pid: int) -> Ended:
    """Ask again and again, ever more seldom, until the process has ended.

    A guest too busy to answer is asked again for a minute. Raises WrongState, DeadlineExceeded, HostFailure.
    """
    loop = asyncio.get_running_loop()
    pause, answered = _FIRST_PAUSE, loop.time()
    while True:
        try:
            row = await agent.ask(rooms, vmid, "guest-exec-status", {"pid": pid}, deadline=_DEADLINE)
            answered = loop.time()
        except DeadlineExceeded:
            if loop.time() - answered > _PATIENCE:
                raise
            continue
        if not isinstance(row, dict):
            raise HostFailure("the guest agent's answer to guest-exec-status is none")
        if row.get("exited"):
            return _ended(row)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _ended(row: dict[str, object]) -> Ended:
    signal, code = row.get("signal"), row.get("exitcode", 0)
    number = 128 + signal if isinstance(signal, int) else code
    if not isinstance(number, int):
        raise HostFailure("the guest agent's answer to guest-exec-status has no exit code")
    try:
        streams = [base64.b64decode(str(row.get(key, ""))) for key in ("out-data", "err-data")]
    except binascii.Error:
        raise HostFailure("the guest agent's answer to guest-exec-status is not base64") from None
    return Ended(number, streams[0], streams[1], bool(row.get("out-truncated") or row.get("err-truncated")))


async def _input(channel: Channel) -> bytes | None:
    """All that the client sends until the end of its input; None when it is gone before."""
    reading = asyncio.create_task(_read_input(channel))
    try:
        await asyncio.wait({reading}, timeout=_INPUT_PATIENCE)
        if not reading.done():
            with contextlib.suppress(OSError):
                await channel.send(bytes([ERRORS]) + _WAITING)
        return await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read_input(channel: Channel) -> bytes | None:
    data = bytearray()
    while (frame := await channel.receive()) is not None:
        if frame[:1] == bytes([INPUT]):
            data += frame[1:]
        if len(data) > INPUT_LIMIT:
            raise NotSupported(f"more than {INPUT_LIMIT >> 20} MiB of input is not supported in a VM: push a file")
        if frame[:1] == bytes([END]):
            return bytes(data)
    return None


async def _gone(channel: Channel) -> None:
    """Ends when the client is gone."""
    while await channel.receive() is not None:
        pass


async def _heartbeat(channel: Channel) -> None:
    """Ends when the client turns out to be gone."""
    while True:
        await asyncio.sleep(HEARTBEAT)
        try:
            await channel.send(bytes([OUTPUT]))
        except OSError:
            return


async def _deliver(channel: Channel, ended: Ended) -> int | None:
    """Send what the command wrote and its exit code; None when the client is gone."""
    note = b"bastide: the output was longer than the guest agent keeps, and is cut\n" if ended.truncated else b""
    try:
        for stream, data in ((OUTPUT, ended.output), (ERRORS, ended.errors + note)):
            for start in range(0, len(data), _CHUNK):
                await channel.send(bytes([stream]) + data[start : start + _CHUNK])
        await channel.send(bytes([EXIT]) + str(ended.code).encode())
    except OSError:
        return None
    return ended.code
