"""Containers' file systems on block devices: ext4, mounted while in use."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from bastide.base.errors import InvalidParameter, WrongState
from bastide.host import filesystems
from bastide.host.run import finished
from bastide.storage.block_disks import BlockDisks
from bastide.storage.block_names import BlockName
from bastide.storage.protocol import Progress


class BlockContainers(BlockDisks):
    """ContainerStorage of a pool."""

    def volume_name(self, vmid: int, number: int, size: int) -> str:  # noqa: ARG002 - a device is one whatever its size
        """`vm-100-disk-0`."""
        return f"vm-{vmid}-disk-{number}"

    async def allocate(self, name: str, size: int) -> None:
        """Make an empty volume. Raises AlreadyExists, NoSpace, InvalidParameter; leaves nothing when it fails."""
        parsed = self._container_name(name)
        async with self._making(parsed.piece, self._volid(parsed)) as temporary:
            await self._make_files(temporary, size, parsed.vmid)

    async def activate(self, name: str, first_id: int = 0) -> Path:  # noqa: ARG002 - shown with mapped owners
        """The folder that its file system is mounted at. Raises NotFound."""
        parsed = self._container_name(name)
        await self._piece(parsed)
        async with self._lock(parsed.piece):
            return await self._mount(parsed.piece, read_only=parsed.is_base)

    async def deactivate(self, name: str) -> None:
        """Unmount what `activate` mounted, and take the device away."""
        parsed = self._container_name(name)
        async with self._lock(parsed.piece):
            if filesystems.mount_at(self._mount_point(parsed.piece)) is not None:
                await self._unmount(parsed.piece)
                await self._release(parsed.piece)

    async def resize(self, name: str, size: int) -> None:
        """Grow a volume, or shrink one that is not active. Raises InvalidParameter naming the smallest size."""
        parsed = self._container_name(name)
        async with self._lock(parsed.piece):
            current = (await self._piece(parsed)).size
            rounded = self._rounded(size)
            if rounded < current:
                await self._shrink_files(parsed, current, rounded)
            else:
                await self._grow_files(parsed.piece, current, rounded)

    async def used(self, name: str) -> int | None:
        """Bytes in use."""
        return (await self.info(name)).used

    async def _make_files(self, piece: str, size: int, owner: int | None = None) -> None:
        """Make a piece with an empty file system on it."""
        rounded = self._rounded(size)
        await self._check_room(rounded)
        await self.pool.make(piece, rounded, owner, files=True)
        await self._ext4.make(await self.pool.device(piece), zeroed=self.pool.abilities.zeroed)

    async def _mount(self, piece: str, *, read_only: bool = False) -> Path:
        target = self._mount_point(piece)
        if filesystems.mount_at(target) is None:
            device = await self.pool.device(piece)
            target = self._make_mount_point(piece)
            await self._ext4.mount(device, target, read_only=read_only, zeroed=self.pool.abilities.zeroed)
        return target

    @contextlib.asynccontextmanager
    async def _showing(self, name: BlockName, snapshot: str, size: int) -> AsyncIterator[Path]:
        """The files of a snapshot while entered; one whose journal has more is shown by a copy."""
        device = await self.pool.device(name.piece, snapshot)
        try:
            if await asyncio.to_thread(filesystems.is_settled, device):
                async with self._mounted_to_read(device) as folder:
                    yield folder
                return
        finally:
            await finished(self._release(name.piece, snapshot))
        temporary = self._temporary()
        try:
            await self._copy_piece(name.piece, temporary, size, snapshot, owner=name.vmid)
            device = await self.pool.device(temporary)
            await filesystems.settle_ext4(device)
            async with self._mounted_to_read(device) as folder:
                yield folder
        finally:
            await finished(self._throw_away(temporary))

    @contextlib.asynccontextmanager
    async def _mounted_to_read(self, device: Path) -> AsyncIterator[Path]:
        async with self._passing_mount() as target:
            await self._ext4.mount(device, target, read_only=True)
            yield target

    async def _release(self, piece: str, snapshot: str | None = None) -> None:
        # Whoever looks at it still, udev or another mount namespace, may do so.
        with contextlib.suppress(WrongState):
            await self.pool.release(piece, snapshot)

    async def _grow_files(self, piece: str, current: int, size: int) -> None:
        if size > current:
            await finished(self.pool.grow(piece, size))
        await self._ext4.grow(await self.pool.device(piece))

    async def _shrink_files(self, name: BlockName, current: int, size: int) -> None:
        """Shrink a copy, which takes the place of the volume when all went well."""
        if filesystems.mount_at(self._mount_point(name.piece)) is not None:
            raise InvalidParameter({"size": f"unable to shrink from {current} to {size} bytes while it is in use"})
        if self.pool.abilities.inner_snapshots and await self._snapshots(name.piece):
            raise WrongState(f"volume '{self._volid(name)}' cannot shrink while it has snapshots")
        temporary = self._temporary()
        try:
            await self._copy_piece(name.piece, temporary, current, owner=name.vmid)
            await self._ext4.shrink(await self.pool.device(temporary), size)
            await finished(self.pool.cut(temporary, size))
            await finished(self._replace(temporary, name.piece))
        except BaseException:
            await finished(self._throw_away(temporary))
            raise

    async def _copy_piece(
        self,
        name: str,
        target: str,
        size: int,
        snapshot: str | None = None,
        *,
        progress: Progress | None = None,
        owner: int | None = None,
        rate: int = 0,
    ) -> None:
        """Make an independent piece with the content of another, or of its snapshot."""
        if await finished(self.pool.duplicate(name, target, snapshot, owner)):
            return
        await self._check_room(size)
        await self.pool.make(target, size, owner)
        source = await self.pool.device(name, snapshot)
        # What a guest wrote to its device may look like anything: it is raw, and not looked into.
        await self._fill(source, "raw", await self.pool.device(target), zeroed=self.pool.abilities.zeroed,
                         progress=progress, rate=rate)  # fmt: skip

    def _container_name(self, name: str) -> BlockName:
        return self._parse(name)
