"""Containers' file systems in a storage's folder: folders, or ext4 in sparse files that are mounted while in use."""

import asyncio
import contextlib
from pathlib import Path
from typing import Literal

from bastide.base.errors import AlreadyExists, InvalidParameter, NotFound
from bastide.host import filesystems, quota
from bastide.storage import sidecars
from bastide.storage.folder_disks import DISK_FORMATS
from bastide.storage.folder_files import FolderFiles
from bastide.storage.names import FILE_CONTENTS, VolumeName, parse_name
from bastide.storage.protocol import Capabilities

_LOOP_CONTROL = Path("/dev/loop-control")


class FolderStorage(FolderFiles):
    """FileStorage, ContainerStorage and DiskStorage of a folder in one."""

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

    async def activate(self, name: str, first_id: int = 0) -> Path:  # noqa: ARG002 - shown with mapped owners
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

    def _container_name(self, name: str) -> VolumeName:
        parsed = parse_name(name)
        if parsed.format not in ("subvol", "raw") or parsed.vmid is None or parsed.content in FILE_CONTENTS:
            raise InvalidParameter({"volume": f"'{name}' is not a container's volume"})
        return parsed

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
