"""Files into a VM and out of it, through its agent, in pieces: never more than one is in memory.

Source: QEMU's docs/interop/qemu-ga-ref, guest-file-open and what follows it.
"""

import base64
import binascii
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from bastide.base.errors import BastideError, HostFailure, InvalidParameter, NoSpace, NotFound
from bastide.model.guest import Guest
from bastide.operations.files import FileFacts, Writing, stalling
from bastide.operations.rooms import Rooms
from bastide.operations.vm import agent
from bastide.operations.vm.execute import require_agent, run

CHUNK = 512 * 1024

_DEADLINE = 60.0
_WINDOWS = "mswindows"

# Constant texts for the guest's shell; what comes from outside are its arguments. The new file is made beside its place
# and for root alone: one that the agent makes may be written by everybody.
_PREPARE = """\
place=$(readlink -f -- "$1") || exit 3
[ -n "$place" ] || exit 3
[ ! -d "$place" ] || exit 4
[ ! -e "$place" ] || [ -f "$place" ] || exit 5
new=$(umask 077 && mktemp -- "$place.XXXXXX") || exit 6
printf '%s\\0%s\\0' "$new" "$place"
[ ! -e "$place" ] || stat -c '%a %u %g' -- "$place"
"""
_FINISH = 'chown "$3:$4" -- "$1" && chmod "$5" -- "$1" && mv -f -- "$1" "$2"'


@contextlib.asynccontextmanager
async def read_file(rooms: Rooms, guest: Guest, path: str) -> AsyncIterator[tuple[FileFacts, AsyncIterator[bytes]]]:
    """A file of the VM: its size where the agent tells it, and its content in chunks.

    Raises InvalidParameter, NotFound, HostFailure, WrongState without an agent.
    """
    _check(path)
    await require_agent(rooms, guest)
    async with _opened(rooms, guest.vmid, path, "rb") as handle:
        size = await _size(rooms, guest.vmid, handle)
        content = _content(rooms, guest.vmid, handle, size)
        first = await anext(content, b"")  # a folder can be opened, and only reading it fails
        yield FileFacts(size), _joined(first, content)


async def write_file(rooms: Rooms, guest: Guest, path: str, content: AsyncIterator[bytes], new: Writing) -> FileFacts:
    """Write a file in the VM, whole or not at all; its folder must exist. In Windows it is written in its place.

    Raises InvalidParameter, NotFound, NoSpace, HostFailure, WrongState, DeadlineExceeded.
    """
    _check(path)
    await require_agent(rooms, guest)
    system = await agent.ask(rooms, guest.vmid, "guest-get-osinfo")
    if isinstance(system, dict) and system.get("id") == _WINDOWS:
        return FileFacts(await _fill(rooms, guest.vmid, path, content))
    beside, place, before = await _prepare(rooms, guest.vmid, path)
    try:
        size = await _fill(rooms, guest.vmid, beside, content)
        mode = before[0] if new.mode is None else f"{new.mode:o}"
        uid, gid = (before[at] if wanted is None else str(wanted) for at, wanted in ((1, new.uid), (2, new.gid)))
        ended = await run(rooms, guest.vmid, ["/bin/sh", "-c", _FINISH, "sh", beside, place, uid, gid, mode])
        if ended.code:
            raise HostFailure(f"'{path}' could not be written in the guest: {_last_line(ended.errors)}")
    except BaseException:
        with contextlib.suppress(BastideError):
            await run(rooms, guest.vmid, ["rm", "-f", "--", beside])
        raise
    return FileFacts(size, f"{int(mode, 8):04o}", int(uid), int(gid))


