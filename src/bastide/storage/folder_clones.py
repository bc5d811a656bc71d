"""Linked clones and copies of volumes in a storage's folder."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from bastide.base.errors import AlreadyExists, InvalidParameter, NotSupported, WrongState
from bastide.host import filesystems, overlay, qemu_img, reflink, trees
from bastide.host.overlay import Layer
from bastide.storage import names, sidecars
from bastide.storage.below import Below
from bastide.storage.folder_snapshots import FolderSnapshots
from bastide.storage.names import SIDECARS, VolumeName, parse_name
from bastide.storage.protocol import Progress

_CLONED = ("raw", "qcow2", "subvol")


class FolderClones(FolderSnapshots):
    """CloneStorage of a folder."""

    shares_folders = False
    """Whether copies of folders are made at once and share all, so that no layers are needed."""

    async def make_base(self, name: str) -> str:
        """Make an inactive volume a base; its new name. Raises WrongState when it has snapshots."""
        parsed = parse_name(name)
        base = parse_name(names.base_name(name))
        if parsed.format not in _CLONED or parsed.is_base:
            raise InvalidParameter({"volume": f"'{name}' cannot become a base"})
        async with self._named(), self._lock(name), self._lock(base.text):
            source = await self._bounded.call(lambda: self._where(parsed))
            target = await self._bounded.call(lambda: self._where(base))
            if await self._bounded.call(lambda: os.path.lexists(source)):
                if await self.snapshots(name):
                    raise WrongState(f"volume '{self.config.storage}:{name}' has snapshots: delete them first")
                await self._unmount(parsed)
                if await self._bounded.call(lambda: os.path.lexists(target)):
                    raise AlreadyExists(f"volume '{self.config.storage}:{base.text}' already exists")
                await asyncio.to_thread(_become, source, target)
            else:
                await self._bounded.call(lambda: self._there(base))
            for suffix in SIDECARS:
                await asyncio.to_thread(sidecars.write, source, suffix, None)
        return base.text

    def clone_name(self, base: str, vmid: int, number: int, content: Literal["images", "rootdir"]) -> str:
        """`100/base-100-disk-0.raw/101/vm-101-disk-0.qcow2`: a disk that shares no blocks needs a backing file."""
        form = parse_name(base).format
        overlaid = content == "images" and form == "raw" and not self._reflink
        return names.clone_name(base, vmid, number, "qcow2" if overlaid else form)

    async def clone(self, base: str, name: str) -> None:
        """Make a linked clone. Raises NotFound, AlreadyExists, NoSpace, NotSupported; leaves nothing then."""
        origin, parsed = parse_name(base), parse_name(name)
        if not origin.is_base or parsed.base != origin.place or parsed.is_base or parsed.format not in _CLONED:
            raise InvalidParameter({"volume": f"'{name}' is no name of a linked clone of '{base}'"})
        path, known = await self._bounded.call(lambda: self._found(origin))
        size = (await self.info(origin.text)).size
        sharing = Below(origin.place, known.volume, known.key)
        over = Below(volume=origin.place)
        if parsed.format == "subvol" and origin.format == "subvol" and self.shares_folders:
            async with self._new_volume(parsed, size, sharing) as temporary:
                await self._copy_folder(path, temporary, size)
        elif parsed.format == origin.format and parsed.format != "subvol" and self._reflink:
            async with self._new_volume(parsed, size, sharing) as temporary:
                await reflink.copied(path, temporary)
        elif parsed.format == "qcow2" and origin.format != "subvol":
            async with self._new_volume(parsed, size, over) as temporary:
                await self._make_overlay(parsed, temporary, path, origin.format, size)
        elif parsed.format != "qcow2" and origin.format != "qcow2":
            if origin.format == "raw":
                await filesystems.settle_ext4(path)
            async with self._new_volume(parsed, size, over) as temporary:
                await self._make_layer(parsed, temporary, size, over)
        else:
            raise NotSupported(f"'{name}' cannot be a linked clone of '{base}'")

    async def copy(
        self,
        name: str,
        target: str,
        snapshot: str | None = None,
        progress: Progress | None = None,
        *,
        rate: int = 0,
    ) -> None:
        """Copy a volume, or its state at a snapshot; it builds on nothing. Raises as the protocol says."""
        source, parsed = parse_name(name), parse_name(target)
        path, known = await self._bounded.call(lambda: self._found(source))
        disk = {source.format, parsed.format} & {"qcow2", "vmdk"}
        if parsed.base is not None or parsed.is_base or (disk and "subvol" in (source.format, parsed.format)):
            raise InvalidParameter({"volume": f"'{target}' cannot be a copy of '{name}'"})
        # Before anything is held: two volumes that were to become copies of each other would wait for ever.
        if await self._bounded.call(lambda: os.path.lexists(self._where(parsed))):
            raise AlreadyExists(f"volume '{self.config.storage}:{target}' already exists")
        if disk:
            image = await self.disk_image(name, snapshot)
            size = (await self.info(name)).size
            async with self._new_volume(parsed, size) as temporary:
                await qemu_img.convert(image, source.format, temporary, parsed.format, progress=progress, rate=rate)
            return
        state = path if snapshot is None else await self._kept(source, path, snapshot)
        size = await self._size_of(source, state)
        async with self._copying(source, snapshot), self._new_volume(parsed, size) as temporary:
            if source.format == parsed.format == "raw" and not known.layered:
                await reflink.copied(state, temporary, progress, rate=rate)
            elif source.format == parsed.format == "subvol" and not known.layered:
                await self._copy_slowly(state, temporary, size, rate)
            else:
                at = None if snapshot is None else state
                await self._copy_files(source, at, parsed, temporary, size, rate=rate)
        if progress is not None:
            progress(100.0)

    async def _size_of(self, source: VolumeName, state: Path) -> int:
        if source.format == "subvol":
            return int(await self._bounded.call(lambda: sidecars.read(state, ".size")) or 0)
        return (await self._bounded.call(state.stat)).st_size

    @contextlib.asynccontextmanager
    async def _copying(self, source: VolumeName, snapshot: str | None) -> AsyncIterator[None]:
        """The present state of an active volume stands still while it is copied; a snapshot's does anyway."""
        if snapshot is not None:
            yield
            return
        async with self._lock(source.text), self._still(source):
            yield

    async def _copy_files(
        self, source: VolumeName, at: Path | None, parsed: VolumeName, temporary: Path, size: int, *, rate: int
    ) -> None:
        """Copy a file system file by file, as all its layers show it."""
        if at is not None and source.format == "raw":
            await filesystems.settle_ext4(at)
        layers = await self._bounded.call(lambda: self._layers(source, at))
        async with self._shown(layers) as shown:
            if parsed.format == "subvol":
                await self._copy_slowly(shown, temporary, size, rate)
                return
            if size <= 0:
                raise InvalidParameter({"size": "an image needs a size"})
            await filesystems.make_ext4(temporary, size)
            async with self._passing_mount() as target:
                await filesystems.mount_loop(temporary, target)
                await (trees.copy_folder(shown, target, rate) if rate else filesystems.copy_tree(shown, target))
                await asyncio.to_thread(filesystems.sync_tree, target)

    async def _copy_slowly(self, source: Path, target: Path, size: int, rate: int) -> None:
        """Copy a folder, at most so many bytes a second where nothing is shared."""
        if not rate or self.shares_folders or self._reflink:
            await self._copy_folder(source, target, size)
            return
        await asyncio.to_thread(self._make_subvol, target, size)
        await trees.copy_folder(source, target, rate)

    async def _make_layer(self, parsed: VolumeName, temporary: Path, size: int, known: Below) -> None:
        """Make the top layer of a file system over what is below it."""
        if not self.overlays:
            raise NotSupported(f"this host cannot layer file systems on storage '{self.config.storage}'")
        lower = await self._bounded.call(lambda: self._lower(known))
        if parsed.format == "subvol":
            await self._check_folders()
            await asyncio.to_thread(self._make_subvol, temporary, size)
            await self._make_top(temporary, lower)
            return
        if size <= 0:
            raise InvalidParameter({"size": "an image needs a size"})
        content = self._temporary(parsed)
        await self._bounded.call(content.mkdir)
        try:
            await self._make_top(content, lower)
            await filesystems.make_ext4(temporary, size, content)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, content))  # four folders, and nothing in them

    async def _make_top(self, folder: Path, lower: list[Layer]) -> None:
        # Only the root's attributes are wanted, which the uppermost layer below has.
        async with self._shown(lower[:1]) as shown:
            await asyncio.to_thread(overlay.make_top, folder, shown)

    async def _make_overlay(self, parsed: VolumeName, temporary: Path, base: Path, form: str, size: int) -> None:
        """Make an image that builds on another, which its header names relative to its future place."""
        target = await self._bounded.call(lambda: self._where(parsed))
        name = os.path.relpath(base, target.parent)
        await qemu_img.create_overlay(temporary, name, form, size)

    @property
    def overlays(self) -> bool:
        """Whether a container's file system can be a layer over a base."""
        return overlay.supported()

    async def _check_folders(self) -> None:
        """Raise NotSupported when folders here cannot be layers, because their owners cannot be mapped."""


def _become(source: Path, target: Path) -> None:
    """Give a volume its name as a base; what lies beside it goes ahead."""
    with filesystems.translated(f"make {target}"):
        for suffix in SIDECARS:
            sidecars.write(target, suffix, sidecars.read(source, suffix))
        if source.is_file():
            source.chmod(0o400)
        source.rename(target)
        filesystems.sync_folder(target.parent)
