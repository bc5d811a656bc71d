"""The storage type `btrfs`: a folder on btrfs, laid out as that of type `dir`, where containers are subvolumes.

    images/<vmid>/vm-<vmid>-disk-<n>.subvol              a container's file system, a subvolume
    images/<vmid>/vm-<vmid>-disk-<n>.subvol.snapshots    its snapshots, subvolumes that nobody can write to
    images/<vmid>/vm-<vmid>-disk-<n>.raw                 a VM's disk, whose copies share its blocks

A container's size is a limit where the file system has quotas enabled, else it is told and not enforced. With `nocow`,
images are written in place: faster, without checksums. What they share with a copy is still written elsewhere, once.
"""

import asyncio
from pathlib import Path
from typing import Literal

from bastide.base.errors import HostFailure
from bastide.base.layout import Layout
from bastide.host import btrfs, filesystems
from bastide.model.storage import StorageConfig
from bastide.storage import sidecars
from bastide.storage.folder_storage import FolderStorage
from bastide.storage.names import VolumeName

_IN_PLACE = ".nocow"
_IMAGES = frozenset({".raw", ".qcow2", ".vmdk"})


class BtrfsStorage(FolderStorage):
    """A folder on btrfs."""

    shares_folders = True

    def __init__(self, config: StorageConfig, layout: Layout) -> None:
        super().__init__(config, layout)
        self._groups: Path | None = None

    @property
    def container_format(self) -> Literal["raw", "subvol"]:
        """Subvolumes, unless images are configured."""
        return "raw" if self.config.format == "raw" else "subvol"

    @property
    def _enforces_folders(self) -> bool:
        return self._groups is not None

    def _look(self) -> None:
        super()._look()
        if not btrfs.is_btrfs(self._path):
            raise HostFailure(f"unable to activate storage '{self.config.storage}': {self._path} is not on btrfs")
        self._groups = btrfs.quotas(self._path)
        if self.config.nocow:
            filesystems.make_folder(self._path / _IN_PLACE, 0o700)
            btrfs.forgo_copies(self._path / _IN_PLACE)

    def _passing_file(self, name: str) -> Path:
        path = super()._passing_file(name)
        # New files have the attributes of the folder that they are made in, and keep them. Only files that are alike
        # in this share blocks.
        in_place = self.config.nocow and path.suffix in _IMAGES
        return self._path / _IN_PLACE / path.name if in_place else path

    def _incoming(self) -> list[Path]:
        folder = self._path / _IN_PLACE
        return [*super()._incoming(), *(folder.iterdir() if folder.is_dir() else ())]

    def _make_subvol(self, folder: Path, size: int) -> None:
        btrfs.create(folder)
        if size and self._groups is not None:
            btrfs.set_limit(folder, size)

    def _limit_subvol(self, folder: Path, size: int) -> None:
        if self._groups is not None and btrfs.is_subvolume(folder):
            btrfs.set_limit(folder, size)
        sidecars.write(folder, ".size", str(size))

    def _folder_used(self, path: Path) -> int | None:
        counted = btrfs.used(path, self._groups) if self._groups is not None else None
        return None if counted is None else counted[1]

    async def _keep(self, parsed: VolumeName, path: Path, kept: Path) -> None:
        if parsed.format == "subvol" and btrfs.is_subvolume(path):
            await asyncio.to_thread(btrfs.snapshot, path, kept, read_only=True)
        else:
            await super()._keep(parsed, path, kept)

    async def _forget(self, kept: Path) -> None:
        if not await asyncio.to_thread(btrfs.delete, kept):
            await super()._forget(kept)

    async def _copy_folder(self, source: Path, target: Path, size: int) -> None:
        if not btrfs.is_subvolume(source):
            await super()._copy_folder(source, target, size)
            return
        await asyncio.to_thread(btrfs.snapshot, source, target)
        if size and self._groups is not None:
            await asyncio.to_thread(btrfs.set_limit, target, size)

    async def _remove(self, path: Path) -> None:
        """Remove what has been put aside: subvolumes at once, also those in a folder of snapshots."""
        if await asyncio.to_thread(_remove_subvolumes, path):
            return
        await asyncio.to_thread(_open_subvolumes, path)
        await filesystems.remove_tree(path, beyond=not await asyncio.to_thread(filesystems.mounts_within, path))


def _remove_subvolumes(path: Path) -> bool:
    """Remove a subvolume, and those right in a folder; whether nothing is left."""
    if path.is_symlink() or not path.is_dir():
        return False
    if btrfs.is_subvolume(path):
        return btrfs.delete(path)
    for inside in path.iterdir():
        if btrfs.is_subvolume(inside):
            btrfs.delete(inside)
    return False


def _open_subvolumes(path: Path) -> None:
    """Let those that hold others, and so are still there, be written to."""
    if path.is_symlink() or not path.is_dir():
        return
    for inside in (path, *path.iterdir()):
        if btrfs.is_subvolume(inside):
            btrfs.make_writable(inside)
