"""Where backups go: a file on a storage or in a folder of the host, or a storage with a store of its own."""

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

from bastide.backup.vma_stages import pack_stage
from bastide.base.errors import BastideError, HostFailure, NoSpace, NotFound, NotSupported
from bastide.base.units import KIB, MIB, readable
from bastide.guest.protocol import IdMap
from bastide.host import facts, filesystems
from bastide.host.pipeline import Stage, run_pipeline
from bastide.host.run import finished
from bastide.model.backup import EXTENSIONS, BackupName, DiskExport, Tree, config_file
from bastide.model.backup_options import BackupOptions
from bastide.operations.backup.saving import Sink
from bastide.operations.rooms import Rooms
from bastide.storage.protocol import ArchiveStorage, FileStorage, Saving, Storage
from bastide.tasks.tasks import Task

NICE = 10
"""What packs and compresses goes after the daemon, which answers meanwhile: see nice(1)."""

_FIRST_LINE = 3.0
_MOST_SECONDS = 60.0
_STEP = 32 * MIB


class Destination(Sink, Protocol):
    """A sink that `vzdump` finishes: what was saved gets its name, or goes."""

    @property
    def shown(self) -> str:
        """What logs and hooks call it: a path or a volume id."""

    async def publish(self) -> int:
        """Give what was saved its name, when all of it is on stable storage; its bytes. Raises HostFailure."""

    async def discard(self) -> None:
        """Leave nothing of it."""

    async def keep_log(self, log: str) -> Path | None:
        """Put the log beside what has been published; where, None where there is no place for one."""


class Landing(Protocol):
    """Where a file lies until it has its name."""

    shown: str

    async def create(self) -> int:
        """A fresh file that nobody else can name, as a descriptor to write to; the landing's to close."""

    async def publish(self) -> int:
        """Sync it and give it its name in one step; its bytes. Raises AlreadyExists, HostFailure, NoSpace."""

    async def discard(self) -> None:
        """Let it go; one that has its name stays."""

    async def keep_log(self, log: str) -> Path:
        """Put the log beside it."""


class OnStorage:
    """A file on a storage, `name` being `backup/vzdump-...tar.zst`."""

    def __init__(self, storage: FileStorage, name: str, path: Path) -> None:
        self.shown = str(path)
        self._storage, self._name = storage, name
        self._incoming = storage.incoming(name)
        self._file: int | None = None

    async def create(self) -> int:
        """See Landing."""
        with filesystems.translated(f"write '{self.shown}'"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = await asyncio.to_thread(os.open, self._incoming, flags, 0o600)
        return self._file

    async def publish(self) -> int:
        """See Landing."""
        self._close()
        return (await self._storage.publish(self._incoming, self._name)).size

    async def discard(self) -> None:
        """See Landing."""
        self._close()
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._incoming.unlink, missing_ok=True)

    async def keep_log(self, log: str) -> Path:
        """See Landing."""
        await self._storage.keep_log(self._name, log)
        return _log_beside(Path(self.shown))

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None


async def check_folder(folder: Path) -> None:
    """Raise HostFailure for a folder of the host's that is not there, or is reached through a link."""
    if not await asyncio.to_thread(os.path.lexists, folder):
        raise HostFailure(f"'{folder}' does not exist")
    if await asyncio.to_thread(folder.resolve) != folder or not await asyncio.to_thread(folder.is_dir):
        raise HostFailure(f"'{folder}' is no folder, or a link leads to it: name the folder itself")


class InFolder:
    """A file in a folder of the host's, without a name until it is whole: see O_TMPFILE in open(2)."""

    def __init__(self, path: Path) -> None:
        self.shown = str(path)
        self._path = path
        self._file: int | None = None

    async def create(self) -> int:
        """See Landing. Raises HostFailure for a folder that is reached through a link, or whose files need names."""
        folder = self._path.parent
        with filesystems.translated(f"write to '{folder}'"):
            await check_folder(folder)
            flags = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
            try:
                self._file = await asyncio.to_thread(os.open, folder, flags, 0o600)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                    raise
                raise NotSupported(f"files in '{folder}' need names from the start: add it as a storage") from None
        return self._file

    async def publish(self) -> int:
        """See Landing."""
        assert self._file is not None  # noqa: S101 - created before
        file = self._file
        with filesystems.translated(f"write '{self._path}'"):
            await asyncio.to_thread(os.fsync, file)
            await asyncio.to_thread(self._link, file)
            return os.fstat(file).st_size

    async def discard(self) -> None:
        """See Landing."""
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _link(self, file: int) -> None:
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Only with a descriptor of a folder the link in /proc is followed.
            os.link(f"/proc/self/fd/{file}", self._path.name, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)
        filesystems.sync_folder(self._path.parent)

    async def keep_log(self, log: str) -> Path:
        """See Landing."""
        path = _log_beside(self._path)
        await asyncio.to_thread(filesystems.replace_text, path, log)
        return path


