"""The storage type `dir`: a folder, laid out as Proxmox VE lays it out.

    template/cache  template/iso  dump  snippets  import      plain files
    images/<vmid>/vm-<vmid>-disk-<n>.subvol                   a container's file system as a folder
    images/<vmid>/vm-<vmid>-disk-<n>.raw                      the same in a sparse ext4 image, mounted while in use
    images/<vmid>/vm-<vmid>-disk-<n>.{raw,qcow2,vmdk}         a VM's disk (`dir_disks.py`)
    .incoming  .trash                                         files on their way in and out

Whatever holds guests' files is closed to the host's users: a setuid program in there is not theirs to run.
"""

import asyncio
import contextlib
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from bastide.base.errors import AlreadyExists, InvalidParameter, NotFound, WrongState
from bastide.host import filesystems, quota
from bastide.model.storage import Content, Volume
from bastide.storage import sidecars
from bastide.storage.dir_disks import DISK_FORMATS, DirDisks, disk_size
from bastide.storage.names import FILE_CONTENTS, FOLDERS, SIDECARS, VolumeName, parse_name
from bastide.storage.protocol import Capabilities

_LOOP_CONTROL = Path("/dev/loop-control")


@dataclass(frozen=True, slots=True)
class _View:
    """What is mounted, read once for a whole listing. `mounts` is the folder of our mounts, without links."""

    mounts: Path
    mounted: frozenset[Path]


