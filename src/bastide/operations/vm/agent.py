"""What a VM's agent is asked: commands, files, and keeping its file systems still."""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from bastide.base.errors import BastideError, DeadlineExceeded, HostFailure, InvalidParameter, WrongState
from bastide.model.guest import GuestState
from bastide.model.vm import VmConfig
from bastide.operations.rooms import Rooms

_READ_LIMIT = 16 * 1024 * 1024
_READ_CHUNK = 1024 * 1024
_FREEZE_SECONDS = 60.0
_THAW_SECONDS = 10.0
_thaws: dict[int, asyncio.Task[None]] = {}
"""Freezes that end by themselves, by vmid. A daemon that died is followed by one that thaws (see `thaw_forgotten`)."""


async def ask(
    rooms: Rooms, vmid: int, command: str, arguments: Mapping[str, Any] | None = None, *, deadline: float = 10
) -> Any:
    """One answer of the agent. Raises WrongState in Proxmox's words without one, DeadlineExceeded, HostFailure."""
    guest = await rooms.guests.get(vmid, "qemu")
    if rooms.vms.state(vmid) is GuestState.STOPPED:
        raise WrongState(f"VM {vmid} is not running")
    if not VmConfig.parse(guest.config).agent_enabled:
        raise WrongState("No QEMU guest agent configured")
    return await rooms.vms.ask(vmid, command, arguments, deadline=deadline)


async def tell(rooms: Rooms, vmid: int, command: str, *, deadline: float = 5) -> None:
    """A command that the agent does not answer when it works: shutdown, suspend. Raises as `ask` without an agent."""
    await ask(rooms, vmid, "guest-ping")
    with contextlib.suppress(DeadlineExceeded, WrongState):
        await ask(rooms, vmid, command, deadline=deadline)


async def execute(rooms: Rooms, vmid: int, argv: Sequence[str], data: bytes | None = None) -> int:
    """Start a program in the guest with `data` as its input; the guest's process id."""
    if not argv:
        raise InvalidParameter({"command": "property is missing and it is not optional"})
    arguments: dict[str, Any] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    if data is not None:
        arguments["input-data"] = base64.b64encode(data).decode()
    started = await ask(rooms, vmid, "guest-exec", arguments)
    pid = started.get("pid") if isinstance(started, dict) else None
    if not isinstance(pid, int):
        raise HostFailure("the guest agent's answer to guest-exec has no process id")
    return pid


async def execute_status(rooms: Rooms, vmid: int, pid: int) -> dict[str, Any]:
    """What became of a program: `exited`, `exitcode` or `signal`, `out-data`, `err-data` as text."""
    found = await ask(rooms, vmid, "guest-exec-status", {"pid": pid})
    row: dict[str, Any] = {"exited": int(bool(found.get("exited")))}
    row |= {key: found[key] for key in ("exitcode", "signal") if key in found}
    for key in ("out-data", "err-data"):
        if key in found:
            row[key] = _decoded(found[key]).decode(errors="replace")
        if found.get(key.replace("data", "truncated")):
            row[key.replace("data", "truncated")] = 1
    return row


async def read_file(rooms: Rooms, vmid: int, path: str, *, offset: int = 0, count: int = _READ_LIMIT) -> dict[str, Any]:
    """`count` bytes of a file in the guest from `offset` on: `content` (as Latin-1), `bytes-read`, `truncated`."""
    handle = await ask(rooms, vmid, "guest-file-open", {"path": path, "mode": "rb"})
    content = bytearray()
    ended = False
    try:
        if offset:
            await ask(rooms, vmid, "guest-file-seek", {"handle": handle, "offset": offset, "whence": "set"})
        while not ended and len(content) < count:
            wanted = min(_READ_CHUNK, count - len(content))
            chunk = await ask(rooms, vmid, "guest-file-read", {"handle": handle, "count": wanted})
            data = _decoded(chunk.get("buf-b64", ""))
            content += data
            ended = bool(chunk.get("eof")) or not data
    finally:
        with contextlib.suppress(BastideError):
            await ask(rooms, vmid, "guest-file-close", {"handle": handle})
    row: dict[str, Any] = {"content": bytes(content).decode("latin-1"), "bytes-read": len(content)}
    return row if ended else {**row, "truncated": 1}


