"""Bases in a storage's folder: what was unpacked or imported once, below `.base`, for guests to build on.

.base/KEY.subvol      a container's file system as a folder: the layer below guests'
.base/KEY.raw         the same in an ext4 image as small as can be, whose copies share its blocks and grow
.base/KEY.disk.raw    a VM's disk
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

from bastide.base.errors import AlreadyExists, InvalidParameter, NoSpace, NotFound, NotSupported
from bastide.host import disk_image, filesystems, idmap, qemu_img, reflink
from bastide.storage.below import Below
from bastide.storage.folder_clones import FolderClones
from bastide.storage.names import VolumeName, parse_name
from bastide.storage.protocol import Progress


class FolderBases(FolderClones):
    """BaseStorage of a folder."""

    _maps_owners: bool | None = None

    async def bases(self) -> Sequence[str]:
        """The keys of the bases that are there."""
        return await self._bounded.call(lambda: sorted(key for key, _ in self._bases()))

    @contextlib.asynccontextmanager
    async def making_base(self, key: str, size: int) -> AsyncIterator[Path]:
        """While entered, the folder to fill; it becomes a base at the end. Raises AlreadyExists, NoSpace."""
        await self._refuse_base(key)
        target = self._base_path(key, f".{await self._base_form()}")
        temporary = self._passing_file(target.name)
        async with self._named(NoSpace), self._gone_if_it_fails(temporary):
            if target.suffix == ".raw":
                await filesystems.make_ext4(temporary, size)
                async with self._passing_mount() as folder:
                    await filesystems.mount_loop(temporary, folder)
                    yield folder
                    await asyncio.to_thread(filesystems.sync_tree, folder)
                # It grows with every guest's copy; it is checked here once, so that they need not be.
                await filesystems.shrink_ext4(temporary)
            else:
                await asyncio.to_thread(self._make_subvol, temporary, 0)
                yield temporary
                await asyncio.to_thread(filesystems.sync_tree, temporary)
            await self._publish_base(key, temporary, target)

    async def import_base(
        self, key: str, source: Path, source_format: str, progress: Progress | None = None, *, rate: int = 0
    ) -> None:
        """Make a base of an image from outside. Raises AlreadyExists, NoSpace, HostFailure when it is refused."""
        await self._refuse_base(key)
        target = self._base_path(key, ".disk.raw")
        temporary = self._passing_file(target.name)
        with disk_image.opened(source) as opened:
            await asyncio.to_thread(disk_image.check, opened, source_format)
            async with self._named(), self._gone_if_it_fails(temporary):
                await qemu_img.convert(opened, source_format, temporary, "raw", progress=progress, rate=rate)
                await self._publish_base(key, temporary, target)

    @contextlib.asynccontextmanager
    async def _gone_if_it_fails(self, temporary: Path) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            await self._drop(temporary)
            raise

    async def from_base(self, key: str, name: str, size: int) -> None:
        """Make a guest's volume. Raises as the protocol says, NotSupported for a form that cannot be had of it."""
        parsed = parse_name(name)
        found = await self._bounded.call(lambda: dict(self._bases()).get(key))
        if found is None:
            raise NotFound(f"base '{key}' does not exist")
        if parsed.base is not None or parsed.is_base or parsed.content not in ("images", "rootdir"):
            raise InvalidParameter({"volume": f"'{name}' cannot be made of a base"})
        if found.name.endswith(".disk.raw"):
            await self._disk_of(found, key, parsed, size)
        elif parsed.format == "subvol" and found.suffix == ".subvol" and self.shares_folders:
            async with self._new_volume(parsed, size) as temporary:
                await self._copy_folder(found, temporary, size)
        elif parsed.format == "raw" and found.suffix == ".raw" and self._reflink:
            async with self._new_volume(parsed, size) as temporary:
                await _grown(found, temporary, size)
        elif parsed.format in ("raw", "subvol") and self.layers:
            known = Below(key=key)
            async with self._new_volume(parsed, size, known) as temporary:
                await self._make_layer(parsed, temporary, size, known)
        else:
            raise NotSupported(f"'{name}' shares nothing with a container's base here")

    async def drop_base(self, key: str) -> bool:
        """Remove a base; whether it is gone: one that volumes build on stays."""
        async with self._lock(f".base/{key}"):
            found = await self._bounded.call(lambda: dict(self._bases()).get(key))
            if found is None:
                return True
            if key in await self._bounded.call(self._building):
                return False
            trash = self._trash(found)
            with filesystems.translated(f"remove the base '{key}'"):
                await self._bounded.call(lambda: found.rename(trash))
        await self._clear([trash])
        return True

    async def _disk_of(self, found: Path, key: str, parsed: VolumeName, size: int) -> None:
        least = (await self._bounded.call(found.stat)).st_size
        if size < least:
            raise InvalidParameter({"size": f"the image has {least} bytes"})
        if parsed.format == "qcow2":
            known = Below(key=key)
            async with self._new_volume(parsed, size, known) as temporary:
                await self._make_overlay(parsed, temporary, found, "raw", size)
        elif parsed.format == "raw":
            async with self._new_volume(parsed, size) as temporary:
                await reflink.copied(found, temporary)
                await qemu_img.resize(temporary, "raw", size)
        else:
            raise NotSupported(f"a disk in the format '{parsed.format}' shares nothing with a base")

    @property
    def layers(self) -> bool:
        """Whether a container of the usual form gets a layer over a base, because copies are none that share."""
        return not (self._reflink if self.container_format == "raw" else self.shares_folders)

    async def _base_form(self) -> Literal["subvol", "raw"]:
        """What guests here can share: images where blocks are shared, folders where owners are mapped."""
        if self.shares_folders and self.container_format == "subvol":
            return "subvol"
        if self._reflink and self.container_format == "raw":
            return "raw"
        return "subvol" if await self._mapping() else "raw"

    async def _mapping(self) -> bool:
        if self._maps_owners is None:
            self._maps_owners = await idmap.supported(self._path)
        return self._maps_owners

    async def _check_folders(self) -> None:
        if not await self._mapping():
            raise NotSupported(f"folders of storage '{self.config.storage}' cannot be shown with mapped owners")

    async def _refuse_base(self, key: str) -> None:
        if key in dict(await self._bounded.call(lambda: list(self._bases()))):
            raise AlreadyExists(f"base '{key}' already exists")

    async def _publish_base(self, key: str, temporary: Path, target: Path) -> None:
        async with self._lock(f".base/{key}"):
            await self._refuse_base(key)
            with filesystems.translated(f"make the base '{key}'"):
                if temporary.is_file():
                    temporary.chmod(0o400)
                    await asyncio.to_thread(filesystems.sync_file, temporary)
                temporary.rename(target)
                try:
                    await asyncio.to_thread(filesystems.sync_folder, target.parent)
                except OSError:
                    target.rename(temporary)
                    raise


async def _grown(base: Path, target: Path, size: int) -> None:
    least = base.stat().st_size
    if size < least:
        raise InvalidParameter({"size": f"the files of the base need {least} bytes"})
    await reflink.copied(base, target)
    if size > least:
        await filesystems.grow_ext4(target, size, checked=True)