class DirStorage(DirDisks):
    """A directory storage; FileStorage, ContainerStorage and DiskStorage in one."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; sizes of folders are enforced where the file system was last seen mounted with quotas."""
        form = self._container_format
        return Capabilities(
            contents=self.contents,
            container_format=form,
            enforces_size=form == "raw" or self._quotas is not None,
            shared=self.config.shared,
            disk_formats=DISK_FORMATS if "images" in self.contents else frozenset(),
            default_disk_format=self.default_format,
        )

    @property
    def _container_format(self) -> Literal["raw", "subvol"]:
        """The form of a container's volume with a size: as configured, else whichever enforces the size here."""
        if self.config.format in ("raw", "subvol"):
            return self.config.format
        return "subvol" if self._quotas is not None or not _LOOP_CONTROL.exists() else "raw"

    async def list(self, content: Content | None = None, vmid: int | None = None) -> Sequence[Volume]:
        """Its volumes, by content and name. Raises HostFailure when the storage does not answer."""
        contents = self.capabilities.contents if content is None else {content} & self.capabilities.contents
        return await self._bounded.call(lambda: self._scan(frozenset(contents), vmid))

    async def info(self, name: str) -> Volume:
        """One volume. Raises NotFound."""
        parsed = parse_name(name)
        volume = await self._bounded.call(lambda: self._describe(parsed, self._view()))
        if volume is None:
            raise NotFound(f"volume '{self.config.storage}:{name}' does not exist")
        return volume

    async def delete(self, name: str) -> None:
        """Remove a volume. Raises WrongState when it is protected or has something mounted in it."""
        parsed = parse_name(name)
        async with self._lock(name):
            path = await self._bounded.call(lambda: self._where(parsed))
            if await self._bounded.call(path.with_name(f"{path.name}.protected").exists):
                raise WrongState(f"can't remove protected volume '{self.config.storage}:{name}'")
            if parsed.format == "raw":
                await self._unmount(parsed)
            if inside := await asyncio.to_thread(filesystems.mounts_within, path):
                raise WrongState(f"can't remove volume '{self.config.storage}:{name}': {inside[0]} is mounted")
            trash = await self._bounded.call(lambda: self._discard(parsed, path))
            if trash is not None:
                await filesystems.remove_tree(trash)

    # Plain files.

    def path(self, name: str) -> Path:
        """Where a volume lies. Raises InvalidParameter for a faulty name or a symbolic link."""
        return self._where(parse_name(name))

    def incoming(self, name: str) -> Path:
        """A fresh path to write a file to that shall become `name`; leftovers go when the next daemon starts."""
        return self._temporary(parse_name(name))

    async def publish(self, incoming: Path, name: str) -> Volume:
        """Sync a file and give it its name in one step. Raises AlreadyExists."""
        target = self.path(name)
        await asyncio.to_thread(filesystems.publish_file, incoming, target)
        return await self.info(name)

    async def annotate(self, name: str, notes: str | None = None, protected: bool | None = None) -> None:
        """Set a volume's notes (empty: none) and protection; None leaves them. Raises NotFound."""
        await self.info(name)
        path = self.path(name)
        if notes is not None and len(notes.encode()) > sidecars.LIMIT:
            raise InvalidParameter({"notes": f"at most {sidecars.LIMIT} bytes"})

        def write() -> None:
            with filesystems.translated(f"write the notes of {name}"):
                if notes is not None:
                    sidecars.write(path, ".notes", notes or None)
                if protected is not None:
                    sidecars.write(path, ".protected", "" if protected else None)

        await self._bounded.call(write)

    # Containers' file systems.

    def volume_name(self, vmid: int, number: int, size: int) -> str:
        """`100/vm-100-disk-0.raw` where only an image enforces the size, else `.subvol`."""
        form = self._container_format if size > 0 else "subvol"
        return f"{vmid}/vm-{vmid}-disk-{number}.{form}"

    async def allocate(self, name: str, size: int) -> None:
        """Make an empty volume. Raises AlreadyExists, NoSpace; leaves nothing when it fails."""
        parsed = self._container_name(name)
        async with self._lock(name):
            target = await self._bounded.call(lambda: self._where(parsed))
            if await self._bounded.call(target.exists):
                raise AlreadyExists(f"volume '{self.config.storage}:{name}' already exists")
            temporary = self._temporary(parsed)
            try:
                if parsed.format == "raw":
                    if size <= 0:
                        raise InvalidParameter({"size": "an image needs a size"})
                    await filesystems.make_ext4(temporary, size)
                else:
                    await asyncio.to_thread(self._make_subvol, temporary, size)
                await asyncio.to_thread(_place_volume, temporary, target, size)
            except BaseException:
                await filesystems.remove_tree(temporary)
                raise

    async def activate(self, name: str) -> Path:
        """The folder that holds the volume's file system. Raises NotFound."""
        parsed = self._container_name(name)
        path = await self._bounded.call(lambda: self._where(parsed))
        async with self._lock(name):
            if not await self._bounded.call(path.exists):
                raise NotFound(f"volume '{self.config.storage}:{name}' does not exist")
            if parsed.format == "subvol":
                return path
            target = self._mount_point(parsed)
            if filesystems.mount_at(target) is None:
                filesystems.make_folder(self._mounts.parent, 0o711)
                filesystems.make_folder(self._mounts, 0o711)
                if not target.parent.exists():
                    filesystems.make_folder(target.parent, 0o700)
                filesystems.make_folder(target, 0o700)
                await filesystems.mount_loop(path, target)
            return target

    async def deactivate(self, name: str) -> None:
        """Unmount what `activate` mounted."""
        parsed = self._container_name(name)
        async with self._lock(name):
            await self._unmount(parsed)

    async def resize(self, name: str, size: int) -> None:
        """Grow a volume; may be repeated. Raises InvalidParameter when it would shrink."""
        parsed = self._container_name(name)
        current = (await self.info(name)).size
        if size < current:
            raise InvalidParameter({"size": f"unable to shrink disk size from {current} to {size} bytes"})
        if parsed.format == "subvol":
            async with self._lock(name):
                await asyncio.to_thread(self._limit_subvol, self._where(parsed), size)
            return
        async with self._lock(name):
            await filesystems.grow_ext4(self._where(parsed), size)

    async def used(self, name: str) -> int | None:
        """Bytes in use, or None when only a walk would tell."""
        if self._quotas is None and self._container_name(name).format == "subvol":
            return None
        return (await self.info(name)).used

    # What runs in threads, and small helpers.

    def _container_name(self, name: str) -> VolumeName:
        parsed = parse_name(name)
        if parsed.format not in ("subvol", "raw") or parsed.vmid is None or parsed.content in FILE_CONTENTS:
            raise InvalidParameter({"volume": f"'{name}' is not a container's volume"})
        return parsed

    def _mount_point(self, parsed: VolumeName) -> Path:
        return self._mounts / parsed.text

    async def _unmount(self, parsed: VolumeName) -> None:
        target = self._mount_point(parsed)
        while filesystems.mount_at(target) is not None:
            await filesystems.unmount(target)
        for folder in (target, target.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _scan(self, contents: frozenset[str], vmid: int | None) -> Sequence[Volume]:
        found: dict[str, Volume] = {}
        view = self._view()
        for content in sorted(contents):
            folder = FOLDERS[cast(Content, content)]
            if folder == "images":
                guests = [str(vmid)] if vmid is not None else _names(self._path / folder)
                names = [f"{guest}/{file}" for guest in guests for file in _names(self._path / folder / guest)]
            else:
                names = [f"{content}/{file}" for file in _names(self._path / folder)]
            for name in names:
                with contextlib.suppress(InvalidParameter):
                    parsed = parse_name(name)
                    volume = self._describe(parsed, view)
                    # An image may be a machine's disk as well as a container's file system: only its guest tells.
                    fits = parsed.content == content or (parsed.format == "raw" and folder == "images")
                    if volume is not None and fits and (vmid is None or volume.vmid == vmid):
                        found.setdefault(name, volume)
        return sorted(found.values(), key=lambda volume: (volume.content, volume.volid))

    def _view(self) -> _View:
        entries = filesystems.mounts()
        return _View(
            mounts=Path(os.path.realpath(self._mounts)),
            mounted=frozenset(entry.target for entry in entries),
        )

    def _describe(self, parsed: VolumeName, view: _View) -> Volume | None:
        path = self._where(parsed)
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        wanted = stat.S_ISDIR if parsed.format == "subvol" else stat.S_ISREG
        if not wanted(status.st_mode):
            return None
        size, used = status.st_size, status.st_blocks * 512
        folder_used: int | None = used
        if parsed.format == "subvol":
            size = int(sidecars.read(path, ".size") or 0)
            limits = quota.usage(path, self._quotas) if self._quotas is not None else None
            folder_used = limits[0] if limits else None
        elif parsed.format == "raw" and view.mounts / parsed.text in view.mounted:
            folder_used = filesystems.space(view.mounts / parsed.text)[1]
        elif parsed.content == "images":
            size = disk_size(path, parsed.format, size)
        return Volume(
            volid=f"{self.config.storage}:{parsed.text}",
            content=parsed.content,
            format=parsed.format,
            size=size,
            used=folder_used,
            ctime=int(status.st_mtime if parsed.format != "subvol" else status.st_ctime),
            vmid=parsed.vmid,
            notes=sidecars.read(path, ".notes"),
            protected=sidecars.read(path, ".protected") is not None,
        )

    def _discard(self, parsed: VolumeName, path: Path) -> Path | None:
        with filesystems.translated(f"remove {parsed.text}"):
            trash = self._path / ".trash" / f"{secrets.token_hex(8)}.{path.name}"[-255:]
            try:
                path.rename(trash)
            except FileNotFoundError:
                trash = None  # type: ignore[assignment]  # nothing to remove
            for suffix in SIDECARS:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            if parsed.vmid is not None and parsed.content not in FILE_CONTENTS:
                with contextlib.suppress(OSError):
                    path.parent.rmdir()  # the guest's last volume
            return trash

    def _make_subvol(self, folder: Path, size: int) -> None:
        with filesystems.translated(f"make {folder}"):
            folder.mkdir(mode=0o755)
        if size and self._quotas is not None:
            quota.set_limit(folder, size)

    def _limit_subvol(self, folder: Path, size: int) -> None:
        if self._quotas is not None:
            quota.set_limit(folder, size)
        sidecars.write(folder, ".size", str(size))


def _place_volume(temporary: Path, target: Path, size: int) -> None:
    with filesystems.translated(f"make {target}"):
        with contextlib.suppress(FileExistsError):
            target.parent.mkdir(mode=0o700)
        if temporary.is_dir():
            if target.exists():
                raise AlreadyExists(f"volume '{target.parent.name}/{target.name}' already exists")
            sidecars.write(target, ".size", str(size) if size else None)
            temporary.rename(target)
            filesystems.sync_folder(target.parent)
        else:
            filesystems.publish_file(temporary, target)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
