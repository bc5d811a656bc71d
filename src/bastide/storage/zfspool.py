"""The storage type `zfspool`: volumes of ZFS for VMs, file systems of ZFS for containers.

A container's file system is mounted by us, wherever the pool itself is mounted: `mountpoint` is for Proxmox VE alone.
Only the newest snapshot can be gone back to, as ZFS would lose the newer ones.
"""

import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bastide.base.errors import InvalidParameter, NoSpace, NotFound
from bastide.base.layout import Layout
from bastide.base.units import MIB, parse_size
from bastide.host import filesystems
from bastide.host import zfs as host
from bastide.host.run import finished
from bastide.host.zfs import Dataset, Zfs
from bastide.model.storage import StorageConfig, StorageUsage, VolumeFormat
from bastide.storage.block import TOOLS, BlockTools
from bastide.storage.block_copies import BlockStorage
from bastide.storage.block_names import BlockName, Style
from bastide.storage.block_pool import Abilities, Piece

_BASE = "__base__"
_COPY = "__copy-"
_SNAPSHOT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}", re.ASCII)


class ZfsStorage(BlockStorage):
    """A pool of ZFS, or a dataset in one."""

    programs = ("zfs",)

    style: Style = "zfs"
    formats: frozenset[VolumeFormat] = frozenset({"raw", "subvol"})
    container_format: VolumeFormat = "subvol"
    pool: "ZfsPool"

    def __init__(self, config: StorageConfig, layout: Layout, tools: BlockTools = TOOLS) -> None:
        self._zfs = Zfs(config.pool or "", tools.run, tools.devices, tools.stream)
        super().__init__(config, layout, ZfsPool(config, self._zfs), tools)

    def volume_name(self, vmid: int, number: int, size: int) -> str:  # noqa: ARG002 - the quota is no part of it
        """`subvol-100-disk-0`."""
        return f"subvol-{vmid}-disk-{number}"

    async def used(self, name: str) -> int | None:
        """Bytes of its files, also of those that it shares with its base."""
        return (await self.pool.dataset(self._container_name(name).piece)).referenced

    async def _make_files(self, piece: str, size: int, owner: int | None = None) -> None:
        # A quota keeps no room for itself; without one there is no limit.
        quota = self._rounded(size) if size else 0
        space = await self._bounded.run(self._space())
        if quota > space.total or space.available <= 0:
            raise NoSpace(f"storage '{self.config.storage}' has no room for {quota} bytes: {space.total} at most")
        await self.pool.make(piece, quota, owner, files=True)

    async def _mount(self, piece: str, *, read_only: bool = False) -> Path:
        target = self._mount_point(piece)
        if filesystems.mount_at(target) is None:
            await self._zfs.mount(piece, self._make_mount_point(piece), read_only=read_only)
        return target

    @contextlib.asynccontextmanager
    async def _showing(self, name: BlockName, snapshot: str, size: int) -> AsyncIterator[Path]:
        del size
        async with self._passing_mount() as target:
            await self._zfs.mount(name.piece, target, snapshot=snapshot)
            yield target

    async def _grow_files(self, piece: str, current: int, size: int) -> None:
        del current
        await finished(self.pool.grow(piece, size))

    async def _shrink_files(self, name: BlockName, current: int, size: int) -> None:
        del current
        held = (await self.pool.dataset(name.piece)).referenced
        if size < held:
            raise InvalidParameter({"size": f"unable to shrink below {-(-held // MIB)}M: files take that"})
        await finished(self.pool.grow(name.piece, size))

    async def _settle_files(self, piece: str, size: int) -> None:
        """Nothing: there is no file system on a device."""

    async def _fits(self, base: Piece, size: int) -> bool:
        found = await self.pool.dataset(base.name)
        return not found.is_volume and found.referenced <= size

    def _container_name(self, name: str) -> BlockName:
        parsed = self._parse(name)
        if parsed.format != "subvol":
            raise InvalidParameter({"volume": f"'{name}' is not a container's volume"})
        return parsed


