"""Snapshots of volumes in a storage's folder.

Of a qcow2 image they lie inside the file. Of all others they are copies in the folder `.snapshots` beside the volume,
which share blocks where the file system can; a top layer's are of that layer alone: what is below never changes.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bastide.base.errors import AlreadyExists, HostFailure, NotFound, NotSupported
from bastide.host import filesystems, freezing, qemu_img, reflink, syscalls
from bastide.model.snapshot import check_snapshot_name
from bastide.storage import sidecars
from bastide.storage.folder import RUN, SNAPSHOTS
from bastide.storage.folder_containers import FolderContainers
from bastide.storage.names import VolumeName, parse_name


class FolderSnapshots(FolderContainers):
    """SnapshotStorage of a folder."""

    async def snapshot(self, name: str, snapshot: str) -> None:
        """Keep the volume's present state. Raises AlreadyExists, NoSpace, NotSupported; leaves nothing then."""
        parsed = self._with_snapshots(name)
        check_snapshot_name(snapshot)
        async with self._named(), self._lock(name):
            path = await self._bounded.call(lambda: self._there(parsed))
            if parsed.format == "qcow2":
                await qemu_img.snapshot_create(path, snapshot)
                return
            kept = _folder(path) / snapshot
            if await self._bounded.call(lambda: os.path.lexists(kept)):
                raise AlreadyExists(f"volume '{self.config.storage}:{name}' has a snapshot '{snapshot}' already")
            size = await self._bounded.call(lambda: sidecars.read(path, ".size")) or ""
            try:
                await asyncio.to_thread(_make_folder, kept, size)
                async with self._still(parsed):
                    await self._keep(parsed, path, kept)
            except BaseException:
                await self._drop(kept)
                with contextlib.suppress(OSError):
                    _tidy(kept)
                raise

    async def rollback(self, name: str, snapshot: str) -> None:
        """Give an inactive volume the state that it had, in one step; may be repeated. Raises NotFound."""
        parsed = self._with_snapshots(name)
        async with self._named(), self._lock(name):
            path = await self._bounded.call(lambda: self._where(parsed))
            if parsed.format == "qcow2":
                await qemu_img.snapshot_apply(await self._bounded.call(lambda: self._there(parsed)), snapshot)
                return
            kept = await self._kept(parsed, path, snapshot)
            await self._unmount(parsed)
            temporary = self._temporary(parsed)
            try:
                if parsed.format == "subvol":
                    size = int(sidecars.read(kept, ".size") or 0)
                    await self._copy_folder(kept, temporary, size)
                    await asyncio.to_thread(_exchange, temporary, path, size)
                else:
                    await reflink.copied(kept, temporary)
                    await asyncio.to_thread(_take_place, temporary, path)
            finally:
                await self._drop(temporary)

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Forget a snapshot; one that is gone already, with its volume or alone, is fine."""
        parsed = self._with_snapshots(name)
        async with self._named(), self._lock(name):
            path = await self._bounded.call(lambda: self._where(parsed))
            if parsed.format == "qcow2":
                if await self._bounded.call(path.exists):
                    await qemu_img.snapshot_delete(path, snapshot)
                return
            kept = _folder(path) / check_snapshot_name(snapshot)
            await self._forget(kept)
            await self._bounded.call(lambda: _tidy(kept))

    async def snapshots(self, name: str) -> Sequence[str]:
        """The snapshots of a volume, oldest first. Raises NotFound."""
        parsed = parse_name(name)
        path = await self._bounded.call(lambda: self._there(parsed))
        if parsed.format == "qcow2":
            return await qemu_img.snapshot_list(path)
        return await self._bounded.call(lambda: _taken(_folder(path)))

    @contextlib.asynccontextmanager
    async def reading_snapshot(self, name: str, snapshot: str, first_id: int = 0) -> AsyncIterator[Path]:
        """While entered, a folder that shows a container's volume as it was. Raises NotFound."""
        parsed = self._container_name(name)
        async with contextlib.AsyncExitStack() as stack:
            async with self._named():
                path = await self._bounded.call(lambda: self._there(parsed))
                kept = await self._kept(parsed, path, snapshot)
                if parsed.format == "raw":
                    await filesystems.settle_ext4(kept)
                layers = await self._bounded.call(lambda: self._layers(parsed, kept))
                folder = await stack.enter_async_context(self._shown(layers, first_id))
            yield folder

    async def _keep(self, parsed: VolumeName, path: Path, kept: Path) -> None:
        """Make the copy that is a snapshot; it appears whole."""
        temporary = self._temporary(parsed)
        try:
            if parsed.format == "subvol":
                await self._copy_folder(path, temporary, 0)
            else:
                await reflink.copied(path, temporary)
            await asyncio.to_thread(_take_place, temporary, kept)
        except BaseException:
            await self._drop(temporary)
            raise

    async def _forget(self, kept: Path) -> None:
        """Remove a snapshot's copy."""
        trash = self._trash(kept)
        try:
            await self._bounded.call(lambda: kept.rename(trash))
        except FileNotFoundError:
            await self._clear([])
        else:
            await self._clear([trash])

    async def _copy_folder(self, source: Path, target: Path, size: int) -> None:
        """Copy a folder with its owners and all; `size` limits the copy (0: nothing does). It survives power loss."""
        await asyncio.to_thread(self._make_subvol, target, size)
        await filesystems.copy_tree(source, target)
        await asyncio.to_thread(filesystems.sync_tree, target)

    @contextlib.asynccontextmanager
    async def _still(self, parsed: VolumeName) -> AsyncIterator[None]:
        """An active volume's own file system stands still while entered; the next daemon thaws what was left so."""
        mounted = self._mounted_image(parsed)
        if mounted is None:
            yield
            return
        async with freezing.still(mounted, RUN):
            yield

    def _thaw_left(self) -> None:
        """Let go on what a killed daemon had frozen."""
        freezing.thaw_left(self._mounts.glob(f"*/*{freezing.MARK}"), RUN)

    async def _kept(self, parsed: VolumeName, path: Path, snapshot: str) -> Path:
        """Where the copy that is a snapshot lies. Raises NotFound."""
        kept = _folder(path) / check_snapshot_name(snapshot)
        if not await self._bounded.call(lambda: os.path.lexists(kept)):
            raise NotFound(f"volume '{self.config.storage}:{parsed.text}' has no snapshot '{snapshot}'")
        return kept

    def _with_snapshots(self, name: str) -> VolumeName:
        parsed = parse_name(name)
        if parsed.format not in ("raw", "subvol", "qcow2") or parsed.content not in ("images", "rootdir"):
            raise NotSupported(f"volume '{self.config.storage}:{name}' can have no snapshots")
        return parsed


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.name}{SNAPSHOTS}")


