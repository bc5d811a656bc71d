"""The storage type `dir`: a folder, laid out as Proxmox VE lays it out.

    template/cache  template/iso  dump  snippets  import      plain files
    images/<vmid>/vm-<vmid>-disk-<n>.subvol                   a container's file system as a folder
    images/<vmid>/vm-<vmid>-disk-<n>.raw                      the same in a sparse ext4 image, mounted while in use
    .incoming  .trash                                         files on their way in and out

Whatever holds guests' files is closed to the host's users: a setuid program in there is not theirs to run.
"""

import asyncio
import contextlib
import os
import secrets
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from bastide.base.errors import AlreadyExists, BastideError, HostFailure, InvalidParameter, NotFound, WrongState
from bastide.base.layout import Layout
from bastide.host import filesystems, quota
from bastide.host.bounded import Bounded
from bastide.model.storage import Content, StorageConfig, StorageUsage, Volume
from bastide.storage import sidecars
from bastide.storage.names import FILE_CONTENTS, FOLDERS, SIDECARS, VolumeName, parse_name
from bastide.storage.protocol import Capabilities

_RUN = secrets.token_hex(8)
"""Marks this daemon's files in `.incoming`, so that the next one knows the leftovers."""

_NO_SPACE = StorageUsage(active=False, total=0, used=0, available=0)
_LOOP_CONTROL = Path("/dev/loop-control")
_SUPPORTED = frozenset({*FILE_CONTENTS, "images", "rootdir"})
_PARTIAL_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class _View:
    """What is mounted, read once for a whole listing. `mounts` is the folder of our mounts, without links."""

    mounts: Path
    mounted: frozenset[Path]


class DirStorage:
    """A directory storage; FileStorage and ContainerStorage in one."""

    def __init__(self, config: StorageConfig, layout: Layout) -> None:
        self.config = config
        self._path = Path(config.path)
        # Without links, as far as the storage has been asked: to look them up may hang.
        self._real = self._path
        self._quotas: filesystems.MountEntry | None = quota.quota_mount(self._real)
        self._mounts = layout.runtime / "mounts" / config.storage
        self._host = layout.instance
        self._bounded = Bounded(f"storage '{config.storage}'")
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; sizes of folders are enforced where the file system was last seen mounted with quotas."""
        form = self._container_format
        return Capabilities(
            contents=self.config.contents & _SUPPORTED,
            container_format=form,
            enforces_size=form == "raw" or self._quotas is not None,
            shared=self.config.shared,
        )

    @property
    def _container_format(self) -> Literal["raw", "subvol"]:
        """The form of a container's volume with a size: as configured, else whichever enforces the size here."""
        if self.config.format in ("raw", "subvol"):
            return self.config.format
        return "subvol" if self._quotas is not None or not _LOOP_CONTROL.exists() else "raw"

    async def prepare(self) -> None:
        """Make the folders and clear away what an earlier daemon left half done. Raises HostFailure."""
        await self._bounded.call(self._make_folders)
        for leftover in await self._bounded.call(self._leftovers):
            await filesystems.remove_tree(leftover)

    async def usage(self) -> StorageUsage:
        """Space; inactive when the folder is missing, not mounted though it should be, or hangs."""
        try:
            return await self._bounded.call(self._measure)
        except (BastideError, OSError):
            return _NO_SPACE

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
        parsed = parse_name(name)
        file = parsed.relative.rpartition("/")[2]
        return self._path / ".incoming" / f"{self._host}.{_RUN}.{secrets.token_hex(4)}.{file}"[-255:]

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
            temporary = self._path / ".incoming" / f"{self._host}.{_RUN}.{secrets.token_hex(4)}.{target.name}"
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

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _container_name(self, name: str) -> VolumeName:
        parsed = parse_name(name)
        if parsed.format not in ("subvol", "raw") or parsed.vmid is None or parsed.content in FILE_CONTENTS:
            raise InvalidParameter({"volume": f"'{name}' is not a container's volume"})
        return parsed

    def _where(self, parsed: VolumeName) -> Path:
        self._bounded.check()
        path = self._path / parsed.relative
        for part in (path, *path.parents):
            if part == self._path:
                break
            if part.is_symlink():
                raise InvalidParameter({"volume": f"'{parsed.text}' leads through a symbolic link"})
        return path

    def _mount_point(self, parsed: VolumeName) -> Path:
        return self._mounts / parsed.text

    async def _unmount(self, parsed: VolumeName) -> None:
        target = self._mount_point(parsed)
        while filesystems.mount_at(target) is not None:
            await filesystems.unmount(target)
        for folder in (target, target.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _check_mounted(self) -> None:
        wanted = self.config.is_mountpoint
        if wanted in (None, "no", "0", "off", "false"):
            return
        point = Path(wanted) if wanted is not None and wanted.startswith("/") else self._path
        if filesystems.mount_at(point) is None:
            raise HostFailure(f"unable to activate storage '{self.config.storage}': {point} is not mounted")

    def _look(self) -> None:
        self._real = self._path.resolve()
        self._quotas = quota.quota_mount(self._real)

    def _make_folders(self) -> None:
        self._check_mounted()
        if not self._path.is_dir():
            if not (self.config.mkdir and self.config.create_base_path):
                raise HostFailure(f"unable to activate storage '{self.config.storage}': {self._path} does not exist")
            filesystems.make_folder(self._path, 0o755)
        self._look()
        filesystems.make_folder(self._path / ".incoming", 0o700)
        filesystems.make_folder(self._path / ".trash", 0o700)
        if self.config.mkdir and self.config.create_subdirs:
            for content in sorted(self.capabilities.contents):
                # Containers' roots have to pass `images` to reach what lies in their own folder there.
                folder = self._path / FOLDERS[cast(Content, content)]
                filesystems.make_folder(folder, 0o711 if folder.name == "images" else 0o700)

    def _leftovers(self) -> Sequence[Path]:
        trash = [*(self._path / ".trash").iterdir()]
        ours = f"{self._host}."
        incoming = [*(self._path / ".incoming").iterdir()]
        dead = [path for path in incoming if path.name.startswith(ours) and f".{_RUN}." not in path.name]
        # Broken downloads are carried on by the next try, for a day.
        oldest = time.time() - _PARTIAL_SECONDS
        old = [path for path in incoming if path.name.startswith("partial.") and path.lstat().st_mtime < oldest]
        return trash + dead + old

    def _measure(self) -> StorageUsage:
        self._check_mounted()
        self._look()
        return StorageUsage(True, *filesystems.space(self._path))

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
