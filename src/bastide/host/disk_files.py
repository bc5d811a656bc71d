"""Looking into the file systems on disk images, which no kernel of this host ever mounts: a guest has written them.

GRUB's drivers run as a program, grub-fstest(1), in the sandbox: ext4, XFS, Btrfs, NTFS, FAT, ISO 9660 and others, on
partitions, LVM and md. They read only, know neither owners nor modes, and follow a link only inside its file system.
"""

import asyncio
import contextlib
import re
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bastide.base.errors import HostFailure, NotFound
from bastide.base.units import GIB, MIB
from bastide.host.run import kill_group, last_words, run, spawn
from bastide.host.sandbox import Bounds, sandboxed

_PROGRAM = "/usr/bin/grub-fstest"
_DEADLINE = 120.0
_BOUNDS = Bounds(memory=2 * GIB, seconds=3600)
_PART = MIB
_DEVICE = re.compile(r"\s*(?:Device|Partition) (\S+): Filesystem type ([a-z0-9]+)", re.ASCII)
_ENTRY = re.compile(r"(DIR|\d+) +(\d{14})? *(.+)", re.ASCII)
# What GRUB takes for a file system and no guest has written: this host's own.
_NOT_THEIRS = ("host", "proc")


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system that was found: GRUB's name of its device (`loop0,gpt2`, `lvm/vg-root`) and its type (`xfs`).

    The images are `loop0`, `loop1` ... in their order.
    """

    device: str
    type: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder holds: a folder (`d`) or a file (`f`, also a link to one); `mtime` in seconds since the epoch."""

    name: str
    kind: Literal["d", "f"]
    size: int | None
    mtime: int | None


async def file_systems(images: Sequence[int]) -> list[FileSystem]:
    """The file systems on raw images, open descriptors that belong to one machine. Raises HostFailure."""
    found = []
    for line in (await _ask(images, "ls", "-l")).splitlines():
        match = _DEVICE.match(line)
        if match is not None and match[1] not in _NOT_THEIRS:
            found.append(FileSystem(match[1], match[2]))
    return found


async def entries(images: Sequence[int], device: str, path: str) -> list[Entry]:
    """What a folder of a file system holds, by name; `path` is absolute in it. Raises NotFound, HostFailure."""
    text = await _ask(images, "ls", "-la", f"({device}){path.rstrip('/')}/")
    # It is silent about what is not there.
    if not text.strip() and path.strip("/"):
        raise NotFound(f"folder '{path[:500]}' does not exist in this backup")
    found = []
    for line in text.splitlines():
        match = _ENTRY.fullmatch(line)
        if match is None:
            continue
        folder = match[1] == "DIR"
        name = match[3].removesuffix("/") if folder else match[3]
        if name not in (".", ".."):
            size = None if folder else int(match[1])
            found.append(Entry(name, "d" if folder else "f", size, _seconds(match[2])))
    return sorted(found, key=lambda entry: entry.name)


async def content(images: Sequence[int], device: str, path: str) -> AsyncIterator[bytes]:
    """A file's content, part by part. Raises NotFound before the first part, HostFailure."""
    argv = [*_argv(images), "cat", f"({device}){path}"]
    process = await spawn(sandboxed(argv, _given(images), _BOUNDS), stdout=PIPE, stderr=PIPE, pass_fds=list(images))
    assert process.stdout is not None  # noqa: S101 - asked for
    errors = asyncio.create_task(last_words(process))
    try:
        while part := await process.stdout.read(_PART):
            yield part
        code = await process.wait()
        if code != 0:
            words = _words(await errors)
            kind = NotFound if "not found" in words or "not a regular file" in words else HostFailure
            raise kind(f"cannot read '{path[:500]}': {words}")
    finally:
        errors.cancel()
        if process.returncode is None:
            await asyncio.shield(kill_group(process))


async def _ask(images: Sequence[int], *command: str) -> str:
    argv = sandboxed([*_argv(images), *command], _given(images), _BOUNDS)
    return (await run(argv, deadline=_DEADLINE, pass_fds=list(images))).text


def _argv(images: Sequence[int]) -> list[str]:
    return [_PROGRAM, "-c", str(len(images)), *(f"/{number}" for number in range(len(images))), "--"]


def _given(images: Sequence[int]) -> list[tuple[int, bool]]:
    return [(descriptor, False) for descriptor in images]


def _seconds(stamp: str | None) -> int | None:
    if stamp is None:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        return int(time.mktime(time.strptime(stamp, "%Y%m%d%H%M%S")))
    return None


def _words(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].rpartition(": ")[2].strip(". ") if lines else "it cannot be read"