def _make_folder(kept: Path, size: str) -> None:
    with filesystems.translated(f"keep a state of {kept.parent.name}"):
        filesystems.make_entry(kept.parent, 0o700)
        # Written first: its time is when the snapshot was taken, and a folder's size is told nowhere else.
        sidecars.write(kept, ".size", size)


def _take_place(temporary: Path, path: Path) -> None:
    """Let a copy take a name, in the place of a file that may be there."""
    with filesystems.translated(f"write {path}"):
        temporary.rename(path)
        filesystems.sync_folder(path.parent)


def _exchange(temporary: Path, path: Path, size: int) -> None:
    """Let two folders change places, and say the size of the one that is there now."""
    with filesystems.translated(f"take {path} back"):
        try:
            syscalls.exchange(temporary, path)
        except FileNotFoundError:
            temporary.rename(path)  # a try that was cut short has taken it away already
        except OSError as error:
            raise HostFailure(f"this file system cannot exchange two folders: {error.strerror}") from error
        sidecars.write(path, ".size", str(size) if size else None)
        filesystems.sync_folder(path.parent)


def _tidy(kept: Path) -> None:
    sidecars.write(kept, ".size", None)
    with contextlib.suppress(OSError):
        kept.parent.rmdir()


def _taken(folder: Path) -> list[str]:
    try:
        found = [path for path in folder.iterdir() if "." not in path.name]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path.name for path in sorted(found, key=_time)]


def _time(path: Path) -> tuple[int, str]:
    try:
        return path.with_name(f"{path.name}.size").stat().st_mtime_ns, path.name
    except FileNotFoundError:
        return path.lstat().st_ctime_ns, path.name
