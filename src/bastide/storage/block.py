"""Storages of block devices: their volumes, space, and what an earlier daemon left half done.

A volume is a piece of a pool (`block_pool.py`). Pieces on their way are named `bastide-new-HOST-RUN-TOKEN`; one that is
about to take a volume's place is `bastide-swap-HOST-RUN-NAME`; bases of templates and images are `bastide-root-KEY` and
`bastide-base-KEY`. Nothing else in the pool is touched.
"""

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from bastide.base.errors import AlreadyExists, BastideError, InvalidParameter, NoSpace, NotFound, WrongState
from bastide.base.layout import Layout
from bastide.host import filesystems, freezing, qemu_img, zfs
from bastide.host.block_ext4 import BlockExt4
from bastide.host.bounded import Bounded
from bastide.host.disk_image import MAX_VIRTUAL_SIZE
from bastide.host.run import Runner, finished, run
from bastide.model.storage import Content, DiskImage, StorageConfig, StorageUsage, Volume
from bastide.storage.block_names import BlockName, Style, name_of, parse_name
from bastide.storage.block_pool import Piece, Pool
from bastide.storage.places import this_host
from bastide.storage.protocol import Progress

_RUN = secrets.token_hex(4)
"""Marks this daemon's pieces, so that the next one knows the leftovers."""

_NO_SPACE = StorageUsage(active=False, total=0, used=0, available=0)
_LEFT = re.compile(r"bastide-(?P<kind>new|swap)-(?P<host>[0-9a-f]{8})-(?P<run>[0-9a-f]{8})-(?P<rest>.+)", re.ASCII)


class Fill(Protocol):
    """What `qemu_img.convert_onto` is."""

    async def __call__(
        self,
        source: Path | int | DiskImage,
        source_format: str,
        device: Path,
        *,
        zeroed: bool = False,
        progress: Progress | None = None,
        rate: int = 0,
    ) -> None:
        """Copy an image onto a device."""


@dataclass(frozen=True, slots=True)
class BlockTools:
    """How tools are run and images copied onto devices, and where devices are; tests replace them."""

    run: Runner = run
    fill: Fill = qemu_img.convert_onto
    devices: Path = Path("/dev")
    stream: zfs.Stream = zfs.piped


TOOLS = BlockTools()
"""The machine's own."""


