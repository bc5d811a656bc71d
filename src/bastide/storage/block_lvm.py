"""A volume group, or a thin pool in one, as a pool of pieces.

A guest's volumes carry the tag `pve-vm-VMID`, a linked clone `bastide.base=NAME`. A snapshot of `vm-100-disk-0` is the
logical volume `snap_vm-100-disk-0_NAME`.
"""

from collections.abc import Sequence
from pathlib import Path

from bastide.base.errors import HostFailure, InvalidParameter, NotFound
from bastide.host.lvm import LogicalVolume, Lvm
from bastide.model.storage import StorageConfig, StorageUsage
from bastide.storage.block_pool import Abilities, Piece

_BASE = "bastide.base="
_EXTENT = 4 * 1024 * 1024


class LvmPool:
    """Pool over LVM: thick volumes without a thin pool, else thin ones."""

    def __init__(self, config: StorageConfig, lvm: Lvm) -> None:
        self._lvm = lvm
        self._thin = config.thinpool
        self._tagged_only = config.tagged_only
        self._unit = _EXTENT

    @property
    def abilities(self) -> Abilities:
        """Thin volumes share blocks, also with what is no base; thick ones can nothing but be there."""
        if self._thin is None:
            return Abilities(thin=False, zeroed=False, unit=self._unit)
        return Abilities(thin=True, zeroed=True, clones="thin snapshots", snapshots=True, unit=self._unit)

    async def check(self) -> None:
        """Raises NotFound without the group, HostFailure without the thin pool."""
        self._unit = (await self._lvm.volume_group()).extent
        if self._thin is not None:
            await self._pool_volume()

    async def space(self) -> StorageUsage:
        """Of the group, or of the thin pool's data; a pool whose metadata is full has nothing left."""
        if self._thin is None:
            group = await self._lvm.volume_group()
            return StorageUsage(True, group.size, group.size - group.free, group.free)
        pool = await self._pool_volume()
        used = round(pool.size * (pool.data_percent or 0) / 100)
        free = pool.size - used if (pool.metadata_percent or 0) < 100 else 0
        return StorageUsage(True, pool.size, used, free)

    async def pieces(self) -> Sequence[Piece]:
        """The logical volumes of the group that are of this pool and not snapshots."""
        return [_piece(volume) for volume in await self._volumes() if self._is_ours(volume)]

    async def make(self, name: str, size: int, owner: int | None = None, *, files: bool = False) -> None:
        """Make a logical volume."""
        del files
        await self._lvm.create(name, size, _tags(owner), self._thin)

    async def remove(self, name: str, *, alone: bool = False) -> None:
        """Remove a logical volume and those that are its snapshots."""
        volumes = await self._volumes()
        doomed = [] if alone else [volume.name for volume in _snapshots(volumes, name)]
        doomed += [volume.name for volume in volumes if volume.name == name and self._is_ours(volume)]
        if doomed:
            await self._lvm.remove(doomed)

    async def rename(self, old: str, new: str) -> None:
        """Rename it."""
        await self._lvm.rename(old, new)

    async def grow(self, name: str, size: int) -> None:
        """Grow it."""
        await self._lvm.grow(name, size)

    async def cut(self, name: str, size: int) -> None:
        """Cut it."""
        await self._lvm.shrink(name, size)

    async def device(self, name: str, snapshot: str | None = None) -> Path:
        """Activate it."""
        return await self._lvm.activate(name if snapshot is None else _snapshot_name(name, snapshot))

    async def release(self, name: str, snapshot: str | None = None) -> None:
        """Deactivate it."""
        await self._lvm.deactivate(name if snapshot is None else _snapshot_name(name, snapshot))

    async def seal(self, name: str) -> None:
        """Make it read-only."""
        await self._lvm.seal(name)

    async def clone(self, base: str, name: str, owner: int | None = None) -> None:
        """Make a thin snapshot that is told apart from other copies by its tag."""
        await self._lvm.snapshot(base, name, _tags(owner, base))

    async def duplicate(self, name: str, target: str, snapshot: str | None = None, owner: int | None = None) -> bool:
        """Make a thin snapshot, which needs its origin no more."""
        if self._thin is None:
            return False
        await self._lvm.snapshot(name if snapshot is None else _snapshot_name(name, snapshot), target, _tags(owner))
        return True

    async def snapshot(self, name: str, snapshot: str) -> None:
        """Make a read-only thin snapshot with the volume's tags."""
        tags = (await self._volume(name)).tags
        await self._lvm.snapshot(name, _snapshot_name(name, snapshot), tags, read_only=True)

    async def rollback(self, name: str, snapshot: str, temporary: str) -> str:
        """Make a thin snapshot of the snapshot, to take the volume's place."""
        kept = await self._volume(_snapshot_name(name, snapshot))
        await self._lvm.snapshot(kept.name, temporary, kept.tags)
        return temporary

    async def drop_snapshot(self, name: str, snapshot: str) -> None:
        """Remove the logical volume that is the snapshot."""
        await self._lvm.remove([_snapshot_name(name, snapshot)])

    async def snapshots(self, name: str) -> Sequence[str]:
        """From the names of the logical volumes, by time."""
        found = sorted(_snapshots(await self._volumes(), name), key=lambda volume: (volume.created or 0, volume.name))
        return [volume.name.removeprefix(f"snap_{name}_") for volume in found]

    async def _volumes(self) -> Sequence[LogicalVolume]:
        return await self._lvm.volumes()

    async def _volume(self, name: str) -> LogicalVolume:
        for volume in await self._volumes():
            if volume.name == name:
                return volume
        raise NotFound(f"logical volume '{self._lvm.group}/{name}' does not exist")

    async def _pool_volume(self) -> LogicalVolume:
        for volume in await self._volumes():
            if volume.name == self._thin and volume.attributes.startswith("t"):
                return volume
        raise HostFailure(f"thin pool '{self._lvm.group}/{self._thin}' does not exist")

    def _is_ours(self, volume: LogicalVolume) -> bool:
        if volume.name.startswith("snap_") or volume.pool != self._thin or not volume.attributes.startswith(("V", "-")):
            return False
        owned = not volume.name.startswith(("vm-", "base-")) or f"pve-vm-{volume.name.split('-')[1]}" in volume.tags
        return owned or not self._tagged_only


def _piece(volume: LogicalVolume) -> Piece:
    base = next((tag.removeprefix(_BASE) for tag in volume.tags if tag.startswith(_BASE)), None)
    # LVM counts what is shared with the base as well.
    known = volume.data_percent is not None and base is None
    used = round(volume.size * (volume.data_percent or 0) / 100) if known else None
    return Piece(volume.name, volume.size, used, volume.created, base)


def _tags(owner: int | None, base: str | None = None) -> list[str]:
    return [*([f"pve-vm-{owner}"] if owner is not None else []), *([f"{_BASE}{base}"] if base is not None else [])]


def _snapshots(volumes: Sequence[LogicalVolume], name: str) -> list[LogicalVolume]:
    # The names of what has snapshots have no underscore, so the text in front says whose it is.
    return [volume for volume in volumes if "_" not in name and volume.name.startswith(f"snap_{name}_")]


def _snapshot_name(name: str, snapshot: str) -> str:
    full = f"snap_{name}_{snapshot}"
    if len(full) > 120:
        raise InvalidParameter({"snapname": f"'{snapshot[:60]}' is too long"})
    return full
