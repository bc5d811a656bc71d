"""ZFS datasets: the command lines of zfs(8) and what it lists.

Sources: zfs-list(8), zfs-create(8), zfs-clone(8), zfs-send(8), zfs-receive(8), zfsprops(7), mount.zfs(8).
"""

import asyncio
import os
import stat
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bastide.base.errors import AlreadyExists, BastideError, HostFailure, NoSpace, NotFound, RunError, WrongState
from bastide.host.filesystems import translated
from bastide.host.run import Runner, finished, kill_group, run, spawn

_FIELDS = "name,type,volsize,refquota,used,referenced,origin,creation"
_DEADLINE = 24 * 3600.0
_DEVICE_SECONDS = 10.0
_STDERR_LIMIT = 16 * 1024
# What Linux's containers need (zfsprops(7)): access lists, and extended attributes that cost no file of their own. It
# is mounted by us alone, below a folder that the host's users cannot pass.
_FILE_SYSTEM = ("canmount=noauto", "acltype=posixacl", "xattr=sa")


class Stream(Protocol):
    """What `piped` is; tests give one that answers from memory."""

    async def __call__(self, source: Sequence[str], target: Sequence[str]) -> None:
        """Run two tools, the second on the first one's output."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A line of `zfs list` in bytes and seconds since the epoch: a volume of `size`, or files with a quota of `size`.

    `referenced` is what it holds itself, `used` that with its snapshots; `origin` is a `POOL/NAME@SNAPSHOT`.
    """

    name: str
    is_volume: bool
    size: int
    used: int
    referenced: int
    origin: str | None
    created: int


def parse_datasets(text: str) -> list[Dataset]:
    """Read `zfs list -H -p` of our columns. Raises HostFailure."""
    found = []
    for line in text.splitlines():
        try:
            name, kind, volsize, refquota, used, referenced, origin, created = line.split("\t")
            found.append(
                Dataset(
                    name=name,
                    is_volume=kind == "volume",
                    size=_number(volsize if kind == "volume" else refquota),
                    used=_number(used),
                    referenced=_number(referenced),
                    origin=None if origin == "-" else origin,
                    created=_number(created),
                )
            )
        except ValueError:
            raise HostFailure(f"zfs list could not be understood: {line[:200]!r}") from None
    return found


