"""The storage type `rbd`: images of a Ceph cluster, mapped by the kernel for VMs and containers alike.

`krbd` changes nothing here. Whoever asked for a cluster of its own (`monhost`) has the key in `keyring`; else it is the
one that /etc/ceph describes.
"""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from bastide.base.errors import AlreadyExists, NotFound
from bastide.base.layout import Layout
from bastide.host.rbd import Cluster, Rbd
from bastide.model.storage import StorageConfig, StorageUsage
from bastide.model.types import split_list
from bastide.storage import secrets
from bastide.storage.block import TOOLS, BlockTools
from bastide.storage.block_copies import BlockStorage
from bastide.storage.block_names import Style
from bastide.storage.block_pool import Abilities, Piece

_BASE = "__base__"
_SNAPSHOT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}", re.ASCII)


class RbdStorage(BlockStorage):
    """A pool of a Ceph cluster, or a namespace in one."""

    programs = ("rbd",)

    style: Style = "linked"

    def __init__(self, config: StorageConfig, layout: Layout, tools: BlockTools = TOOLS) -> None:
        cluster = Cluster(
            monitors=tuple(split_list(config.monhost or "")),
            user=config.username or ("admin" if config.monhost is not None else None),
            key_file=secrets.path(layout, config.storage, "secret"),
        )
        rbd = Rbd(config.pool or "", cluster, config.namespace, config.data_pool, run=tools.run, devices=tools.devices)
        super().__init__(config, layout, RbdPool(rbd), tools)


class RbdPool:
    """Pool over images."""

    # The cluster knows nothing of what the kernel has not written to it yet.
    abilities = Abilities(
        thin=True, zeroed=True, clones="clones of Ceph", snapshots=True, inner_snapshots=True, settles=False
    )

    def __init__(self, rbd: Rbd) -> None:
        self._rbd = rbd

    async def check(self) -> None:
        """Raises NotFound without the pool, HostFailure without the cluster."""
        await self._rbd.images()

    async def space(self) -> StorageUsage:
        """Of the pool: what is stored, and what the cluster could store in it besides."""
        stored, free = await self._rbd.space()
        return StorageUsage(True, stored + free, stored, free)

    async def pieces(self) -> Sequence[Piece]:
        """The images."""
        return [Piece(image.name, image.size, origin=image.parent) for image in await self._rbd.images()]

    async def make(self, name: str, size: int, owner: int | None = None, *, files: bool = False) -> None:
        """Make an image."""
        del owner, files
        await self._rbd.create(name, size)

    async def remove(self, name: str, *, alone: bool = False) -> None:
        """Remove it with its snapshots."""
        del alone
        with contextlib.suppress(NotFound):
            await self._rbd.unmap(name)
            for snapshot in await self._rbd.snapshots(name):
                if snapshot == _BASE:
                    # Clones make this fail, and then nothing is lost.
                    await self._rbd.unprotect(name, snapshot)
                await self._rbd.remove_snapshot(name, snapshot)
            await self._rbd.remove(name)

    async def rename(self, old: str, new: str) -> None:
        """Rename it; a device would keep the old name."""
        await self._rbd.unmap(old)
        await self._rbd.rename(old, new)

    async def grow(self, name: str, size: int) -> None:
        """Grow it; its device follows."""
        await self._rbd.resize(name, size)

    async def cut(self, name: str, size: int) -> None:
        """Cut it."""
        await self._rbd.unmap(name)
        await self._rbd.resize(name, size, smaller=True)

    async def device(self, name: str, snapshot: str | None = None) -> Path:
        """Map it."""
        return await self._rbd.map(name, snapshot)

    async def release(self, name: str, snapshot: str | None = None) -> None:
        """Unmap it."""
        await self._rbd.unmap(name, snapshot)

    async def seal(self, name: str) -> None:
        """Take the protected snapshot that clones build on."""
        with contextlib.suppress(AlreadyExists):
            await self._rbd.snapshot(name, _BASE)
        await self._rbd.protect(name, _BASE)

    async def clone(self, base: str, name: str, owner: int | None = None) -> None:
        """Clone the base's snapshot."""
        del owner
        await self._rbd.clone(base, _BASE, name)

    async def duplicate(self, name: str, target: str, snapshot: str | None = None, owner: int | None = None) -> bool:
        """Let the cluster copy it."""
        del owner
        await self._rbd.copy(name, target, snapshot)
        return True

    async def snapshot(self, name: str, snapshot: str) -> None:
        """Take it."""
        await self._rbd.snapshot(name, snapshot)

    async def rollback(self, name: str, snapshot: str, temporary: str) -> None:
        """Copy it back; a repetition finishes what was interrupted."""
        del temporary
        await self._rbd.unmap(name)
        await self._rbd.rollback(name, snapshot)

    async def drop_snapshot(self, name: str, snapshot: str) -> None:
        """Remove it."""
        await self._rbd.unmap(name, snapshot)
        await self._rbd.remove_snapshot(name, snapshot)

    async def snapshots(self, name: str) -> Sequence[str]:
        """Those that can be ours by their names."""
        return [snapshot for snapshot in await self._rbd.snapshots(name) if _SNAPSHOT.fullmatch(snapshot)]
