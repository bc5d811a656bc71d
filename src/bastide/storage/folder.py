"""A storage's folder: how it is made and measured, where a volume lies in it, files on their way in."""

import asyncio
import contextlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import cast

from bastide.base.errors import AlreadyExists, BastideError, HostFailure, InvalidParameter
from bastide.base.layout import Layout
from bastide.host import filesystems, quota, reflink
from bastide.host.bounded import Bounded
from bastide.model.storage import Content, StorageConfig, StorageUsage
from bastide.storage import sidecars
from bastide.storage.below import NOTHING, SUFFIX, Below, check_key
from bastide.storage.names import FILE_CONTENTS, FOLDERS, VolumeName, folders
from bastide.storage.places import check_mounted, this_host

RUN = secrets.token_hex(8)
"""Marks this daemon's files in `.incoming`, so that the next one knows the leftovers."""

_NO_SPACE = StorageUsage(active=False, total=0, used=0, available=0)
_SUPPORTED = frozenset({*FILE_CONTENTS, "images", "rootdir"})
_PARTIAL_SECONDS = 24 * 3600

_BASE = re.compile(r"([0-9a-f]{16})\.(?:subvol|raw|disk\.raw)")

SNAPSHOTS = ".snapshots"
"""Suffix of the folder beside a volume that holds its snapshots."""


