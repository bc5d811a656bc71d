"""Backups to read, wherever they are kept: their configuration, a container's files, a VM's disks."""

import asyncio
import contextlib
import io
import os
import shutil
import stat
import struct
import tarfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from bastide.backup.vma_stages import read_header
from bastide.base.errors import DeadlineExceeded, HostFailure, InvalidParameter, NotFound, NotSupported
from bastide.base.units import MIB
from bastide.host import archive, filesystems
from bastide.host.pipeline import Stage
from bastide.host.run import kill_group, spawn
from bastide.host.sandbox import Bounds, sandboxed
from bastide.model.backup import BackupName, TreeEntry, config_file
from bastide.operations.rooms import Rooms
from bastide.storage.protocol import ArchiveStorage, FileStorage

CONFIG_LIMIT = MIB
"""Bytes that a guest's configuration in a backup may have."""

_BEGINNING = 2 * MIB
_MEMBERS = 64
_DEADLINE = 60
_DAY = 24 * 3600
_TAR_END = 1024
"""The zeros that a tar archive ends with (tar(5))."""
_SUFFIXES = {".gz": "gz", ".tgz": "gz", ".lzo": "lzo", ".zst": "zst"}


class Archive(Protocol):
    """A backup. What is in it may come from anybody: nothing of it is believed.

    `volid` is its volume id, or the absolute path of a file that is on no storage. `size` in bytes, as it is stored.
    `random_access`: whether `disks` gives files; else a VM's archive is a stream to be read from its beginning.
    """

    @property
    def volid(self) -> str:
        """What it is called."""

    @property
    def name(self) -> BackupName:
        """Of which guest it is, and of when."""

    @property
    def size(self) -> int:
        """Bytes that it takes."""

    @property
    def random_access(self) -> bool:
        """Whether `disks` gives files."""

    async def config(self) -> str:
        """The guest's configuration as Proxmox VE writes it, at most 1 MiB. Raises HostFailure when there is none."""

    async def entries(self, path: str) -> Sequence[TreeEntry] | None:
        """What a folder of a container's holds, None where only reading the stream tells. Raises NotFound."""

    def stream(self, paths: Sequence[str] = ()) -> AbstractAsyncContextManager[tuple[Stage, int | None]]:
        """While entered, the process that writes the tar or VMA stream, and the descriptor that is its standard input.

        `paths` limit a container's to what lies at and below them, where the storage can; it may be more.
        """

    def disks(self) -> AbstractAsyncContextManager[Mapping[str, Path]]:
        """While entered, a file for each disk of a VM, to be read at any place. Raises NotSupported for a stream."""


async def open_archive(rooms: Rooms, volid: str) -> Archive:
    """A backup by its volume id, or by the absolute path of its file, which is root@pam's alone to name.

    Raises InvalidParameter naming `volume` for what is no backup's name, NotFound, WrongState.
    """
    if volid.startswith("/"):
        path = Path(volid)
        name = BackupName.parse(path.name)
        if ".." in path.parts or not name.extension:
            raise InvalidParameter({"volume": f"'{volid[:200]}' is not the plain path of a backup"})
        with filesystems.translated(f"read '{volid[:200]}'"):
            try:
                size = (await asyncio.to_thread(path.lstat)).st_size
            except (FileNotFoundError, NotADirectoryError):
                raise NotFound(f"file '{volid[:200]}' does not exist") from None
        return FileArchive(volid, name, size, path)
    storage, volume = await rooms.storages.resolve(volid)
    if not volume.startswith("backup/"):
        raise InvalidParameter({"volume": f"'{volid[:200]}' is not a backup"})
    name = BackupName.parse(volume)
    info = await storage.info(volume)
    if storage.capabilities.archives:
        return StoredArchive(volid, name, info.size, cast(ArchiveStorage, storage), volume)
    return FileArchive(volid, name, info.size, await cast(FileStorage, storage).file_path(volume))


@dataclass(frozen=True, slots=True)
class FileArchive:
    """An archive that is a file: a stream, compressed as its name says."""

    volid: str
    name: BackupName
    size: int
    path: Path

    @property
    def random_access(self) -> bool:
        """A stream has none."""
        return False

    async def config(self) -> str:
        """See Archive. Only the beginning is read."""
        async with self.stream() as (stage, source):
            if self.name.kind == "lxc":
                # A stranger's headers can take long to read.
                return await asyncio.to_thread(config_of_tar, await _beginning(stage, source, _BEGINNING))
            files = (await read_header(stage, DEVNULL if source is None else source)).files
        wanted = config_file("qemu")
        if wanted not in files:
            raise HostFailure(f"the archive does not contain a guest configuration ({wanted})")
        return _text(files[wanted])

    async def entries(self, path: str) -> Sequence[TreeEntry] | None:
        """A stream has no list of what is in it."""
        del path
        return None

    @asynccontextmanager
    async def stream(self, paths: Sequence[str] = ()) -> AsyncIterator[tuple[Stage, int | None]]:
        """See Archive. Raises HostFailure when the content is not what the name says."""
        del paths
        with filesystems.translated(f"open '{self.path.name}'"):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            source = await asyncio.to_thread(os.open, self.path, flags)
        try:
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise HostFailure(f"'{self.path.name}' is not a file")
            with filesystems.translated(f"read '{self.path.name}'"):
                argv = await asyncio.to_thread(_unpacking, source, self.name.extension)
                if self.name.extension == ".tar":
                    await asyncio.to_thread(_check_end, source)
            yield Stage(argv, "read"), source
        finally:
            os.close(source)

    def disks(self) -> AbstractAsyncContextManager[Mapping[str, Path]]:
        """See Archive."""
        raise NotSupported(f"'{self.volid}' is a stream: its disks cannot be read at any place")