class Block:
    """What every part of a plugin over block devices needs."""

    style: Style = "plain"

    def __init__(self, config: StorageConfig, layout: Layout, pool: Pool, tools: BlockTools = TOOLS) -> None:
        self.config = config
        self.pool = pool
        self._fill = tools.fill
        self._run = tools.run
        self._ext4 = BlockExt4(tools.run)
        self._mounts = layout.runtime / "mounts" / config.storage
        self._host = this_host(layout)
        self._bounded = Bounded(f"storage '{config.storage}'")
        self._locks: dict[str, asyncio.Lock] = {}

    async def prepare(self) -> None:
        """Look whether the pool is there, and finish or undo what an earlier daemon left. Raises HostFailure."""
        await self._let_go()
        await self._bounded.run(self.pool.check())
        pieces = await self._pieces()
        for piece in pieces:
            found = _LEFT.fullmatch(piece)
            if found is None or found["host"] != self._host or found["run"] == _RUN:
                continue
            if found["kind"] == "new":
                await self._throw_away(piece)
            elif name_of(found["rest"], None, self.style) is not None:
                await self._finish_swap(piece, found["rest"], there=found["rest"] in pieces)

    async def usage(self) -> StorageUsage:
        """Space, and what all volumes may grow to; inactive when the pool is missing or hangs."""
        try:
            space, pieces = await self._bounded.run(self._measure())
        except (BastideError, OSError):
            return _NO_SPACE
        return replace(space, allocated=sum(piece.size for piece in pieces if name_of(piece.name, None, self.style)))

    async def list(self, content: Content | None = None, vmid: int | None = None) -> Sequence[Volume]:
        """Its volumes, by content and name. Raises HostFailure when the pool does not answer."""
        wanted = self.contents if content is None else {content} & self.contents
        found = []
        for piece in (await self._pieces()).values() if wanted else ():
            name = name_of(piece.name, piece.origin, self.style)
            if name is None or (vmid is not None and name.vmid != vmid):
                continue
            # A device may be a machine's disk as well as a container's file system: only its guest tells.
            if name.format == "raw" or "rootdir" in wanted:
                found.append(self._volume(name, piece))
        return sorted(found, key=lambda volume: (volume.content, volume.volid))

    async def info(self, name: str) -> Volume:
        """One volume. Raises NotFound."""
        parsed = self._parse(name)
        return self._volume(parsed, await self._piece(parsed))

    async def delete(self, name: str) -> None:
        """Remove a volume with its snapshots. Raises WrongState when it is in use or a clone builds on it."""
        parsed = self._parse(name)
        async with self._lock(parsed.piece):
            pieces = await self._pieces()
            if parsed.is_base:
                for other in pieces.values():
                    if other.origin == parsed.piece:
                        raise WrongState(f"can't remove volume '{self._volid(parsed)}': '{other.name}' builds on it")
            await self._unmount(parsed.piece)
            await self._remove(parsed)

    @property
    def contents(self) -> frozenset[str]:
        """The configured content types that it can hold."""
        return self.config.contents & {"images", "rootdir"}

    async def _remove(self, name: BlockName) -> None:
        """Remove a volume that nothing builds on, with all that belongs to it."""
        await finished(self.pool.remove(name.piece))

    def _parse(self, name: str) -> BlockName:
        return parse_name(name, self.style)

    def _volid(self, name: BlockName) -> str:
        return f"{self.config.storage}:{name.text}"

    def _lock(self, piece: str) -> asyncio.Lock:
        return self._locks.setdefault(piece, asyncio.Lock())

    async def _pieces(self) -> Mapping[str, Piece]:
        return {piece.name: piece for piece in await self._bounded.run(self._all())}

    async def _all(self) -> Sequence[Piece]:
        return await self.pool.pieces()

    async def _measure(self) -> tuple[StorageUsage, Sequence[Piece]]:
        return await self.pool.space(), await self.pool.pieces()

    async def _piece(self, name: BlockName) -> Piece:
        found = (await self._pieces()).get(name.piece)
        if found is None:
            raise NotFound(f"volume '{self._volid(name)}' does not exist")
        return found

    def _volume(self, name: BlockName, piece: Piece) -> Volume:
        used = piece.used
        target = self._mount_point(name.piece)
        # A file system on a device knows better than the device what its files take; a dataset is its own.
        if name.format == "raw" and filesystems.mount_at(target) is not None:
            used = filesystems.space(target)[1]
        base = name_of(piece.origin, None, self.style) if piece.origin is not None else None
        return Volume(
            volid=self._volid(name),
            content="rootdir" if name.format == "subvol" else "images",
            format=name.format,
            size=piece.size,
            used=used,
            ctime=piece.created,
            vmid=name.vmid,
            parent=self._volid(base) if base is not None else None,
        )

    # Pieces on their way.

    def _rounded(self, size: int) -> int:
        """The size that a piece for `size` bytes has. Raises InvalidParameter."""
        if not 0 < size <= MAX_VIRTUAL_SIZE:
            raise InvalidParameter({"size": f"a volume cannot have {size} bytes"})
        unit = self.pool.abilities.unit
        return -(-size // unit) * unit

    async def _check_room(self, size: int) -> None:
        """Raises NoSpace when a new piece of that size could not be held, a thin one even when it is empty."""
        space = await self._bounded.run(self._space())
        limit = space.total if self.pool.abilities.thin else space.available
        if size > limit or space.available <= 0:
            raise NoSpace(f"storage '{self.config.storage}' has no room for {size} bytes: {limit} at most")

    async def _space(self) -> StorageUsage:
        return await self.pool.space()

    async def _snapshots(self, piece: str) -> Sequence[str]:
        return await self._bounded.run(self._kept(piece))

    async def _kept(self, piece: str) -> Sequence[str]:
        return await self.pool.snapshots(piece) if self.pool.abilities.snapshots else []

    @contextlib.asynccontextmanager
    async def _making(self, name: str, volid: str) -> AsyncIterator[str]:
        """A name for a new piece; it becomes `name` when the body ends, and goes when it fails."""
        async with self._lock(name):
            if name in await self._pieces():
                raise AlreadyExists(f"volume '{volid}' already exists")
            temporary = self._temporary()
            try:
                yield temporary
                await finished(self.pool.rename(temporary, name))
            except BaseException:
                await finished(self._throw_away(temporary))
                raise

    def _temporary(self) -> str:
        return f"bastide-new-{self._host}-{_RUN}-{secrets.token_hex(4)}"

    async def _throw_away(self, piece: str) -> None:
        await self._unmount(piece)
        await self.pool.remove(piece)

    async def _replace(self, temporary: str, name: str) -> None:
        """Let a piece take the place of another, which may be gone; a restart finishes it. Not to be cancelled."""
        ready = f"bastide-swap-{self._host}-{_RUN}-{name}"
        await self.pool.remove(ready)
        await self.pool.rename(temporary, ready)
        try:
            await self._finish_swap(ready, name, there=name in await self._pieces())
        except BastideError:
            if name in await self._pieces():
                await self.pool.remove(ready)
            raise

    async def _finish_swap(self, ready: str, name: str, *, there: bool) -> None:
        if there:
            await self._unmount(name)
            await self.pool.remove(name, alone=True)
        await self.pool.rename(ready, name)

    # Mounts.

    async def _let_go(self) -> None:
        """Undo what a killed daemon left frozen, or mounted for a moment."""
        freezing.thaw_left(self._mounts.glob(f"*{freezing.MARK}"), _RUN)
        for left in self._mounts.glob(".*"):
            if not left.name.startswith(f".{_RUN}"):
                await self._unmount(left.name)

    @contextlib.asynccontextmanager
    async def _passing_mount(self) -> AsyncIterator[Path]:
        """A mount point for a moment; the next daemon unmounts what this one leaves there."""
        name = f".{_RUN}-{secrets.token_hex(4)}"
        target = self._make_mount_point(name)
        try:
            yield target
        finally:
            await finished(self._unmount(name))

    @contextlib.asynccontextmanager
    async def _still(self, piece: str) -> AsyncIterator[None]:
        """A mounted piece's file system stands still while entered, where its snapshots need that."""
        mounted = self._mount_point(piece)
        if self.pool.abilities.settles or filesystems.mount_at(mounted) is None:
            yield
            return
        async with freezing.still(mounted, _RUN):
            yield

    def _mount_point(self, piece: str) -> Path:
        return self._mounts / piece

    def _make_mount_point(self, piece: str) -> Path:
        filesystems.make_folder(self._mounts.parent, 0o711)
        filesystems.make_folder(self._mounts, 0o711)
        filesystems.make_folder(self._mount_point(piece), 0o700)
        return self._mount_point(piece)

    async def _unmount(self, piece: str) -> None:
        """Unmount a piece from where we mount it."""
        target = self._mount_point(piece)
        while filesystems.mount_at(target) is not None:
            await self._run(["umount", "--", str(target)])
        with contextlib.suppress(OSError):
            target.rmdir()