async def _prepare(rooms: Rooms, vmid: int, path: str) -> tuple[str, str, list[str]]:
    """A new file, the place that it shall have, and the mode in octal, uid and gid of what is there or shall be."""
    ended = await run(rooms, vmid, ["/bin/sh", "-c", _PREPARE, "sh", path])
    refusals: dict[int, BastideError] = {
        3: NotFound(f"the folder of '{path}' does not exist in the guest"),
        4: HostFailure(f"'{path}' in the guest is a folder"),
        5: HostFailure(f"'{path}' in the guest is not a plain file"),
    }
    if ended.code in refusals:
        raise refusals[ended.code]
    parts = ended.output.decode(errors="surrogateescape").split("\0")
    if ended.code or len(parts) != 3:
        raise HostFailure(f"'{path}' could not be written in the guest: {_last_line(ended.errors)}")
    before = parts[2].split()
    if len(before) != 3 or not all(text.isdecimal() and text.isascii() for text in before):
        before = ["644", "0", "0"]
    return parts[0], parts[1], before


async def _fill(rooms: Rooms, vmid: int, path: str, content: AsyncIterator[bytes]) -> int:
    """Write what comes into a file; how many bytes."""
    size = 0
    async with _opened(rooms, vmid, path, "wb") as handle:
        async for data in stalling(content):
            for start in range(0, len(data), CHUNK):
                await _write(rooms, vmid, handle, data[start : start + CHUNK])
            size += len(data)
        await agent.ask(rooms, vmid, "guest-file-flush", {"handle": handle}, deadline=_DEADLINE)
    return size


async def _write(rooms: Rooms, vmid: int, handle: int, data: bytes) -> None:
    while data:
        arguments = {"handle": handle, "buf-b64": base64.b64encode(data).decode()}
        try:
            count = _number(await agent.ask(rooms, vmid, "guest-file-write", arguments, deadline=_DEADLINE), "count")
        except HostFailure as error:
            if "no space left" in str(error).lower():
                raise NoSpace("no space left in the guest") from None
            raise
        if not 0 < count <= len(data):
            raise HostFailure(f"the guest agent wrote {count} of {len(data)} bytes")
        data = data[count:]


async def _content(rooms: Rooms, vmid: int, handle: int, size: int | None) -> AsyncIterator[bytes]:
    left = size
    while left is None or left > 0:
        arguments = {"handle": handle, "count": CHUNK if left is None else min(CHUNK, left)}
        row = await agent.ask(rooms, vmid, "guest-file-read", arguments, deadline=_DEADLINE)
        data = _bytes(row)
        if not data:
            if left is not None:
                raise HostFailure("the file became shorter while it was read")
            return
        if left is not None:
            data = data[:left]
            left -= len(data)
        yield data


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for data in rest:
        yield data


async def _size(rooms: Rooms, vmid: int, handle: int) -> int | None:
    """Where the file ends; None where that does not tell its size, as in /proc."""
    try:
        end = await agent.ask(rooms, vmid, "guest-file-seek", {"handle": handle, "offset": 0, "whence": "end"})
        await agent.ask(rooms, vmid, "guest-file-seek", {"handle": handle, "offset": 0, "whence": "set"})
        return _number(end, "position") or None
    except HostFailure:
        return None


@contextlib.asynccontextmanager
async def _opened(rooms: Rooms, vmid: int, path: str, mode: str) -> AsyncIterator[int]:
    try:
        handle = await agent.ask(rooms, vmid, "guest-file-open", {"path": path, "mode": mode})
    except HostFailure as error:
        if "no such file" in str(error).lower():
            raise NotFound(f"'{path}' does not exist in the guest") from None
        raise
    if not isinstance(handle, int):
        raise HostFailure("the guest agent's answer to guest-file-open is none")
    try:
        yield handle
    finally:
        with contextlib.suppress(BastideError):
            await agent.ask(rooms, vmid, "guest-file-close", {"handle": handle})


def _check(path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise InvalidParameter({"path": f"'{path[:80]}' is not an absolute path"})


def _number(row: Any, key: str) -> int:
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, int):
        raise HostFailure(f"the guest agent's answer has no '{key}'")
    return value


def _bytes(row: Any) -> bytes:
    try:
        return base64.b64decode(str(row.get("buf-b64", "")) if isinstance(row, dict) else "")
    except binascii.Error:
        raise HostFailure("the guest agent's answer to guest-file-read is not base64") from None


def _last_line(errors: bytes) -> str:
    return (errors.decode(errors="replace").strip().splitlines() or ["no reason"])[-1][:200]