async def write_file(rooms: Rooms, vmid: int, path: str, content: bytes) -> None:
    """Write a file in the guest, replacing what it held."""
    handle = await ask(rooms, vmid, "guest-file-open", {"path": path, "mode": "wb"})
    try:
        data = base64.b64encode(content).decode()
        written = await ask(rooms, vmid, "guest-file-write", {"handle": handle, "buf-b64": data})
        if written.get("count") != len(content):
            raise HostFailure(f"the agent wrote {written.get('count')} of {len(content)} bytes to '{path[:100]}'")
    finally:
        with contextlib.suppress(BastideError):
            await ask(rooms, vmid, "guest-file-close", {"handle": handle})


async def freeze(rooms: Rooms, vmid: int, *, deadline: float = _FREEZE_SECONDS) -> int:
    """Still the guest's file systems; how many. They are thawed after `deadline` seconds in any case."""
    _forget_thaw(vmid)
    await rooms.store.put(f"frozen/{vmid}", "", await _revision(rooms, vmid))
    try:
        count = int(await ask(rooms, vmid, "guest-fsfreeze-freeze", deadline=deadline))
    except BaseException:
        # A late agent may freeze after we gave up on it. Whoever asked does not wait for it.
        _thaws[vmid] = asyncio.create_task(_thaw_later(rooms, vmid, 0))
        raise
    _thaws[vmid] = asyncio.create_task(_thaw_later(rooms, vmid, deadline))
    return count


async def thaw(rooms: Rooms, vmid: int) -> int:
    """Let the guest's file systems go on; how many were frozen."""
    _forget_thaw(vmid)
    try:
        count = int(await ask(rooms, vmid, "guest-fsfreeze-thaw"))
    except BaseException:
        if await rooms.store.get(f"frozen/{vmid}") is not None:
            _thaws[vmid] = asyncio.create_task(_thaw_later(rooms, vmid, 0))
        raise
    await rooms.store.delete(f"frozen/{vmid}")
    return count


async def freeze_status(rooms: Rooms, vmid: int) -> str:
    """`frozen` or `thawed`."""
    return str(await ask(rooms, vmid, "guest-fsfreeze-status"))


async def set_password(rooms: Rooms, vmid: int, username: str, password: str, *, crypted: bool = False) -> None:
    """Set a user's password in the guest."""
    data = base64.b64encode(password.encode()).decode()
    await ask(rooms, vmid, "guest-set-user-password", {"username": username, "password": data, "crypted": crypted})


async def thaw_forgotten(rooms: Rooms) -> None:
    """Thaw the guests that a daemon froze which ended before it thawed them."""
    for entry in await rooms.store.list("frozen/"):
        vmid = int(entry.key.rpartition("/")[2])
        _thaws[vmid] = asyncio.create_task(_thaw_later(rooms, vmid, 0))


async def _thaw_later(rooms: Rooms, vmid: int, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await _thaw_surely(rooms, vmid)


async def _thaw_surely(rooms: Rooms, vmid: int) -> None:
    """Thaw, trying again until the agent says so or the guest is gone."""
    while rooms.vms.state(vmid) is not GuestState.STOPPED:
        try:
            await rooms.vms.ask(vmid, "guest-fsfreeze-thaw", deadline=_THAW_SECONDS)
            break
        except WrongState:
            break
        except BastideError:
            await asyncio.sleep(1)
    await rooms.store.delete(f"frozen/{vmid}")


def _forget_thaw(vmid: int) -> None:
    task = _thaws.pop(vmid, None)
    if task is not None:
        task.cancel()


async def _revision(rooms: Rooms, vmid: int) -> int:
    entry = await rooms.store.get(f"frozen/{vmid}")
    return 0 if entry is None else entry.revision


def _decoded(text: object) -> bytes:
    """Base64 as the agent sends it. Raises HostFailure when it is none."""
    try:
        return base64.b64decode(str(text), validate=False)
    except binascii.Error:
        raise HostFailure("the agent's answer is not base64") from None
