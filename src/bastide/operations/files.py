"""Files into a container and out of it, through its own root: a link of the guest's leads nowhere else.

A running guest's files are seen as its first process sees them, with everything mounted; a stopped guest's on its root
volume, under the guest's lock. A VM's agent reads and writes its files: `operations/vm/files.py`.
"""

import asyncio
import contextlib
import json
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from bastide.base.errors import (
    BastideError,
    DeadlineExceeded,
    HostFailure,
    InvalidParameter,
    NoSpace,
    NotFound,
    WrongState,
)
from bastide.host import attached, guestroot
from bastide.model.guest import Guest, GuestState
from bastide.operations.ct import plan
from bastide.operations.rooms import Rooms

CHUNK = 256 * 1024
STALL = 60.0
"""Seconds without a byte after which a transfer is broken off."""

_LINE_LIMIT = 64 * 1024
_ERRORS: dict[str, type[BastideError]] = {
    "NotFound": NotFound,
    "NoSpace": NoSpace,
    "WrongState": WrongState,
    "HostFailure": HostFailure,
}


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file in a guest: bytes, mode in octal, the guest's own ids of its owner; None is what nobody tells."""

    size: int | None
    mode: str | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class Writing:
    """What a new file shall be; None keeps what a replaced file had, or is 0644 and root's. `size` is in bytes."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None


@contextlib.asynccontextmanager
async def read_file(rooms: Rooms, guest: Guest, path: str) -> AsyncIterator[tuple[FileFacts, AsyncIterator[bytes]]]:
    """A file of the guest: its facts, and its content in chunks. Raises NotFound, HostFailure, WrongState."""
    async with _root(rooms, guest, path) as root:
        process = await root.spawn("read", [path])
        try:
            facts = _facts(await _line(process))
            yield facts, _content(process, facts.size or 0)
        finally:
            await _end(process)


async def write_file(rooms: Rooms, guest: Guest, path: str, content: AsyncIterator[bytes], new: Writing) -> FileFacts:
    """Write a file in the guest, whole or not at all. Its folder must exist.

    Raises NotFound, NoSpace, HostFailure, WrongState, DeadlineExceeded when nothing comes for a minute.
    """
    mode = None if new.mode is None else f"{new.mode:o}"
    options = ["-" if value is None else str(value) for value in (mode, new.uid, new.gid, new.size)]
    async with _root(rooms, guest, path) as root:
        process = await root.spawn("write", [path, *options])
        try:
            with contextlib.suppress(OSError):  # it refused: its answer says why
                await _feed(process, content)
            return _facts(await _line(process))
        finally:
            await _end(process)


async def _feed(process: Process, content: AsyncIterator[bytes]) -> None:
    if process.stdin is None:
        raise RuntimeError("the helper has no input")
    async for data in stalling(content):
        view = memoryview(data)
        while view:
            part, view = view[:CHUNK], view[CHUNK:]
            process.stdin.write(len(part).to_bytes(4, "big") + part)
            await process.stdin.drain()
    process.stdin.write(bytes(4))
    await process.stdin.drain()


async def stalling(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same content. Raises DeadlineExceeded when nothing comes for a minute."""
    while True:
        try:
            async with asyncio.timeout(STALL):
                data = await anext(content, None)
        except TimeoutError:
            raise DeadlineExceeded(f"nothing came for {STALL:g} seconds: the transfer was broken off") from None
        if data is None:
            return
        yield data


async def _content(process: Process, size: int) -> AsyncIterator[bytes]:
    if process.stdout is None:
        raise RuntimeError("the helper has no output")
    left = size
    while left:
        data = await process.stdout.read(min(CHUNK, left))
        if not data:
            raise HostFailure("the file became shorter while it was read")
        left -= len(data)
        yield data


async def _line(process: Process) -> dict[str, Any]:
    """The helper's line of JSON. Raises the error it tells."""
    if process.stdout is None:
        raise RuntimeError("the helper has no output")
    try:
        async with asyncio.timeout(STALL):
            line = await process.stdout.readline()
    except TimeoutError:
        raise DeadlineExceeded("the guest's file system does not answer") from None
    if not line.endswith(b"\n"):
        problem = await process.stderr.read(_LINE_LIMIT) if process.stderr else b""
        last = problem.decode(errors="replace").strip().splitlines()[-1:]
        raise HostFailure(f"the file could not be transferred: {''.join(last) or 'the helper ended'}")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise _ERRORS.get(str(answer["error"]), HostFailure)(str(answer["message"]))
    return answer


def _facts(answer: dict[str, Any]) -> FileFacts:
    return FileFacts(answer["size"], answer["mode"], answer["uid"], answer["gid"])


async def _end(process: Process) -> None:
    """Let the helper end by itself, which removes what it had not finished; or make it."""
    try:
        async with asyncio.timeout(5):
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
            await attached.exit_code(process)
    except TimeoutError:
        pass
    finally:
        attached.let_go(process)


@contextlib.asynccontextmanager
async def _root(rooms: Rooms, guest: Guest, path: str) -> AsyncIterator[guestroot.Root]:
    """The guest's root for as long as the block lasts. Raises InvalidParameter, WrongState, Locked."""
    if not path.startswith("/") or "\0" in path:
        raise InvalidParameter({"path": f"'{path[:80]}' is not an absolute path"})
    pid = rooms.containers.init_pid(guest.vmid)
    if pid is not None:
        with contextlib.closing(guestroot.of_process(pid)) as root:
            if rooms.containers.init_pid(guest.vmid) != pid:
                raise WrongState(f"CT {guest.vmid} was just stopped: try again")
            yield root
        return
    async with rooms.locks.hold(guest.vmid, "a file transfer", "file"):
        if rooms.containers.state(guest.vmid) is not GuestState.STOPPED:
            raise WrongState(f"CT {guest.vmid} was just started: try again")
        for key, value in guest.config.items():
            place = dict(part.partition("=")[::2] for part in str(value).split(",")).get("mp")
            if key.startswith("mp") and place and f"{path}/".startswith(f"{place}/"):
                raise WrongState(f"{place} is a volume of its own: start CT {guest.vmid} first")
        volume = str(guest.config.get("rootfs", "")).partition(",")[0].removeprefix("volume=")
        folder = await plan.activate(rooms, volume, guest.first_id)
        try:
            with contextlib.closing(guestroot.of_folder(folder)) as root:
                yield root
        finally:
            await plan.deactivate(rooms, guest)