@dataclass(frozen=True, slots=True)
class StoredArchive:
    """An archive in a storage that keeps backups in a store of its own."""

    volid: str
    name: BackupName
    size: int
    storage: ArchiveStorage
    volume: str

    @property
    def random_access(self) -> bool:
        """Whether it has disks to be read at any place."""
        return self.name.kind == "qemu"

    async def config(self) -> str:
        """See Archive."""
        return _text(await self.storage.read_file(self.volume, config_file(self.name.kind)))

    async def entries(self, path: str) -> Sequence[TreeEntry] | None:
        """See Archive."""
        return await self.storage.list_tree(self.volume, path)

    @asynccontextmanager
    async def stream(self, paths: Sequence[str] = ()) -> AsyncIterator[tuple[Stage, int | None]]:
        """See Archive. Raises NotSupported for a VM's, which has `disks`."""
        if self.name.kind == "qemu":
            raise NotSupported(f"'{self.volid}' is no stream: its disks are read one by one")
        async with self.storage.reading_tree(self.volume, paths) as stage:
            yield stage, None

    def disks(self) -> AbstractAsyncContextManager[Mapping[str, Path]]:
        """See Archive."""
        if self.name.kind != "qemu":
            raise NotSupported(f"'{self.volid}' is a container's backup and has no disks")
        return self.storage.reading_disks(self.volume)


def _unpacking(source: int, extension: str) -> Sequence[str]:
    """The command that turns a file into its plain stream, in the sandbox: the file may be anybody's.

    Raises HostFailure when it is not what its name says, NotSupported when the tool for it is not there.
    """
    wanted = _SUFFIXES.get(f".{extension.rpartition('.')[2]}")
    try:
        found, argv = archive.identify(source)
    except HostFailure:
        found, argv = "", ("cat",)
    if (wanted or "") != found:
        words = found or "not compressed"
        raise HostFailure(f"the archive cannot be read: its name ends with '{extension}', and its content is {words}")
    tool = shutil.which(argv[0])
    if tool is None:
        raise NotSupported(f"{argv[0]} is not installed on this host; see `bastide doctor`")
    return sandboxed([tool, *argv[1:]], (), Bounds(seconds=_DAY))


def _check_end(source: int) -> None:
    """Raise HostFailure unless a plain tar archive is whole: tar(1) takes one that ends behind any member for whole."""
    size = os.fstat(source).st_size
    if size < _TAR_END or size % 512 or os.pread(source, _TAR_END, size - _TAR_END).strip(b"\0"):
        raise HostFailure("the archive cannot be read: its end is missing")


async def _beginning(stage: Stage, source: int | None, most: int) -> bytes:
    """The first bytes of a stream. Raises HostFailure when there are none."""
    process = await spawn(
        stage.argv, stdin=DEVNULL if source is None else source, stdout=PIPE, stderr=PIPE,
        pass_fds=stage.pass_fds,
    )  # fmt: skip
    found = bytearray()
    assert process.stdout is not None  # noqa: S101 - asked for above
    assert process.stderr is not None  # noqa: S101 - a pipe was asked for
    try:
        async with asyncio.timeout(_DEADLINE):
            while len(found) < most and (part := await process.stdout.read(most - len(found))):
                found += part
            if not found:
                said = (await process.stderr.read(MIB)).decode(errors="replace").strip()
                raise HostFailure(f"the archive cannot be read: {said.splitlines()[-1] if said else 'it is empty'}")
    except TimeoutError:
        raise DeadlineExceeded(f"the archive cannot be read: nothing came of it for {_DEADLINE} seconds") from None
    finally:
        await kill_group(process)
    return bytes(found)


def config_of_tar(beginning: bytes) -> str:
    """The configuration among the first members of a tar stream. Raises HostFailure when it is not there."""
    wanted = f"etc/vzdump/{config_file('lxc')}"
    with (
        # What a stranger writes into headers makes the library raise more than its own errors.
        contextlib.suppress(tarfile.TarError, ArithmeticError, LookupError, ValueError, RecursionError, struct.error),
        tarfile.open(fileobj=io.BytesIO(beginning), mode="r:", errors="surrogateescape") as members,
    ):
        for _ in range(_MEMBERS):
            member = members.next()
            if member is None:
                break
            if member.name.removeprefix("./") != wanted:
                continue
            end = member.offset_data + member.size
            if not member.isreg() or member.issparse() or member.size > CONFIG_LIMIT or end > len(beginning):
                raise HostFailure(f"the configuration in the archive ({wanted}) is no whole file of at most 1 MiB")
            return _text(beginning[member.offset_data : end])
    raise HostFailure(f"the archive does not contain a guest configuration ({wanted}): it is no container's backup")


def _text(data: bytes) -> str:
    if len(data) > CONFIG_LIMIT:
        raise HostFailure("the configuration in the archive is larger than 1 MiB")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise HostFailure("the configuration in the archive is not UTF-8") from None
