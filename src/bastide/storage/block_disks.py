"""VMs' disks that are block devices."""

import asyncio
from pathlib import Path

from bastide.base.errors import InvalidParameter, NotFound
from bastide.host import block_ext4, disk_image
from bastide.host.run import finished
from bastide.model.storage import DiskFormat, DiskImage
from bastide.storage import block_names
from bastide.storage.block import Block
from bastide.storage.block_names import BlockName
from bastide.storage.protocol import Progress


class BlockDisks(Block):
    """DiskStorage of a pool."""

    def disk_name(self, vmid: int, label: int | str, form: DiskFormat | None = None) -> str:
        """`vm-100-disk-0`, or `vm-100-cloudinit` for a word. Raises InvalidParameter for another format than raw."""
        if form not in (None, "raw"):
            raise InvalidParameter({"format": f"storage '{self.config.storage}' has raw disks only, not '{form}'"})
        return block_names.disk_name(vmid, label, self.style)

    async def allocate_disk(self, name: str, size: int) -> None:
        """Make an empty disk. Raises AlreadyExists, NoSpace, InvalidParameter; leaves nothing when it fails."""
        parsed = self._disk_name(name)
        rounded = self._rounded(size)
        async with self._making(parsed.piece, self._volid(parsed)) as temporary:
            await self._check_room(rounded)
            await self.pool.make(temporary, rounded, parsed.vmid)

    async def disk_path(self, name: str) -> Path:
        """The device, made if there is none yet. Raises NotFound."""
        return (await self.disk_image(name)).path

    async def disk_image(self, name: str, snapshot: str | None = None) -> DiskImage:
        """The device of a disk, or of its state at a snapshot. Raises NotFound."""
        parsed = self._disk_name(name)
        await self._piece(parsed)
        if snapshot is not None and snapshot not in await self._snapshots(parsed.piece):
            raise NotFound(f"volume '{self._volid(parsed)}' has no snapshot '{snapshot}': it does not exist")
        async with self._lock(parsed.piece):
            return DiskImage(await self.pool.device(parsed.piece, snapshot), "raw", device=True)

    async def resize_disk(self, name: str, size: int) -> None:
        """Grow a disk; works while it is in use. Raises NotFound, InvalidParameter when it would shrink, NoSpace."""
        parsed = self._disk_name(name)
        async with self._lock(parsed.piece):
            current = (await self._piece(parsed)).size
            rounded = self._rounded(size)
            if rounded < current:
                raise InvalidParameter({"size": f"unable to shrink disk size from {current} to {size} bytes"})
            if rounded > current:
                await finished(self.pool.grow(parsed.piece, rounded))

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
        """Copy a checked image onto a new device. Raises AlreadyExists, NoSpace, HostFailure when it is refused."""
        parsed = self._disk_name(name)
        if isinstance(source, DiskImage):
            with disk_image.opened_chain(source) as files:
                size = (await asyncio.to_thread(disk_image.inspect, files[0], source.format)).virtual_size
            async with self._making(parsed.piece, self._volid(parsed)) as temporary:
                await self._import(
                    source, source_format, temporary, size, progress=progress, owner=parsed.vmid, rate=rate
                )
            return
        # One descriptor for the check and the copy, so that they see the same file.
        with disk_image.opened(source) as opened:
            check = disk_image.check_chain if ours else disk_image.check
            info = await asyncio.to_thread(check, opened, source_format)
            async with self._making(parsed.piece, self._volid(parsed)) as temporary:
                await self._import(
                    opened, source_format, temporary, info.virtual_size,
                    progress=progress, owner=parsed.vmid, rate=rate,
                )  # fmt: skip

    async def write_file(self, name: str, data: bytes) -> None:
        """Make a small volume with that content, whole or not at all, or write it over one that is there.

        A machine that has it open sees the new content, as there is no second device to change over to. What a crash
        leaves half written is written anew before the machine starts.
        """
        parsed = self._disk_name(name)
        size = self._rounded(max(len(data), 1))
        if parsed.piece not in await self._pieces():
            async with self._making(parsed.piece, self._volid(parsed)) as temporary:
                await self.pool.make(temporary, size, parsed.vmid)
                await asyncio.to_thread(block_ext4.write, await self.pool.device(temporary), data)
            return
        async with self._lock(parsed.piece):
            if (await self._piece(parsed)).size < size:
                await finished(self.pool.grow(parsed.piece, size))
            await asyncio.to_thread(block_ext4.write, await self.pool.device(parsed.piece), data)

    async def _import(
        self,
        source: int | DiskImage,
        form: str,
        piece: str,
        size: int,
        *,
        progress: Progress | None,
        owner: int | None = None,
        rate: int = 0,
    ) -> None:
        rounded = self._rounded(size)
        await self._check_room(rounded)
        await self.pool.make(piece, rounded, owner)
        await self._fill(source, form, await self.pool.device(piece), zeroed=self.pool.abilities.zeroed,
                         progress=progress, rate=rate)  # fmt: skip

    def _disk_name(self, name: str) -> BlockName:
        parsed = self._parse(name)
        if parsed.format != "raw":
            raise InvalidParameter({"volume": f"'{name}' is not a disk of a VM"})
        return parsed
