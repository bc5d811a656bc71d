"""What a storage's folder holds: its volumes listed and told, plain files, removal."""

import asyncio
import contextlib
import os
import stat
from collections.abc import Mapping, MutableSequence, Sequence
from pathlib import Path
from typing import cast

from bastide.base.errors import HostFailure, InvalidParameter, NotFound, WrongState
from bastide.host import filesystems, overlay, quota, reflink
from bastide.model.storage import Content, Volume
from bastide.storage import below, sidecars
from bastide.storage.folder_disks import FolderDisks, disk_size
from bastide.storage.names import SIDECARS, VolumeName, backup_name, log_path, parse_name

GUESTS = frozenset({"images", "rootdir"})
"""Contents that are guests' disks and file systems."""


class FolderFiles(FolderDisks):
    """Storage and FileStorage of a folder."""

    async def list(self, content: Content | None = None, vmid: int | None = None) -> Sequence[Volume]:
        """Its volumes, by content and name. Raises HostFailure when the storage is not there or does not answer."""
        contents = self.contents if content is None else {content} & self.contents

        def look() -> Sequence[Volume]:
            # A folder that is not mounted is empty, too: whoever asks is not to take its volumes for gone.
            self._check_mounted()
            return self._scan(frozenset(contents), vmid)

        return await self._bounded.call(look)

    async def info(self, name: str) -> Volume:
        """One volume. Raises NotFound."""
        parsed = parse_name(name)
        volume = await self._bounded.call(lambda: self._describe(parsed))
        if volume is None:
            raise NotFound(f"volume '{self.config.storage}:{name}' does not exist")
        return volume

    async def delete(self, name: str) -> None:
        """Remove a volume. Raises WrongState when it is protected or has something mounted in it."""
        parsed = parse_name(name)
        async with self._named(), self._lock(name):
            path = await self._bounded.call(lambda: self._where(parsed))
            if await self._bounded.call(path.with_name(f"{path.name}.protected").exists):
                raise WrongState(f"can't remove protected volume '{self.config.storage}:{name}'")
            if parsed.content in GUESTS:
                await self._unmount(parsed)
            if parsed.is_base and (clones := await self.clones_of(name)):
                raise WrongState(f"can't remove volume '{self.config.storage}:{name}': '{clones[0]}' builds on it")
            if inside := await asyncio.to_thread(filesystems.mounts_within, path):
                raise WrongState(f"can't remove volume '{self.config.storage}:{name}': {inside[0]} is mounted")
            trash: MutableSequence[Path] = []
            try:
                await self._bounded.call(lambda: self._discard(parsed, path, trash))
            finally:
                await self._clear(trash)

    async def clones_of(self, base: str) -> Sequence[str]:
        """The names of the volumes that build on a base."""
        place = parse_name(base).place
        found = await self._bounded.call(self._building)
        return sorted(f"{place}/{volume}" if _kind(volume) == "vm" else volume for volume in found.get(place, ()))

    def _building(self) -> Mapping[str, Sequence[str]]:
        """The places of all volumes that build on something, by that base's name or key."""
        found: dict[str, set[str]] = {}
        folder = self._path / self._folders["images"]
        for sidecar in folder.glob(f"*/*{below.SUFFIX}"):
            volume = sidecar.with_name(sidecar.name.removesuffix(below.SUFFIX))
            with contextlib.suppress(HostFailure):
                known = below.read(volume)
                if os.path.lexists(volume):
                    for base in {known.copied, known.volume, known.key} - {None}:
                        found.setdefault(str(base), set()).add(f"{volume.parent.name}/{volume.name}")
        return {base: sorted(volumes) for base, volumes in found.items()}

    # Plain files.

    def path(self, name: str) -> Path:
        """Where a volume lies; looks at the disk.

        Raises InvalidParameter for a faulty name or a symbolic link, HostFailure for a storage that is not there.
        """
        parsed = parse_name(name)
        # What would be written without the mount is hidden when it is there again, and fills another disk.
        self._check_mounted()
        return self._where(parsed)

    async def file_path(self, name: str) -> Path:
        """The same, within a deadline."""
        return await self._bounded.call(lambda: self.path(name))

    def incoming(self, name: str) -> Path:
        """A fresh path to write a file to that shall become `name`; leftovers go when the next daemon starts."""
        return self._temporary(parse_name(name))

    async def publish(self, incoming: Path, name: str) -> Volume:
        """Sync a file and give it its name in one step. Raises AlreadyExists."""
        target = await self.file_path(name)
        async with self._named():
            await asyncio.to_thread(filesystems.publish_file, incoming, target)
        return await self.info(name)

    async def annotate(self, name: str, notes: str | None = None, protected: bool | None = None) -> None:
        """Set a volume's notes (empty: none) and protection; None leaves them. Raises NotFound."""
        await self.info(name)
        path = await self.file_path(name)
        if notes is not None and len(notes.encode()) > sidecars.LIMIT:
            raise InvalidParameter({"notes": f"at most {sidecars.LIMIT} bytes"})

        def write() -> None:
            with filesystems.translated(f"write the notes of {name}"):
                if notes is not None:
                    sidecars.write(path, ".notes", notes or None)
                if protected is not None:
                    sidecars.write(path, ".protected", "" if protected else None)

        async with self._named():
            await self._bounded.call(write)

    async def keep_log(self, name: str, log: str) -> None:
        """Put the log of how a backup was made beside it."""
        path = log_path(await self.file_path(name))
        if path is not None:
            async with self._named():
                await self._bounded.call(lambda: filesystems.replace_text(path, log))

    async def checksum(self, name: str) -> str | None:
        """The SHA-256 beside a file."""
        path = await self.file_path(name)
        return await self._bounded.call(lambda: sidecars.read_checksum(path))

    async def keep_checksum(self, name: str, digest: str) -> None:
        """Write a file's SHA-256 beside it. Raises NotFound."""
        async with self._named(), self._lock(name):
            await self.info(name)
            path = await self.file_path(name)
            with filesystems.translated(f"write the checksum of {name}"):
                await self._bounded.call(lambda: sidecars.write(path, ".sha256", f"{digest}  {path.name}\n"))

    def _mount_point(self, parsed: VolumeName) -> Path:
        return self._mounts / parsed.place

    async def _unmount(self, parsed: VolumeName) -> None:
        target = self._mount_point(parsed)
        if not target.parent.exists():
            return
        overlay.clear(target)
        upper = target.with_name(f"{target.name}.{overlay.UPPER}")
        for mounted in (target, upper):
            while filesystems.mount_at(mounted) is not None:
                await filesystems.unmount(mounted)
        for folder in (target, upper, target.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _scan(self, contents: frozenset[str], vmid: int | None) -> Sequence[Volume]:
        found: dict[str, Volume] = {}
        for content in sorted(contents):
            folder = self._folders[cast(Content, content)]
            guests_own = content in ("images", "rootdir")
            if guests_own:
                guests = [str(vmid)] if vmid is not None else _names(self._path / folder)
                names = [f"{guest}/{file}" for guest in guests for file in _names(self._path / folder / guest)]
            else:
                names = [f"{content}/{file}" for file in _names(self._path / folder)]
            for name in names:
                with contextlib.suppress(InvalidParameter):
                    parsed = parse_name(name)
                    volume = self._describe(parsed)
                    # An image may be a machine's disk as well as a container's file system: only its guest tells.
                    fits = parsed.content == content or (parsed.format == "raw" and guests_own)
                    if volume is not None and fits and (vmid is None or volume.vmid == vmid):
                        found.setdefault(name, volume)
        return sorted(found.values(), key=lambda volume: (volume.content, volume.volid))

    def _describe(self, parsed: VolumeName) -> Volume | None:
        path = self._where(parsed)
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        wanted = stat.S_ISDIR if parsed.format == "subvol" else stat.S_ISREG
        if not wanted(status.st_mode):
            return None
        parent = _parent(path)
        if parsed.base is not None and parsed.base != parent:
            return None
        size, used = self._sizes(parsed, path, status)
        backup = backup_name(parsed.text)
        name = parsed.place if parent is None or parsed.is_base else f"{parent}/{parsed.place}"
        return Volume(
            volid=f"{self.config.storage}:{name}",
            content=parsed.content,
            format=parsed.format,
            size=size,
            used=used,
            ctime=backup.time if backup else int(status.st_mtime if parsed.format != "subvol" else status.st_ctime),
            vmid=parsed.vmid,
            notes=sidecars.read(path, ".notes"),
            protected=sidecars.read(path, ".protected") is not None,
            parent=None if parent is None else f"{self.config.storage}:{parent}",
            subtype=backup.kind if backup else None,
        )

    def _sizes(self, parsed: VolumeName, path: Path, status: os.stat_result) -> tuple[int, int | None]:
        """The size of a volume, and bytes that are its own."""
        if parsed.format == "subvol":
            return int(sidecars.read(path, ".size") or 0), self._folder_used(path)
        used = status.st_blocks * 512
        if self._reflink and parsed.content in GUESTS:
            with contextlib.suppress(OSError):
                used = reflink.own_bytes(path)
        return disk_size(path, parsed.format, status.st_size) if parsed.content in GUESTS else status.st_size, used

    def _folder_used(self, path: Path) -> int | None:
        limits = quota.usage(path, self._quotas) if self._quotas is not None else None
        return limits[0] if limits else None

    def _discard(self, parsed: VolumeName, path: Path, found: MutableSequence[Path]) -> None:
        """Put a volume aside, and then all that lies beside it; `found` gets where it is then."""
        with filesystems.translated(f"remove {parsed.text}"):
            if parsed.content == "backup" and (log := log_path(path)) is not None:
                log.unlink(missing_ok=True)  # first: what is left of the others tells that they are nobody's
            trash = self._trash(path)
            with contextlib.suppress(FileNotFoundError):
                path.rename(trash)
                found.append(trash)
            guests_own = parsed.content in GUESTS
            if guests_own and (snapshots := self._discard_snapshots(path)) is not None:
                found.append(snapshots)
            for suffix in SIDECARS:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            if path.parent.is_dir():
                # Its record goes next: a volume that comes back after a loss of power would be nobody's.
                filesystems.sync_folder(path.parent)
            if guests_own:
                with contextlib.suppress(OSError):
                    path.parent.rmdir()  # the guest's last volume


def _parent(path: Path) -> str | None:
    try:
        return below.read(path).parent
    except HostFailure:
        return None


def _kind(volume: str) -> str:
    return volume.partition("/")[2].partition("-")[0]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