class ZfsPool:
    """Pool over the datasets right below one."""

    def __init__(self, config: StorageConfig, zfs: Zfs) -> None:
        self._zfs = zfs
        self._sparse = config.sparse
        self._block = config.blocksize
        # A volume has a whole number of its blocks.
        unit = max(MIB, parse_size(config.blocksize.upper()) if config.blocksize else 0)
        self.abilities = Abilities(
            thin=config.sparse,
            zeroed=True,
            clones="ZFS clones",
            snapshots=True,
            inner_snapshots=True,
            latest_only=True,
            unit=unit,
        )

    async def check(self) -> None:
        """Raises NotFound without the pool."""
        await self._zfs.space()

    async def space(self) -> StorageUsage:
        """Of the dataset and what is free to it."""
        used, free = await self._zfs.space()
        return StorageUsage(True, used + free, used, free)

    async def pieces(self) -> Sequence[Piece]:
        """The datasets."""
        return [
            Piece(entry.name, entry.size, entry.used, entry.created, self._base(entry))
            for entry in await self._zfs.datasets()
        ]

    async def dataset(self, name: str) -> Dataset:
        """One dataset. Raises NotFound."""
        for entry in await self._zfs.datasets():
            if entry.name == name:
                return entry
        raise NotFound(f"dataset '{self._zfs.pool}/{name}' does not exist")

    async def make(self, name: str, size: int, owner: int | None = None, *, files: bool = False) -> None:
        """Make a volume, or a file system with a quota."""
        del owner
        if files:
            await self._zfs.create_files(name, size)
        else:
            await self._zfs.create_volume(name, size, self._block, sparse=self._sparse)

    async def remove(self, name: str, *, alone: bool = False) -> None:
        """Destroy it with its snapshots."""
        del alone
        try:
            await self._zfs.destroy(name)
        except NotFound:
            return

    async def rename(self, old: str, new: str) -> None:
        """Rename it, with its snapshots."""
        await self._zfs.rename(old, new)

    async def grow(self, name: str, size: int) -> None:
        """Set the volume's size or the file system's quota."""
        setting = "volsize" if (await self.dataset(name)).is_volume else "refquota"
        await self._zfs.set(name, f"{setting}={size}")

    async def cut(self, name: str, size: int) -> None:
        """The same."""
        await self.grow(name, size)

    async def device(self, name: str, snapshot: str | None = None) -> Path:
        """Of a volume; it is there as long as the volume is."""
        return await self._zfs.device(name, snapshot)

    async def release(self, name: str, snapshot: str | None = None) -> None:
        """Nothing: a device is there as long as its volume is."""

    async def seal(self, name: str) -> None:
        """Make it read-only, and take the snapshot that clones build on."""
        await self._zfs.set(name, "readonly=on")
        if _BASE not in await self._zfs.snapshots(name):
            await self._zfs.snapshot(name, _BASE)

    async def clone(self, base: str, name: str, owner: int | None = None) -> None:
        """Clone the base's snapshot; of properties a clone gets only what it is given."""
        del owner
        found = await self.dataset(base)
        await self._zfs.clone(base, _BASE, name, () if found.is_volume else host.files(found.size))

    async def duplicate(self, name: str, target: str, snapshot: str | None = None, owner: int | None = None) -> bool:
        """Send a snapshot to a new dataset."""
        del owner
        found = await self.dataset(name)
        sent = snapshot or f"{_COPY}{secrets.token_hex(4)}"
        if snapshot is None:
            await self._zfs.snapshot(name, sent)
        try:
            await self._zfs.copy(name, sent, target, () if found.is_volume else host.files(found.size))
            await self._zfs.destroy_snapshot(target, sent)
            if found.is_volume and not self._sparse:
                await self._zfs.set(target, "refreservation=auto")
        finally:
            if snapshot is None:
                await self._zfs.destroy_snapshot(name, sent)
        return True

    async def snapshot(self, name: str, snapshot: str) -> None:
        """Take it."""
        await self._zfs.snapshot(name, snapshot)

    async def rollback(self, name: str, snapshot: str, temporary: str) -> None:
        """Go back to it, in one step."""
        del temporary
        for newer in await self._zfs.snapshots(name):
            if newer.startswith(_COPY):  # of a copy that was interrupted
                await self._zfs.destroy_snapshot(name, newer)
        await self._zfs.rollback(name, snapshot)

    async def drop_snapshot(self, name: str, snapshot: str) -> None:
        """Destroy it."""
        await self._zfs.destroy_snapshot(name, snapshot)

    async def snapshots(self, name: str) -> Sequence[str]:
        """Those that can be ours by their names."""
        return [snapshot for snapshot in await self._zfs.snapshots(name) if _SNAPSHOT.fullmatch(snapshot)]

    def _base(self, entry: Dataset) -> str | None:
        place, _, snapshot = (entry.origin or "").partition("@")
        above, _, name = place.rpartition("/")
        return name if above == self._zfs.pool and snapshot == _BASE else None