class Folder:
    """What every part of a plugin over a folder needs of it."""

    def __init__(self, config: StorageConfig, layout: Layout) -> None:
        self.config = config
        self._path = self._root(config, layout)
        # Without links, as far as the storage has been asked: to look them up may hang.
        self._real = self._path
        self._quotas: filesystems.MountEntry | None = quota.quota_mount(self._real)
        self._mounts = layout.runtime / "mounts" / config.storage
        self._host = this_host(layout)
        self._bounded = Bounded(f"storage '{config.storage}'", place=lambda: self._real)
        self._locks: dict[str, asyncio.Lock] = {}
        self._folders = folders(config.folders)
        self._to_prepare = False
        self._doomed: list[Path] = []
        self._reflink: bool | None = None
        """Whether files here can share blocks; None until the storage has been asked."""

    @staticmethod
    def _root(config: StorageConfig, layout: Layout) -> Path:
        """Where the storage's files lie: as configured, else where network shares are mounted."""
        return Path(config.path) if config.path is not None else layout.state / "mnt" / config.storage

    @property
    def contents(self) -> frozenset[str]:
        """The configured content types that it can hold."""
        return self.config.contents & _SUPPORTED

    async def prepare(self) -> None:
        """Make the folders and clear away what an earlier daemon left half done. Raises HostFailure.

        What fails here is made up for when the storage answers again.
        """
        self._to_prepare = True
        await self._bounded.call(self._make_folders)
        for leftover in await self._bounded.call(self._leftovers):
            await self._remove(leftover)

    async def usage(self) -> StorageUsage:
        """Space; inactive when the folder is missing, not mounted though it should be, or hangs."""
        try:
            return await self._bounded.call(self._measure, fresh=True)
        except (BastideError, OSError):
            return _NO_SPACE

    @contextlib.asynccontextmanager
    async def _named(self, kind: type[HostFailure] = HostFailure) -> AsyncIterator[None]:
        """Failures of the host in here name the storage."""
        try:
            yield
        except kind as failure:
            name = f"storage '{self.config.storage}'"
            if name not in str(failure):
                failure.args = (f"{name}: {failure}",)
            raise

    def _lock(self, name: str) -> asyncio.Lock:
        # A linked clone has two names, with its base and without.
        return self._locks.setdefault("/".join(name.split("/")[-2:]), asyncio.Lock())

    async def _remove(self, path: Path) -> None:
        """Remove what has been put aside."""
        await filesystems.remove_tree(path)

    async def _drop(self, temporary: Path) -> None:
        """Remove what has failed to become something; if that fails too, the first failure is the one to be told."""
        try:
            await asyncio.shield(self._remove(temporary))
        except HostFailure:
            self._doomed.append(temporary)

    async def _clear(self, trash: Iterable[Path]) -> None:
        """Remove what has been put aside, and what could not be removed before."""
        left, self._doomed = [*trash, *self._doomed], []
        try:
            while left:
                await self._remove(left[0])
                del left[0]
        finally:
            self._doomed += left

    def _where(self, parsed: VolumeName) -> Path:
        self._bounded.check()
        kept = FOLDERS[parsed.content]
        path = self._path / (self._folders[parsed.content] + parsed.relative.removeprefix(kept))
        for part in (path, *path.parents):
            if part == self._path:
                break
            if part.is_symlink():
                raise InvalidParameter({"volume": f"'{parsed.text}' leads through a symbolic link"})
        return path

    def _temporary(self, parsed: VolumeName) -> Path:
        return self._passing_file(parsed.relative.rpartition("/")[2])

    def _base_path(self, key: str, form: str) -> Path:
        """Where a base that belongs to no guest lies: `.subvol`, `.raw` (a file system), `.disk.raw`."""
        return self._path / ".base" / f"{check_key(key)}{form}"

    def _bases(self) -> list[tuple[str, Path]]:
        """The bases that belong to no guest, by their keys."""
        try:
            paths = [*(self._path / ".base").iterdir()]
        except FileNotFoundError:
            return []
        return [(match[1], path) for path in paths if (match := _BASE.fullmatch(path.name)) is not None]

    def _trash(self, path: Path) -> Path:
        return self._path / ".trash" / f"{secrets.token_hex(8)}.{path.name}"[-255:]

    def _discard_snapshots(self, path: Path) -> Path | None:
        """Put the snapshots of a volume that is gone aside."""
        trash = self._trash(path)
        try:
            path.with_name(f"{path.name}{SNAPSHOTS}").rename(trash)
        except FileNotFoundError:
            return None
        return trash

    def _put(self, temporary: Path, parsed: VolumeName, *, size: int | None = None, below: Below = NOTHING) -> None:
        """Give a finished volume its place in one step. Raises AlreadyExists, HostFailure; then it has none.

        `size` is said beside a folder, which has none itself.
        """
        target = self._where(parsed)
        with filesystems.translated(f"make {target}"):
            filesystems.make_entry(target.parent, 0o700)
            if os.path.lexists(target):
                raise AlreadyExists(f"volume '{self.config.storage}:{parsed.text}' already exists")
            # What an earlier volume of that name has left, if its removal was cut short.
            self._discard_snapshots(target)
            for suffix in (".notes", ".protected"):
                sidecars.write(target, suffix, None)
            try:
                sidecars.write(target, ".size", str(size) if size else None)
                sidecars.write(target, SUFFIX, below.to_text())
                if temporary.is_dir():
                    temporary.rename(target)
                    filesystems.sync_folder(target.parent)
                else:
                    filesystems.publish_file(temporary, target)
            except (HostFailure, OSError):
                self._take_away(temporary, target)
                raise

    @staticmethod
    def _take_away(temporary: Path, target: Path) -> None:
        """Undo `_put` as far as the disk allows."""
        if not os.path.lexists(temporary):
            with contextlib.suppress(OSError):
                target.rename(temporary)
        for suffix in (".size", SUFFIX) if not os.path.lexists(target) else ():
            with contextlib.suppress(OSError):
                sidecars.write(target, suffix, None)
        with contextlib.suppress(OSError):
            target.parent.rmdir()

    def _passing(self) -> str:
        """A name for a mount that ends before its operation does."""
        return f".{RUN}/{secrets.token_hex(4)}"

    def _passing_file(self, name: str) -> Path:
        return self._path / ".incoming" / f"{self._host}.{RUN}.{secrets.token_hex(4)}.{name}"[-255:]

    def _check_mounted(self) -> None:
        check_mounted(self.config, self._path)

    def _look(self) -> None:
        self._real = self._path.resolve()
        self._quotas = quota.quota_mount(self._real)
        if self._reflink is None:
            self._reflink = reflink.supported(self._path / ".incoming")

    def _make_folders(self) -> None:
        self._check_mounted()
        if not self._path.is_dir():
            if not (self.config.mkdir and self.config.create_base_path):
                raise HostFailure(f"unable to activate storage '{self.config.storage}': {self._path} does not exist")
            filesystems.make_folder(self._path, 0o755)
        for name in (".incoming", ".trash", ".base"):
            filesystems.make_folder(self._path / name, 0o700)
        self._look()
        if self.config.mkdir and self.config.create_subdirs:
            for content in sorted(self.contents):
                # Containers' roots have to pass `images` to reach what lies in their own folder there.
                folder = self._path / self._folders[cast(Content, content)]
                if content in ("images", "rootdir"):
                    for above in reversed(folder.relative_to(self._path).parents[:-1]):
                        filesystems.make_folder(self._path / above, 0o711)
                filesystems.make_folder(folder, 0o711 if content in ("images", "rootdir") else 0o700)
        self._to_prepare = False

    def _leftovers(self) -> Sequence[Path]:
        trash = [*(self._path / ".trash").iterdir()]
        ours = f"{self._host}."
        incoming = self._incoming()
        dead = [path for path in incoming if path.name.startswith(ours) and f".{RUN}." not in path.name]
        # Broken downloads are carried on by the next try, for a day.
        oldest = time.time() - _PARTIAL_SECONDS
        old = [path for path in incoming if path.name.startswith("partial.") and path.lstat().st_mtime < oldest]
        return trash + dead + old

    def _incoming(self) -> list[Path]:
        return [*(self._path / ".incoming").iterdir()]

    def _measure(self) -> StorageUsage:
        self._check_mounted()
        self._make_folders() if self._to_prepare else self._look()
        return StorageUsage(True, *filesystems.space(self._path))
