"""The storage type `iscsi`: the disks (LUNs) of a target, used whole and as they are.

They are made and removed on the target. Names are `channel.id.lun.NAME`, NAME being the disk's below /dev/disk/by-id; a
disk belongs to no guest, so that no guest's removal touches it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from bastide.base.errors import BastideError, InvalidParameter, NotFound, NotSupported, RunError, WrongState
from bastide.base.layout import Layout
from bastide.host import iscsi
from bastide.host.bounded import Bounded
from bastide.host.iscsi import Lun
from bastide.model.storage import Content, DiskFormat, DiskImage, StorageConfig, StorageUsage, Volume
from bastide.storage.protocol import Capabilities, Progress

_NAME = re.compile(r"\d{1,5}\.\d{1,5}\.\d{1,5}\.[A-Za-z0-9_.:+-]{1,255}", re.ASCII)


class IscsiStorage:
    """Storage, AttachedStorage and what a DiskStorage has for disks that are there."""

    programs = ("iscsiadm",)

    def __init__(self, config: StorageConfig, layout: Layout) -> None:
        del layout
        self.config = config
        self._bounded = Bounded(f"storage '{config.storage}'")

    @property
    def capabilities(self) -> Capabilities:
        """Raw disks that are there already."""
        return Capabilities(
            contents=self.config.contents & {"images"},
            container_format="raw",
            enforces_size=True,
            shared=True,
            disk_formats=frozenset({"raw"}),
            thin=False,
        )

    async def prepare(self) -> None:
        """Log in to the target. Raises HostFailure, NotSupported."""
        await self._bounded.run(iscsi.attach(self.config.portal or "", self.config.target or ""))

    async def detach(self) -> None:
        """Log out of the target. Raises WrongState while a disk of it is open."""
        try:
            await self._bounded.run(iscsi.detach(self.config.target or ""))
        except RunError as error:
            raise WrongState(f"could not log out of the target of storage '{self.config.storage}': {error}") from error

    async def usage(self) -> StorageUsage:
        """Whether it is logged in to and answers; how much room there is on the target nobody tells."""
        if self.config.disable:
            return StorageUsage(active=False, total=0, used=0, available=0)
        try:
            here = await self._bounded.run(iscsi.sessions())
            if self.config.target not in {session.target for session in here.values()}:
                await self.prepare()
            active = await self._bounded.call(lambda: iscsi.answers(self.config.target or ""))
        except BastideError:
            return StorageUsage(active=False, total=0, used=0, available=0)
        return StorageUsage(active=active, total=0, used=0, available=0, allocated=0)

    async def list(self, content: Content | None = None, vmid: int | None = None) -> Sequence[Volume]:
        """Its disks; none belongs to a guest."""
        if vmid is not None or content not in (None, "images") or "images" not in self.config.contents:
            return []
        return [self._volume(lun) for lun in await self._luns()]

    async def info(self, name: str) -> Volume:
        """One disk. Raises NotFound, InvalidParameter."""
        return self._volume(await self._lun(name))

    async def delete(self, name: str) -> None:
        """Refused: it is the target's. Raises NotSupported."""
        raise NotSupported(f"'{self.config.storage}:{name}' can only be removed on the iSCSI target")

    def disk_name(self, vmid: int, label: int | str, form: DiskFormat | None = None) -> str:
        """Refused: no disk is made here. Raises NotSupported."""
        del vmid, label, form
        raise NotSupported(f"storage '{self.config.storage}' has the disks of its iSCSI target and makes none")

    async def allocate_disk(self, name: str, size: int) -> None:
        """Refused. Raises NotSupported."""
        del size
        self.disk_name(0, name)

    async def import_disk(
        self,
        source: Path | DiskImage,
        source_format: str,
        name: str,
        progress: Progress | None = None,
        *,
        ours: bool = False,
        rate: int = 0,
    ) -> None:
        """Refused. Raises NotSupported."""
        del source, source_format, progress, ours, rate
        self.disk_name(0, name)

    async def write_file(self, name: str, data: bytes) -> None:
        """Refused. Raises NotSupported."""
        del data
        self.disk_name(0, name)

    async def resize_disk(self, name: str, size: int) -> None:
        """Only its own size is fine. Raises NotFound, NotSupported."""
        if size != (await self._lun(name)).size:
            raise NotSupported(f"'{self.config.storage}:{name}' can only be resized on the iSCSI target")

    async def disk_path(self, name: str) -> Path:
        """The device below /dev/disk/by-id. Raises NotFound, InvalidParameter."""
        return (await self._lun(name)).path

    async def disk_image(self, name: str, snapshot: str | None = None) -> DiskImage:
        """The device. Raises NotFound."""
        if snapshot is not None:
            raise NotFound(f"volume '{self.config.storage}:{name}' has no snapshot '{snapshot}'")
        return DiskImage(await self.disk_path(name), "raw", device=True)

    async def _luns(self) -> Sequence[Lun]:
        return await self._bounded.call(lambda: iscsi.luns(self.config.target or ""))

    async def _lun(self, name: str) -> Lun:
        if _NAME.fullmatch(name) is None:
            raise InvalidParameter({"volume": f"unable to parse iscsi volume name '{name[:200]}'"})
        for lun in await self._luns():
            if lun.name == name:
                return lun
        raise NotFound(f"volume '{self.config.storage}:{name}' does not exist")

    def _volume(self, lun: Lun) -> Volume:
        return Volume(volid=f"{self.config.storage}:{lun.name}", content="images", format="raw", size=lun.size)
