"""Containers' file systems in a storage's folder: folders, or ext4 in sparse files that are mounted while in use.

One that builds on a base is a top layer: what was written lies in its folder `upper`, and it is shown by overlayfs.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

from bastide.base.errors import AlreadyExists, HostFailure, InvalidParameter, NotFound, NotSupported, WrongState
from bastide.host import filesystems, idmap, overlay, quota, reflink
from bastide.host.overlay import Layer
from bastide.storage import below, sidecars
from bastide.storage.below import NOTHING, Below
from bastide.storage.folder_files import FolderFiles
from bastide.storage.names import FILE_CONTENTS, VolumeName, parse_name

_LOOP_CONTROL = Path("/dev/loop-control")
_MOST_LAYERS = 32


class FolderContainers(FolderFiles):
    """ContainerStorage of a folder."""

    @property
    def container_format(self) -> Literal["raw", "subvol"]:
        """The form of a container's volume with a size: as configured, else whichever enforces the size here."""
        if self.config.format in ("raw", "subvol"):
            return self.config.format
        return "subvol" if self._quotas is not None or not _LOOP_CONTROL.exists() else "raw"

    def volume_name(self, vmid: int, number: int, size: int) -> str:
        """`100/vm-100-disk-0.raw` where only an image enforces the size, else `.subvol`."""
        form = self.container_format if size > 0 else "subvol"
        return f"{vmid}/vm-{vmid}-disk-{number}.{form}"

    async def allocate(self, name: str, size: int) -> None:
        """Make an empty volume. Raises AlreadyExists, NoSpace; leaves nothing when it fails."""
        parsed = self._container_name(name)
        async with self._new_volume(parsed, size) as temporary:
            if parsed.format == "raw":
                if size <= 0:
                    raise InvalidParameter({"size": "an image needs a size"})
                await filesystems.make_ext4(temporary, size)
            else:
                await asyncio.to_thread(self._make_subvol, temporary, size)

    async def activate(self, name: str, first_id: int = 0) -> Path:
        """The folder that holds the volume's file system; of a base, to be read.

        Raises NotFound, WrongState while it is mounted for a guest with other ids.
        """
        parsed = self._container_name(name)
        async with self._lock(name):
            path, known = await self._bounded.call(lambda: self._found(parsed))
            if parsed.format == "subvol" and not known.layered and not parsed.is_base:
                return path
            target = self._mount_point(parsed)
            entry = filesystems.mount_at(target)
            if entry is not None:
                if overlay.mapped_to(entry.source) not in (None, first_id):
                    raise WrongState(f"volume '{self.config.storage}:{name}' is mounted for a guest with other ids")
                return target
            self._make_mount_point(target)
            try:
                await self._mount(parsed, path, known, target, first_id)
            except BaseException:
                await self._unmount(parsed)
                raise
            return target

    async def deactivate(self, name: str) -> None:
        """Unmount what `activate` mounted. Raises HostFailure when not all that was written has come to the disk."""
        parsed = self._container_name(name)
        async with self._named(), self._lock(name):
            image = self._mounted_image(parsed)
            try:
                if image is not None:
                    # What cannot be written at unmount(2) is told to nobody.
                    await asyncio.to_thread(filesystems.sync_tree, image)
            finally:
                await self._unmount(parsed)

    async def resize(self, name: str, size: int) -> None:
        """Grow a volume, or shrink one that is not active; may be repeated. Raises InvalidParameter naming `size`."""
        parsed = self._container_name(name)
        current = (await self.info(name)).size
        async with self._named(), self._lock(name):
            path = await self._bounded.call(lambda: self._where(parsed))
            if size < current:
                await self._shrink(parsed, path, size, current)
            elif parsed.format == "subvol":
                await asyncio.to_thread(self._limit_subvol, path, size)
            else:
                await self._grow(parsed, path, size)

    async def used(self, name: str) -> int | None:
        """Bytes in use as its guest sees it, or None when only a walk would tell."""
        parsed = self._container_name(name)
        target = self._mount_point(parsed)
        if parsed.format == "raw" and filesystems.mount_at(target) is not None:
            return (await asyncio.to_thread(filesystems.space, target))[1]
        return (await self.info(name)).used

    async def _mount(self, parsed: VolumeName, path: Path, known: Below, target: Path, first_id: int) -> None:
        if parsed.is_base:
            layers = await self._bounded.call(lambda: self._layers(parsed))
            await overlay.mount_read_only(layers, target, first_id if len(layers) > 1 else 0)
        elif known.layered:
            lower = await self._bounded.call(lambda: self._lower(known))
            top = path
            if parsed.format == "raw":
                top = self._upper_mount(parsed)
                self._make_mount_point(top)
                if filesystems.mount_at(top) is None:
                    await filesystems.mount_loop(path, top)
            await overlay.mount_layers(top, lower, target, first_id)
        else:
            await filesystems.mount_loop(path, target)

    def _make_mount_point(self, target: Path) -> None:
        filesystems.make_folder(self._mounts.parent, 0o711)
        filesystems.make_folder(self._mounts, 0o711)
        if not target.parent.exists():
            filesystems.make_folder(target.parent, 0o700)
        filesystems.make_folder(target, 0o700)

    def _upper_mount(self, parsed: VolumeName) -> Path:
        target = self._mount_point(parsed)
        return target.with_name(f"{target.name}.{overlay.UPPER}")

    def _mounted_image(self, parsed: VolumeName) -> Path | None:
        """Where an active volume's own image is mounted: beneath its overlay, or as it is."""
        for place in (self._upper_mount(parsed), self._mount_point(parsed)):
            if parsed.format == "raw" and filesystems.mount_at(place) is not None:
                return place
        return None

    def _layers(self, parsed: VolumeName, at: Path | None = None, depth: int = 0) -> list[Layer]:
        """What shows a volume, the uppermost layer first; `at` holds its own state when that is a snapshot's."""
        if depth > _MOST_LAYERS:
            raise HostFailure(f"volume '{self.config.storage}:{parsed.text}' has too many layers")
        path = self._where(parsed)
        known = below.read(path)
        own = at or self._mounted_image(parsed) or path
        return [Layer(own, overlay.UPPER), *self._lower(known, depth)] if known.layered else [Layer(own)]

    def _lower(self, known: Below, depth: int = 0) -> list[Layer]:
        if known.volume is not None:
            return self._layers(parse_name(known.volume), depth=depth + 1)
        if known.key is None:
            return []
        for form in (".subvol", ".raw"):
            found = self._base_path(known.key, form)
            if found.exists():
                return [Layer(found)]
        raise HostFailure(f"base '{known.key}' of storage '{self.config.storage}' is gone")

    @contextlib.asynccontextmanager
    async def _shown(self, layers: Sequence[Layer], first_id: int = 0) -> AsyncIterator[Path]:
        """A folder that shows layers while entered, to be read. Owners of several are those from `first_id` on."""
        if len(layers) == 1 and await self._bounded.call(layers[0].path.is_dir):
            yield layers[0].path / layers[0].inside
            return
        async with self._passing_mount() as target:
            await overlay.mount_read_only(layers, target, first_id if len(layers) > 1 else 0)
            yield target

    @contextlib.asynccontextmanager
    async def _passing_mount(self) -> AsyncIterator[Path]:
        """A mount point for a moment; the next daemon unmounts what this one leaves there."""
        target = self._mounts / self._passing()
        self._make_mount_point(target)
        try:
            yield target
        finally:
            overlay.clear(target)
            if filesystems.mount_at(target) is not None:
                await asyncio.shield(filesystems.unmount(target))
            idmap.unmount_folder(target)

    @contextlib.asynccontextmanager
    async def _new_volume(self, parsed: VolumeName, size: int, known: Below = NOTHING) -> AsyncIterator[Path]:
        """A path to make the volume at, which gets its place when the body ends and goes when it fails.

        Raises NotFound when the base went meanwhile.
        """
        async with self._named(), self._lock(parsed.text):
            await self._bounded.call(lambda: self._refuse_taken(parsed))
            temporary = self._temporary(parsed)
            kept = size if parsed.format == "subvol" else None
            try:
                yield temporary
                async with self._holding(known):
                    await asyncio.to_thread(self._put, temporary, parsed, size=kept, below=known)
            except BaseException:
                await self._drop(temporary)
                raise

    @contextlib.asynccontextmanager
    async def _holding(self, known: Below) -> AsyncIterator[None]:
        """What a volume is to build on stays while entered. Raises NotFound when it is gone."""
        async with contextlib.AsyncExitStack() as stack:
            for volume in sorted({known.copied, known.volume} - {None}, key=str):
                await stack.enter_async_context(self._lock(str(volume)))
                await self.info(str(volume))
            if known.key is not None and known.copied is None:
                await stack.enter_async_context(self._lock(f".base/{known.key}"))
                if known.key not in await self._bounded.call(lambda: dict(self._bases())):
                    raise NotFound(f"base '{known.key}' does not exist")
            yield

    async def _grow(self, parsed: VolumeName, path: Path, size: int) -> None:
        """Through the journal of a mounted file system, so that what ends in the middle has harmed nothing."""
        if self._mounted_image(parsed) is None:
            with contextlib.suppress(NotSupported):
                async with self._passing_mount() as target:
                    await filesystems.mount_loop(path, target)
                    await filesystems.grow_ext4(path, size)
                    await asyncio.to_thread(filesystems.sync_tree, target)
                return
        await filesystems.grow_ext4(path, size)

    async def _shrink(self, parsed: VolumeName, path: Path, size: int, current: int) -> None:
        """Through a copy that takes the volume's place once it is checked."""
        if size <= 0 or filesystems.mount_at(self._mount_point(parsed)) is not None:
            raise InvalidParameter({"size": f"unable to shrink disk size from {current} to {size} bytes"})
        if parsed.format == "subvol":
            held = self._folder_used(path)
            held = await asyncio.to_thread(filesystems.tree_bytes, path) if held is None else held
            if size < held:
                raise InvalidParameter({"size": f"unable to shrink disk size to {size} bytes: {held} are in use"})
            await asyncio.to_thread(self._limit_subvol, path, size)
            return
        temporary = self._temporary(parsed)
        try:
            await reflink.copied(path, temporary)
            await filesystems.shrink_ext4(temporary, size)
            await asyncio.to_thread(_replace, temporary, path)
        except BaseException:
            await self._drop(temporary)
            raise

    def _there(self, parsed: VolumeName) -> Path:
        """Where a volume lies. Raises NotFound. Blocks."""
        path = self._where(parsed)
        if not path.exists():
            raise NotFound(f"volume '{self.config.storage}:{parsed.text}' does not exist")
        return path

    def _found(self, parsed: VolumeName) -> tuple[Path, Below]:
        """Where a volume lies, and what it builds on. Raises NotFound. Blocks."""
        path = self._there(parsed)
        return path, below.read(path)

    def _refuse_taken(self, parsed: VolumeName) -> None:
        """Raise AlreadyExists when something lies where a new volume is to lie. Blocks."""
        if os.path.lexists(self._where(parsed)):
            raise AlreadyExists(f"volume '{self.config.storage}:{parsed.text}' already exists")

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


def _replace(temporary: Path, path: Path) -> None:
    with filesystems.translated(f"write {path}"):
        filesystems.sync_file(temporary)
        temporary.replace(path)
        filesystems.sync_folder(path.parent)
