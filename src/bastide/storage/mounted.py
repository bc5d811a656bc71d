"""A storage in a folder of another machine's, which is mounted when it is needed and missing while it is away."""

import asyncio
import os
from pathlib import Path
from typing import Literal

from bastide.base.errors import BastideError, HostFailure, NotSupported
from bastide.base.layout import Layout
from bastide.host import filesystems, network_mounts
from bastide.host.bounded import Bounded
from bastide.model.storage import StorageConfig, StorageUsage
from bastide.storage import secrets
from bastide.storage.folder_storage import FolderStorage
from bastide.storage.names import VolumeName

_DEADLINE = 8.0


class MountedStorage(FolderStorage):
    """FolderStorage and AttachedStorage of a share; a plugin says by which command line it is mounted."""

    filesystems: frozenset[str] = frozenset()
    """What the kernel calls such a mount."""

    def __init__(self, config: StorageConfig, layout: Layout) -> None:
        super().__init__(config, layout)
        self._layout = layout
        self._mounting = Bounded(f"the server of storage '{config.storage}'", _DEADLINE)
        self._attaching = asyncio.Lock()

    def source(self) -> str | None:
        """What the kernel names as the source of the mount, None where that is not known beforehand."""
        return None

    def command(self) -> list[str]:
        """The command line that mounts it on its folder."""
        raise NotImplementedError

    async def prepare(self) -> None:
        """Mount it and make its folders. Raises HostFailure, NotSupported."""
        self._to_prepare = True
        await self._attach()
        await super().prepare()

    async def usage(self) -> StorageUsage:
        """Space, within 10 s; it is mounted if it is not yet, and inactive when that fails."""
        try:
            async with asyncio.timeout(_DEADLINE):
                await self._attach()
                return await super().usage()
        except (BastideError, OSError):
            return StorageUsage(active=False, total=0, used=0, available=0)

    async def detach(self) -> None:
        """Unmount it. Raises WrongState while it is in use."""
        async with self._attaching:
            if self._is_mounted():
                # What looks into it for us and waits for its server is no use of it.
                await network_mounts.unmount(self._path, away=self._bounded.hangs)

    async def _attach(self) -> None:
        if self.config.disable:
            raise HostFailure(f"storage '{self.config.storage}' is disabled")
        async with self._attaching:
            if self._is_mounted():
                return
            filesystems.make_folder(self._path, 0o755)
            self._to_prepare = True
            await self._mounting.run(network_mounts.mount(self.command()))

    def _is_mounted(self) -> bool:
        entry = network_mounts.mounted(self._path)
        if entry is None:
            return False
        wanted = self.source()
        if entry.fstype not in self.filesystems or (wanted and entry.source.rstrip("/") != wanted.rstrip("/")):
            raise HostFailure(f"unable to activate storage '{self.config.storage}': {entry.source} is mounted there")
        return True

    def _is_away(self) -> bool:
        """The same, quickly: for every name that is looked up."""
        try:
            return os.lstat(self._path).st_dev == os.lstat(self._path.parent).st_dev
        except FileNotFoundError:
            return True

    def _secret(self, secret: Literal["password", "keyring", "secret"]) -> Path | None:
        """The file of a secret, None when there is none."""
        file = secrets.path(self._layout, self.config.storage, secret)
        return file if file.exists() else None

    def _check_mounted(self) -> None:
        if not self._is_mounted():
            raise HostFailure(f"storage '{self.config.storage}' is not online: {self._path} is not mounted")
        super()._check_mounted()

    def _where(self, parsed: VolumeName) -> Path:
        # Without the mount the same names would be the host's own.
        self._bounded.check()
        if self._is_away():
            raise HostFailure(f"storage '{self.config.storage}' is not online: {self._path} is not mounted")
        return super()._where(parsed)

    @property
    def container_format(self) -> Literal["raw", "subvol"]:
        """A server need not keep a container's owners and modes: an image does."""
        return "raw"

    def volume_name(self, vmid: int, number: int, size: int) -> str:
        """`100/vm-100-disk-0.raw`. Raises NotSupported without a size."""
        if size <= 0:
            raise NotSupported(f"storage '{self.config.storage}' keeps containers in images, which need a size")
        return super().volume_name(vmid, number, size)