def _log_beside(path: Path) -> Path:
    return path.with_name(f"{BackupName.parse(path.name).stem}.log")


@dataclass(slots=True)
class FileSink:
    """An archive as a file: packed, compressed and limited as the options say."""

    rooms: Rooms
    landing: Landing
    options: BackupOptions
    task: Task

    @property
    def shown(self) -> str:
        """See Destination."""
        return self.landing.shown

    async def save_tree(self, tree: Tree, config: str) -> None:
        """See Sink."""
        files = {config_file("lxc"): config.encode()}
        packing = self.rooms.containers.packing(tree, IdMap(tree.first_id), files, self.options.excludes)
        await self._save(packing, None)

    async def save_disks(self, disks: Sequence[DiskExport], config: str) -> None:
        """See Sink."""
        packing = pack_stage(disks, {config_file("qemu"): config.encode()})
        await self._save(packing, sum(disk.size for disk in disks))

    async def publish(self) -> int:
        """See Destination."""
        try:
            size = await finished(self.landing.publish())
        finally:
            await self.landing.discard()
        self.task.log(f"archive file size: {readable(size)}")
        return size

    async def discard(self) -> None:
        """See Destination."""
        await self.landing.discard()

    async def keep_log(self, log: str) -> Path | None:
        """See Destination."""
        return await self.landing.keep_log(log)

    async def _save(self, packing: AbstractContextManager[Stage], size: int | None) -> None:
        self.task.log(f"creating vzdump archive '{self.shown}'")
        gently = gentle(self.options)
        compressing = Stage(compressor(self.options), "written")
        target = await self.landing.create()
        progress = Progress(self.task.log, size, lambda: written_back(target))
        with packing as stage:
            stages = [replace(each, argv=[*gently, *each.argv]) for each in (stage, compressing)]
            try:
                await run_pipeline(stages, stdout=target, limit=rate(self.options) or None, progress=progress)
            except NoSpace:
                raise NoSpace(f"there is no space left for '{self.shown}'") from None
        progress.finish()


@dataclass(slots=True)
class ArchiveSink:
    """A backup in a storage with a store of its own, `name` being `backup/vzdump-...` without an extension."""

    storage: ArchiveStorage
    name: str
    options: BackupOptions
    task: Task
    _saved: bool = False

    @property
    def shown(self) -> str:
        """See Destination."""
        return f"{self.storage.config.storage}:{self.name}"

    async def save_tree(self, tree: Tree, config: str) -> None:
        """See Sink."""
        self.task.log(f"creating archive '{self.shown}'")
        await self.storage.save_tree(self.name, tree, {config_file("lxc"): config.encode()}, self._saving())
        self._saved = True

    async def save_disks(self, disks: Sequence[DiskExport], config: str) -> None:
        """See Sink."""
        self.task.log(f"creating archive '{self.shown}'")
        await self.storage.save_disks(self.name, disks, {config_file("qemu"): config.encode()}, self._saving())
        self._saved = True

    async def publish(self) -> int:
        """See Destination: it has had its name since it was saved."""
        size = (await self.storage.info(self.name)).size
        self.task.log(f"backup size: {readable(size)}")
        return size

    async def discard(self) -> None:
        """See Destination."""
        if self._saved:
            try:
                await self.storage.delete(self.name)
            except BastideError as error:
                self.task.warn(f"'{self.shown}' is not whole and could not be removed: {error}")

    async def keep_log(self, log: str) -> Path | None:
        """See Destination: the store has no place for it."""
        del log
        return None

    def _saving(self) -> Saving:
        return Saving(self.options.excludes, rate(self.options), self.task.log)