class Zfs:
    """The datasets right below one. Their names are checked by the caller."""

    def __init__(
        self, pool: str, run: Runner = run, devices: Path = Path("/dev"), stream: Stream | None = None
    ) -> None:
        self.pool = pool
        self._run = run
        self._devices = devices
        self._stream = stream or piped

    async def space(self) -> tuple[int, int]:
        """Bytes used and free. Raises NotFound."""
        text = await self._query("list", "-H", "-p", "-o", "used,available", self.pool)
        try:
            used, free = (_number(word) for word in text.split())
        except ValueError:
            raise HostFailure(f"zfs list could not be understood: {text[:200]!r}") from None
        return used, free

    async def datasets(self) -> Sequence[Dataset]:
        """What lies right below, by its last name. Raises NotFound."""
        text = await self._query("list", "-H", "-p", "-r", "-d", "1", "-t", "filesystem,volume", "-o", _FIELDS,
                                 self.pool)  # fmt: skip
        found = []
        for entry in parse_datasets(text):
            place, _, name = entry.name.rpartition("/")
            if place == self.pool:
                found.append(Dataset(name, entry.is_volume, entry.size, entry.used, entry.referenced, entry.origin,
                                     entry.created))  # fmt: skip
        return found

    async def create_volume(self, name: str, size: int, block: str | None = None, *, sparse: bool = False) -> None:
        """Make a volume; without `sparse` its room is kept for it. Raises AlreadyExists, NoSpace."""
        kind = [*(["-s"] if sparse else []), *(["-b", block] if block is not None else []), "-V", str(size)]
        await self._change("create", *kind, self._place(name))

    async def create_files(self, name: str, quota: int) -> None:
        """Make a file system for a container, that can hold `quota` bytes (0: no limit). Raises AlreadyExists."""
        await self._change("create", *_properties(files(quota)), self._place(name))

    async def clone(self, source: str, snapshot: str, name: str, properties: Sequence[str] = ()) -> None:
        """Make a dataset that builds on a snapshot. Raises AlreadyExists, NotFound."""
        await self._change("clone", *_properties(properties), self._place(source, snapshot), self._place(name))

    async def copy(self, source: str, snapshot: str, name: str, properties: Sequence[str] = ()) -> None:
        """Make a dataset of the content of a snapshot, which it gets as well. Raises HostFailure."""
        send = ["zfs", "send", "--", self._place(source, snapshot)]
        await self._stream(send, ["zfs", "receive", "-u", *_properties(properties), "--", self._place(name)])

    async def set(self, name: str, setting: str) -> None:
        """Set `property=value`. Raises NoSpace, NotFound."""
        await self._change("set", setting, self._place(name))

    async def rename(self, old: str, new: str) -> None:
        """Give a dataset another name. Raises AlreadyExists, NotFound."""
        await self._change("rename", self._place(old), self._place(new))

    async def destroy(self, name: str) -> None:
        """Remove a dataset with its snapshots. Raises WrongState when it is in use, NotFound."""
        await self._change("destroy", "-r", self._place(name))

    async def snapshot(self, name: str, snapshot: str) -> None:
        """Keep its state. Raises AlreadyExists."""
        await self._change("snapshot", self._place(name, snapshot))

    async def rollback(self, name: str, snapshot: str) -> None:
        """Go back to the newest snapshot. Raises WrongState when another is newer, NotFound."""
        await self._change("rollback", self._place(name, snapshot))

    async def destroy_snapshot(self, name: str, snapshot: str) -> None:
        """Forget a snapshot. Raises WrongState when a clone builds on it, NotFound."""
        await self._change("destroy", self._place(name, snapshot))

    async def snapshots(self, name: str) -> Sequence[str]:
        """All its snapshots, oldest first; of what is not there, none."""
        argv = ("list", "-H", "-p", "-r", "-d", "1", "-t", "snapshot", "-o", "name", "-s", "createtxg")
        try:
            text = await self._query(*argv, self._place(name))
        except NotFound:
            return []
        return [line.rpartition("@")[2] for line in text.splitlines() if "@" in line]

    async def device(self, name: str, snapshot: str | None = None) -> Path:
        """The device of a volume, once udev has made it. Raises HostFailure when it does not."""
        if snapshot is not None:
            await self.set(name, "snapdev=visible")
        link = self._devices / "zvol" / self._place(name, snapshot)
        deadline = asyncio.get_running_loop().time() + _DEVICE_SECONDS
        while not link.exists():
            if asyncio.get_running_loop().time() > deadline:
                raise HostFailure(f"{link} did not appear within {_DEVICE_SECONDS:g} seconds")
            await asyncio.sleep(0.05)
        with translated(f"open the device of '{self._place(name)}'"):
            path = Path(os.path.realpath(link, strict=True))
            if self._devices == Path("/dev") and not (path.match("/dev/zd*") and stat.S_ISBLK(path.lstat().st_mode)):
                raise HostFailure(f"{link} is not the device of a volume")
        return path

    async def mount(self, name: str, target: Path, *, read_only: bool = False, snapshot: str | None = None) -> None:
        """Mount a file system on a folder, whatever its own mount point is, or a snapshot of it, to be read.

        Device nodes in it are none.
        """
        # mount.zfs(8) takes `zfsutil` for what has a mount point of its own alone.
        options = "nodev,ro" if snapshot is not None else "nodev,zfsutil" + (",ro" if read_only else "")
        await self._run(["mount", "-t", "zfs", "-o", options, "--", self._place(name, snapshot), str(target)])

    def _place(self, name: str, snapshot: str | None = None) -> str:
        return f"{self.pool}/{name}" if snapshot is None else f"{self.pool}/{name}@{snapshot}"

    async def _query(self, *argv: str) -> str:
        try:
            return (await self._run(["zfs", *argv])).text
        except RunError as error:
            raise _explain(error) from error

    async def _change(self, *argv: str) -> None:
        try:
            await finished(self._run(["zfs", *argv], deadline=_DEADLINE))
        except RunError as error:
            raise _explain(error) from error


async def piped(source: Sequence[str], target: Sequence[str]) -> None:
    """Run two tools, the second on the first one's output. Raises RunError of the one that failed, DeadlineExceeded."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        first = await spawn(source, stdout=writer, stderr=PIPE)
        try:
            os.close(writer)
            writer = -1
            second = await spawn(target, stdin=reader, stderr=PIPE)
        except BaseException:
            await kill_group(first)
            raise
    finally:
        for descriptor in (reader, writer):
            if descriptor >= 0:
                os.close(descriptor)
    try:
        async with asyncio.timeout(_DEADLINE):
            said = await asyncio.gather(first.communicate(), second.communicate())
    finally:
        for process in (first, second):
            if process.returncode is None:
                await asyncio.shield(kill_group(process))
    for argv, process, (_, text) in zip((source, target), (first, second), said, strict=True):
        if process.returncode:
            error = RunError(list(argv), process.returncode, text[-_STDERR_LIMIT:].decode(errors="replace"))
            raise _explain(error) from error


def files(quota: int) -> tuple[str, ...]:
    """The properties of a file system for a container that can hold `quota` bytes."""
    return (*_FILE_SYSTEM, f"refquota={quota or 'none'}")


def _properties(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("-o", setting)]


def _number(text: str) -> int:
    return 0 if text in ("-", "none") else int(text)


def _explain(error: RunError) -> BastideError:
    text, said = error.stderr.lower(), str(error).rpartition("failed with exit code")[2].partition(": ")[2]
    if "out of space" in text or "no space" in text:
        return NoSpace(f"the pool is full: {said}")
    if "already exists" in text:
        return AlreadyExists(said)
    if "does not exist" in text or "no such" in text or "could not find" in text:
        return NotFound(said)
    if any(part in text for part in ("is busy", "dependent clone", "more recent snapshots")):
        return WrongState(said)
    return error
