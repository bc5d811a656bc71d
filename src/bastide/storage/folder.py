"""A storage's folder: how it is made and measured, where a volume lies in it, files on their way in."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from bastide.base.errors import BastideError, HostFailure, InvalidParameter
from bastide.base.layout import Layout
from bastide.host import filesystems, quota
from bastide.host.bounded import Bounded
from bastide.model.storage import Content, StorageConfig, StorageUsage
from bastide.storage.names import FILE_CONTENTS, FOLDERS, VolumeName, folders

_RUN = secrets.token_hex(8)
"""Marks this daemon's files in `.incoming`, so that the next one knows the leftovers."""

_NO_SPACE = StorageUsage(active=False, total=0, used=0, available=0)
_SUPPORTED = frozenset({*FILE_CONTENTS, "images", "rootdir"})
_PARTIAL_SECONDS = 24 * 3600


class Folder:
    """What every part of a plugin over a folder needs of it."""

    def __init__(self, config: StorageConfig, layout: Layout) -> None:
        self.config = config
        self._path = self._root(config, layout)
        # Without links, as far as the storage has been asked: to look them up may hang.
        self._real = self._path
        self._quotas: filesystems.MountEntry | None = quota.quota_mount(self._real)
        self._mounts = layout.runtime / "mounts" / config.storage
        self._host = layout.instance
        self._bounded = Bounded(f"storage '{config.storage}'")
        self._locks: dict[str, asyncio.Lock] = {}
        self._folders = folders(config.folders)
        self._to_prepare = False

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
            await filesystems.remove_tree(leftover)

    async def usage(self) -> StorageUsage:
        """Space; inactive when the folder is missing, not mounted though it should be, or hangs."""
        try:
            return await self._bounded.call(self._measure)
        except (BastideError, OSError):
            return _NO_SPACE

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

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
        file = parsed.relative.rpartition("/")[2]
        return self._path / ".incoming" / f"{self._host}.{_RUN}.{secrets.token_hex(4)}.{file}"[-255:]

    def _check_mounted(self) -> None:
        wanted = self.config.is_mountpoint
        if wanted in (None, "no", "0", "off", "false"):
            return
        point = Path(wanted) if wanted is not None and wanted.startswith("/") else self._path
        if filesystems.mount_at(point) is None:
            raise HostFailure(f"unable to activate storage '{self.config.storage}': {point} is not mounted")

    def _look(self) -> None:
        self._real = self._path.resolve()
        self._quotas = quota.quota_mount(self._real)

    def _make_folders(self) -> None:
        self._check_mounted()
        if not self._path.is_dir():
            if not (self.config.mkdir and self.config.create_base_path):
                raise HostFailure(f"unable to activate storage '{self.config.storage}': {self._path} does not exist")
            filesystems.make_folder(self._path, 0o755)
        self._look()
        filesystems.make_folder(self._path / ".incoming", 0o700)
        filesystems.make_folder(self._path / ".trash", 0o700)
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
        incoming = [*(self._path / ".incoming").iterdir()]
        dead = [path for path in incoming if path.name.startswith(ours) and f".{_RUN}." not in path.name]
        # Broken downloads are carried on by the next try, for a day.
        oldest = time.time() - _PARTIAL_SECONDS
        old = [path for path in incoming if path.name.startswith("partial.") and path.lstat().st_mtime < oldest]
        return trash + dead + old

    def _measure(self) -> StorageUsage:
        self._check_mounted()
        self._make_folders() if self._to_prepare else self._look()
        return StorageUsage(True, *filesystems.space(self._path))