def volume_name(storage: Storage, options: BackupOptions, name: BackupName) -> str:
    """What a backup is called on a storage: `backup/vzdump-lxc-100-2026_11_23-01_02_03.tar.zst`."""
    return f"backup/{name if storage.capabilities.archives else _named(options, name)}"


def _named(options: BackupOptions, name: BackupName) -> BackupName:
    plain = ".tar" if name.kind == "lxc" else ".vma"
    return replace(name, extension=plain + EXTENSIONS[options.compression])


async def destination(
    rooms: Rooms, storage: Storage | None, options: BackupOptions, name: BackupName, task: Task
) -> Destination | None:
    """Where a backup of that name goes: `storage`, or the folder in the options. None when the name is taken."""
    if storage is None:
        path = Path(options.dumpdir or "/") / str(_named(options, name))
        return (
            None if await asyncio.to_thread(os.path.lexists, path) else FileSink(rooms, InFolder(path), options, task)
        )
    volume = volume_name(storage, options, name)
    with contextlib.suppress(NotFound):
        await storage.info(volume)
        return None
    if storage.capabilities.archives:
        return ArchiveSink(cast(ArchiveStorage, storage), volume, options, task)
    files = cast(FileStorage, storage)
    return FileSink(rooms, OnStorage(files, volume, await files.file_path(volume)), options, task)


def compressor(options: BackupOptions) -> Sequence[str]:
    """The command that compresses its standard input, with as many threads as the options say.

    For `zstd` and `pigz` Proxmox VE's rules hold: 0 threads of zstd, and 1 of pigz, are half of the host's.
    """
    half = max(1, facts.cpu_count() // 2)
    match options.compression:
        case "zstd":
            return ["zstd", "-q", "-c", f"-T{options.zstd or half}"]
        case "gzip" if options.pigz:
            return ["pigz", "-c", "-p", str(half if options.pigz == 1 else options.pigz)]
        case "gzip":
            return ["gzip", "-q", "-c"]
        case "lzo":
            return ["lzop", "-q", "-c"]
        case "0":
            return ["cat"]


def gentle(options: BackupOptions) -> Sequence[str]:
    """What goes before a command so that it gives way: `ionice` 8 is the class of the idle, less a priority.

    See ionice(1), nice(1).
    """
    way = ["-c", "3"] if options.ionice > 7 else ["-c", "2", "-n", str(options.ionice)]
    return ["ionice", *way, "nice", "-n", str(NICE)]


def rate(options: BackupOptions) -> int:
    """Bytes a second that may pass, 0 for no limit."""
    return options.bwlimit * KIB


def written_back(file: int) -> None:
    """Have what was written to a file so far go to the disk and out of the page cache, without waiting for it.

    So syncing it takes no long time in the end, and what guests use stays in memory. See posix_fadvise(2).
    """
    with contextlib.suppress(OSError):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


class Progress:
    """Logs how far it is, ever more rarely: after seconds first, then once a minute."""

    def __init__(
        self, log: Callable[[str], None], size: int | None = None, each: Callable[[], None] | None = None
    ) -> None:
        """`size` is what will pass, as far as it is known; `each` is called from time to time."""
        self._log, self._size, self._each, self._looked = log, size, each, 0
        self._began = time.monotonic()
        self._next, self._wait, self._done = self._began + _FIRST_LINE, _FIRST_LINE, 0

    def __call__(self, done: int) -> None:
        """So many bytes have passed. May be called from any thread."""
        self._done = done
        if self._each is not None and done - self._looked >= _STEP:
            self._looked = done
            self._each()
        now = time.monotonic()
        if now < self._next:
            return
        self._wait = min(_MOST_SECONDS, self._wait * 1.5)
        self._next = now + self._wait
        share = f"{min(done * 100 // self._size, 99):2d}% " if self._size else ""
        of = f" of {readable(self._size)}" if self._size else ""
        self._log(
            f"{share}{readable(done)}{of} in {now - self._began:.0f}s, {done / (now - self._began) / MIB:.0f} MiB/s"
        )

    def finish(self) -> None:
        """The last line."""
        took = max(time.monotonic() - self._began, 0.001)
        self._log(f"transferred {readable(self._done)} in {took:.0f} seconds ({self._done / took / MIB:.0f} MiB/s)")
