"""Snapshots, clones and bases of volumes that are block devices."""

import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

from bastide.base.errors import AlreadyExists, InvalidParameter, NotFound, NotSupported, WrongState
from bastide.host import disk_image
from bastide.host.run import finished
from bastide.model.storage import VolumeFormat
from bastide.storage import block_names
from bastide.storage.block_containers import BlockContainers
from bastide.storage.block_names import BlockName
from bastide.storage.block_pool import Piece
from bastide.storage.protocol import Capabilities, Progress

_BASE = re.compile(r"bastide-(?P<kind>root|base)-(?P<key>[0-9a-f]{16})", re.ASCII)
_KEY = re.compile(r"[0-9a-f]{16}", re.ASCII)


class BlockStorage(BlockContainers):
    """SnapshotStorage, CloneStorage and BaseStorage of a pool, and all before them."""

    formats: frozenset[VolumeFormat] = frozenset({"raw"})
    container_format: VolumeFormat = "raw"
    programs: Sequence[str] = ()

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; a size is always enforced, by the device or by the dataset's quota."""
        can = self.pool.abilities
        contents: frozenset[str] = self.contents
        snapshots = self.formats if can.snapshots else frozenset()
        return Capabilities(
            contents=contents,
            container_format=self.container_format,
            enforces_size=True,
            shared=self.config.shared,
            disk_formats=frozenset({"raw"}) if "images" in contents else frozenset(),
            default_disk_format="raw",
            snapshots=snapshots,
            instant=snapshots,
            clones=self.formats if can.clones is not None else frozenset(),
            copy_on_write=can.clones,
            thin=can.thin,
            shrinks=True,
            latest_only=can.latest_only,
        )

    # Snapshots.

    async def snapshot(self, name: str, snapshot: str) -> None:
        """Keep the volume's present state. Raises AlreadyExists, NoSpace, NotSupported."""
        parsed = self._with_snapshots(name)
        async with self._lock(parsed.piece):
            await self._piece(parsed)
            if snapshot in await self._snapshots(parsed.piece):
                raise AlreadyExists(f"snapshot '{snapshot}' of volume '{self._volid(parsed)}' already exists")
            async with self._still(parsed.piece):
                await finished(self.pool.snapshot(parsed.piece, snapshot))

    async def rollback(self, name: str, snapshot: str) -> None:
        """Give an inactive volume the state that it had; may be repeated. Raises NotFound, WrongState."""
        parsed = self._with_snapshots(name)
        async with self._lock(parsed.piece):
            await self._check_rollback(parsed, snapshot)
            await self._unmount(parsed.piece)
            await finished(self._roll_back(parsed, snapshot))

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Forget a snapshot; one that is gone already is fine. Raises WrongState when a clone builds on it."""
        parsed = self._with_snapshots(name)
        async with self._lock(parsed.piece):
            if snapshot in await self._snapshots(parsed.piece):
                await finished(self.pool.drop_snapshot(parsed.piece, snapshot))

    async def snapshots(self, name: str) -> Sequence[str]:
        """The snapshots of a volume, oldest first. Raises NotFound."""
        parsed = self._with_snapshots(name)
        await self._piece(parsed)
        return await self._snapshots(parsed.piece)

    @contextlib.asynccontextmanager
    async def reading_snapshot(self, name: str, snapshot: str, first_id: int = 0) -> AsyncIterator[Path]:
        """While entered, a folder that shows a container's volume as it was. Raises NotFound."""
        del first_id  # shown with mapped owners
        parsed = self._container_name(name)
        piece = await self._piece(parsed)
        if snapshot not in await self._snapshots(parsed.piece):
            raise NotFound(f"volume '{self._volid(parsed)}' has no snapshot '{snapshot}': it does not exist")
        async with self._showing(parsed, snapshot, piece.size) as folder:
            yield folder

    async def _check_rollback(self, name: BlockName, snapshot: str) -> None:
        known = await self._snapshots(name.piece)
        if snapshot not in known:
            raise NotFound(f"volume '{self._volid(name)}' has no snapshot '{snapshot}': it does not exist")
        if self.pool.abilities.latest_only and known[-1] != snapshot:
            raise WrongState(
                f"can't roll back volume '{self._volid(name)}' to '{snapshot}': '{known[-1]}' is newer, and here only "
                "the newest snapshot can be gone back to; delete the newer ones first"
            )

    async def _roll_back(self, name: BlockName, snapshot: str) -> None:
        temporary = self._temporary()
        try:
            made = await self.pool.rollback(name.piece, snapshot, temporary)
            if made is not None:
                await self._replace(made, name.piece)
        except BaseException:
            await self._throw_away(temporary)
            raise

    def _with_snapshots(self, name: str) -> BlockName:
        if not self.pool.abilities.snapshots:
            raise NotSupported(f"storage '{self.config.storage}' has no snapshots")
        parsed = self._parse(name)
        block_names.check_snapshot_of(parsed.piece)
        return parsed

    # Clones.

    async def make_base(self, name: str) -> str:
        """Make an inactive volume a base; its new name. Raises WrongState when it has snapshots. May be repeated."""
        parsed = self._parse(name)
        target = self._parse(block_names.base_name(parsed))
        async with self._lock(parsed.piece):
            pieces = await self._pieces()
            if parsed.piece in pieces and not parsed.is_base:
                if await self._snapshots(parsed.piece):
                    raise WrongState(f"volume '{self._volid(parsed)}' has snapshots: it cannot become a base")
                if target.piece in pieces:
                    raise AlreadyExists(f"volume '{self._volid(target)}' already exists")
                await self._unmount(parsed.piece)
                await finished(self.pool.rename(parsed.piece, target.piece))
            elif target.piece not in pieces:
                raise NotFound(f"volume '{self._volid(parsed)}' does not exist")
            await finished(self.pool.seal(target.piece))
        return target.text

    def clone_name(self, base: str, vmid: int, number: int, content: Literal["images", "rootdir"]) -> str:
        """`BASE/vm-101-disk-0`, or `vm-101-disk-0` where clones are not tied to their base."""
        del content
        return block_names.clone_name(self._parse(base), vmid, number, self.style)

    async def clone(self, base: str, name: str) -> None:
        """Make a linked clone. Raises NotFound, AlreadyExists, NoSpace, NotSupported; leaves nothing when it fails."""
        if self.pool.abilities.clones is None:
            raise NotSupported(f"storage '{self.config.storage}' has no linked clones")
        origin, parsed = self._parse(base), self._parse(name)
        if not origin.is_base or parsed.is_base or origin.format != parsed.format:
            raise InvalidParameter({"volume": f"'{name}' cannot be a linked clone of '{base}'"})
        await self._piece(origin)
        async with self._making(parsed.piece, self._volid(parsed)) as temporary:
            await finished(self.pool.clone(origin.piece, temporary, parsed.vmid))

    async def clones_of(self, base: str) -> Sequence[str]:
        """The names of the volumes that build on a base."""
        parsed = self._parse(base)
        clones = [piece for piece in (await self._pieces()).values() if piece.origin == parsed.piece]
        names = [block_names.name_of(piece.name, piece.origin, self.style) for piece in clones]
        return sorted(name.text for name in names if name is not None)

    async def copy(
        self,
        name: str,
        target: str,
        snapshot: str | None = None,
        progress: Progress | None = None,
        *,
        rate: int = 0,
    ) -> None:
        """Copy a volume, or its state at a snapshot. Raises NotFound, AlreadyExists, NoSpace."""
        source, parsed = self._parse(name), self._parse(target)
        if source.format != parsed.format:
            raise InvalidParameter({"volume": f"'{target}' cannot be a copy of '{name}'"})
        piece = await self._piece(source)
        if snapshot is not None and snapshot not in await self.snapshots(name):
            raise NotFound(f"volume '{self._volid(source)}' has no snapshot '{snapshot}': it does not exist")
        async with self._making(parsed.piece, self._volid(parsed)) as temporary:
            await self._copy_piece(
                source.piece, temporary, piece.size, snapshot, progress=progress, owner=parsed.vmid, rate=rate
            )
        if progress is not None:
            progress(100.0)

    # Bases of templates and images.

    async def bases(self) -> Sequence[str]:
        """The keys of the bases."""
        found = (_BASE.fullmatch(piece) for piece in await self._pieces())
        return sorted({match["key"] for match in found if match is not None})

    @contextlib.asynccontextmanager
    async def making_base(self, key: str, size: int) -> AsyncIterator[Path]:
        """A mounted file system of `size` bytes that becomes a base. Raises AlreadyExists, NoSpace."""
        await self._refuse_base(key)
        async with self._making(f"bastide-root-{key}", f"{self.config.storage}:{key}") as temporary:
            await self._make_files(temporary, size)
            yield await self._mount(temporary)
            await self._unmount(temporary)
            await self._settle_files(temporary, self._rounded(size))
            await finished(self.pool.seal(temporary))

    async def import_base(
        self, key: str, source: Path, source_format: str, progress: Progress | None = None, *, rate: int = 0
    ) -> None:
        """Make a base of a checked image. Raises AlreadyExists, NoSpace, HostFailure when it is refused."""
        await self._refuse_base(key)
        with disk_image.opened(source) as opened:
            size = disk_image.check(opened, source_format).virtual_size
            async with self._making(f"bastide-base-{key}", f"{self.config.storage}:{key}") as temporary:
                await self._import(opened, source_format, temporary, size, progress=progress, rate=rate)
                await finished(self.pool.seal(temporary))

    async def from_base(self, key: str, name: str, size: int) -> None:
        """Make a guest's volume of a base. Raises NotFound, AlreadyExists, NoSpace, InvalidParameter."""
        parsed = self._parse(name)
        piece = await self._base(key)
        base, current = piece.name, piece.size
        wanted = self._rounded(size)
        holds_files = base.startswith("bastide-root-")
        if wanted < current and not await self._fits(piece, wanted):
            raise InvalidParameter({"size": f"the base has {current} bytes"})
        async with self._making(parsed.piece, self._volid(parsed)) as temporary:
            if self.pool.abilities.clones is not None:
                await finished(self.pool.clone(base, temporary, parsed.vmid))
            else:
                await self._copy_piece(base, temporary, current, owner=parsed.vmid)
            if holds_files:
                await self._grow_files(temporary, current, wanted)
            elif wanted > current:
                await finished(self.pool.grow(temporary, wanted))

    async def drop_base(self, key: str) -> bool:
        """Remove a base; whether it is gone: one that volumes build on stays."""
        pieces = await self._pieces()
        for name in (f"bastide-root-{key}", f"bastide-base-{key}"):
            if _KEY.fullmatch(key) is None or name not in pieces:
                continue
            if any(piece.origin == name for piece in pieces.values()):
                return False
            async with self._lock(name):
                await finished(self.pool.remove(name))
        return True

    async def _fits(self, base: Piece, size: int) -> bool:  # noqa: ARG002 - no device becomes smaller by being cloned
        """Whether a volume of a base may be smaller than the base itself."""
        return False

    async def _settle_files(self, piece: str, size: int) -> None:
        # Its clones grow with their guests' sizes, and without being checked each for itself.
        smallest = self._rounded(await self._ext4.shrink(await self.pool.device(piece)))
        if smallest < size:
            await finished(self.pool.cut(piece, smallest))

    async def _base(self, key: str) -> Piece:
        pieces = await self._pieces()
        for name in (f"bastide-root-{key}", f"bastide-base-{key}"):
            if _KEY.fullmatch(key) is not None and name in pieces:
                return pieces[name]
        raise NotFound(f"base '{key}' does not exist")

    async def _refuse_base(self, key: str) -> None:
        if _KEY.fullmatch(key) is None:
            raise InvalidParameter({"key": f"'{key[:40]}' is no key of a base"})
        if key in await self.bases():
            raise AlreadyExists(f"base '{key}' already exists")
