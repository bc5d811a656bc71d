"""VMs' disks in a storage's folder: files that only root reads, made aside and moved to their place whole."""

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from bastide.base.errors import AlreadyExists, HostFailure, InvalidParameter, NotFound
from bastide.host import disk_image, filesystems, qemu_img
from bastide.model.storage import DiskFormat, DiskImage
from bastide.storage import names
from bastide.storage.below import NOTHING, Below, read
from bastide.storage.folder import SNAPSHOTS, Folder
from bastide.storage.names import VolumeName, parse_disk_name, parse_name
from bastide.storage.protocol import Progress

_LONGEST_CHAIN = 64
DISK_FORMATS: frozenset[DiskFormat] = frozenset({"raw", "qcow2", "vmdk"})


class FolderDisks(Folder):
    """DiskStorage of a folder."""

    @property
    def default_format(self) -> DiskFormat:
        """The format of a new disk when none is asked: as configured, else one whose snapshots are instant."""
        form = self.config.format
        if form is not None and form != "subvol":
            return form
        return "raw" if self._reflink else "qcow2"

    def disk_name(self, vmid: int, label: int | str, form: DiskFormat | None = None) -> str:
        """`100/vm-100-disk-0.qcow2`, or `100/vm-100-cloudinit.raw` for a word. Raises InvalidParameter."""
        return names.disk_name(vmid, label, form or self.default_format)

    async def allocate_disk(self, name: str, size: int) -> None:
        """Make an empty disk. Raises AlreadyExists, NoSpace, InvalidParameter; leaves nothing when it fails."""
        parsed = parse_disk_name(name)
        if not 0 < size <= disk_image.MAX_VIRTUAL_SIZE:
            raise InvalidParameter({"size": f"a disk cannot have {size} bytes"})
        async with self._new_disk(parsed) as temporary:
            await qemu_img.create(temporary, parsed.format, size, self._preallocation)

    async def disk_path(self, name: str) -> Path:
        """The file to open. Raises NotFound, and InvalidParameter for a name that leads through a link."""
        parsed = parse_disk_name(name)
        path = await self._bounded.call(lambda: self._where(parsed))
        if not await self._bounded.call(lambda: _is_file(path)):
            raise NotFound(f"volume '{self.config.storage}:{name}' does not exist")
        return path

    async def disk_image(self, name: str, snapshot: str | None = None) -> DiskImage:
        """The disk with its checked chain. Raises NotFound, HostFailure when a header names anything else."""
        parsed = parse_disk_name(name)
        path = await self.disk_path(name)
        return await self._bounded.call(lambda: self._chain(parsed, path, snapshot))

    def _chain(self, parsed: VolumeName, path: Path, snapshot: str | None = None, depth: int = 0) -> DiskImage:
        below = read(path)
        if depth > _LONGEST_CHAIN or (parsed.format == "raw" and below.layered):
            raise HostFailure(f"volume '{self.config.storage}:{parsed.text}' cannot be read as a disk")
        backing = None
        if below.key is not None:
            backing = DiskImage(self._base_path(below.key, ".disk.raw"), "raw")
        elif below.volume is not None:
            base = parse_name(below.volume)
            backing = self._chain(base, self._where(base), depth=depth + 1)
        image = DiskImage(path, cast(DiskFormat, parsed.format), backing=backing)
        if snapshot is not None:
            image = self._at(image, parsed, snapshot)
        with disk_image.opened(image.path) as opened:
            disk_image.check_link(opened, image)
        return image

    def _at(self, image: DiskImage, parsed: VolumeName, snapshot: str) -> DiskImage:
        """The image as it was at a snapshot. Raises NotFound."""
        if parsed.format == "qcow2":
            there = snapshot in disk_image.snapshots(image.path)
            found = replace(image, inside=snapshot)
        else:
            found = replace(image, path=image.path.with_name(f"{image.path.name}{SNAPSHOTS}") / snapshot)
            there = _is_file(found.path)
        if not there:
            raise NotFound(f"volume '{self.config.storage}:{parsed.text}' has no snapshot '{snapshot}'")
        return found

    async def resize_disk(self, name: str, size: int) -> None:
        """Grow a disk that nothing has open. Raises NotFound, InvalidParameter when it would shrink, NotSupported."""
        parsed = parse_disk_name(name)
        async with self._named(), self._lock(name):
            path = await self.disk_path(name)
            current = (await self._bounded.call(lambda: disk_image.inspect(path, parsed.format))).virtual_size
            if size < current:
                raise InvalidParameter({"size": f"unable to shrink disk size from {current} to {size} bytes"})
            if size > disk_image.MAX_VIRTUAL_SIZE:
                raise InvalidParameter({"size": f"a disk cannot have {size} bytes"})
            if size > current:
                await qemu_img.resize(path, parsed.format, size)

    async def import_disk(
        self,
        source: Path | DiskImage,
        source_format: str,
        name: str,
        progress: Progress | None = None,
        *,
        ours: bool = False,
        rate: int = 0,
    ) -> None:
        """Copy a checked image into a new disk. Raises AlreadyExists, NoSpace, HostFailure when it is refused."""
        parsed = parse_disk_name(name)
        # The size is the image's word: tables for all of it could be gigabytes that nobody asked for.
        preallocation = self._preallocation if self._preallocation != "metadata" else "off"
        if isinstance(source, DiskImage):
            async with self._new_disk(parsed) as temporary:
                await qemu_img.convert(
                    source, source_format, temporary, parsed.format,
                    preallocation=preallocation, progress=progress, rate=rate,
                )  # fmt: skip
            return
        # One descriptor for the check and the copy, so that they see the same file.
        with disk_image.opened(source) as opened:
            check = disk_image.check_chain if ours else disk_image.check
            await asyncio.to_thread(check, opened, source_format)
            async with self._new_disk(parsed) as temporary:
                await qemu_img.convert(
                    opened, source_format, temporary, parsed.format,
                    preallocation=preallocation, progress=progress, rate=rate,
                )  # fmt: skip

    async def write_file(self, name: str, data: bytes) -> None:
        """Make or replace a small raw volume in one step. Raises NoSpace, HostFailure."""
        parsed = parse_disk_name(name)
        if parsed.format != "raw":
            raise InvalidParameter({"volume": f"'{name}' is not a raw volume"})
        async with self._named(), self._lock(name):
            path = await self._bounded.call(lambda: self._where(parsed))
            temporary = self._temporary(parsed)
            try:
                await asyncio.to_thread(_replace, temporary, path, data)
            except BaseException:
                await self._drop(temporary)
                raise

    @property
    def _preallocation(self) -> qemu_img.Preallocation:
        return self.config.preallocation or "metadata"

    @contextlib.asynccontextmanager
    async def _new_disk(self, parsed: VolumeName, below: Below = NOTHING) -> AsyncIterator[Path]:
        """A path to make the disk at, which gets its place when the body ends and goes when it fails."""
        async with self._named(), self._lock(parsed.text):
            target = await self._bounded.call(lambda: self._where(parsed))
            if await self._bounded.call(target.exists):
                raise AlreadyExists(f"volume '{self.config.storage}:{parsed.text}' already exists")
            temporary = self._temporary(parsed)
            try:
                yield temporary
                await asyncio.to_thread(self._put, temporary, parsed, below=below)
            except BaseException:
                await self._drop(temporary)
                raise


def disk_size(path: Path, form: str, length: int) -> int:
    """What a guest sees of an image, in bytes; of one that cannot be understood, the file's `length`."""
    if form == "raw":
        return length
    try:
        return disk_image.inspect(path, form).virtual_size
    except HostFailure:
        return length


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _replace(temporary: Path, target: Path, data: bytes) -> None:
    with filesystems.translated(f"write {target}"):
        filesystems.make_entry(target.parent, 0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        filesystems.sync_folder(target.parent)
