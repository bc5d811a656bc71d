"""What a storage's folder holds: its volumes listed and told, plain files, removal."""

import asyncio
import contextlib
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bastide.base.errors import InvalidParameter, NotFound, WrongState
from bastide.host import filesystems, quota
from bastide.model.storage import Content, Volume
from bastide.storage import sidecars
from bastide.storage.folder_disks import FolderDisks, disk_size
from bastide.storage.names import FILE_CONTENTS, SIDECARS, VolumeName, parse_name


@dataclass(frozen=True, slots=True)
class _View:
    """What is mounted, read once for a whole listing. `mounts` is the folder of our mounts, without links."""

    mounts: Path
    mounted: frozenset[Path]


class FolderFiles(FolderDisks):
    """Storage and FileStorage of a folder."""

    async def list(self, content: Content | None = None, vmid: int | None = None) -> Sequence[Volume]:
        """Its volumes, by content and name. Raises HostFailure when the storage does not answer."""
        contents = self.contents if content is None else {content} & self.contents
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
                    volume = self._describe(parsed, view)
                    # An image may be a machine's disk as well as a container's file system: only its guest tells.
                    fits = parsed.content == content or (parsed.format == "raw" and guests_own)
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


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
