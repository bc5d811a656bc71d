"""Where a running VM's overwritten blocks are kept while it is saved: see `VmBackups`.

By default files without a name on the host, which are gone with those who have them open; else volumes on a storage,
which the guest's lock names before they are made.
"""

import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from bastide.base.errors import NoSpace
from bastide.base.ids import VolumeId
from bastide.base.units import GIB
from bastide.guest.vm_protocol import PlannedDisk
from bastide.host import disk_image, filesystems
from bastide.operations.backup.saving import Backup
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import delete_volumes


@dataclass(slots=True)
class Fleeces:
    """`files` are open descriptors, by the keys of the disks."""

    files: dict[str, int] = field(default_factory=dict)

    async def make(self, rooms: Rooms, backup: Backup, disks: Sequence[PlannedDisk], undo: AsyncExitStack) -> None:
        """Make one for each disk; `undo` removes them. Raises NoSpace, HostFailure, NotFound for the storage."""
        for number, disk in enumerate(disks):
            if backup.fleecing is None:
                with filesystems.translated("keep what the guest overwrites"):
                    file = tempfile.TemporaryFile(dir=rooms.layout.state)  # noqa: SIM115 - closed by `undo`
                undo.callback(file.close)
                self.files[disk.key] = file.fileno()
            else:
                volid = await _volume(rooms, backup, backup.fleecing, number)
                undo.push_async_callback(_remove, rooms, backup, volid)
                storage = await rooms.storages.disks(volid.storage)
                await storage.allocate_disk(volid.name, disk.size)
                path = await storage.disk_path(volid.name)
                self.files[disk.key] = undo.enter_context(disk_image.opened(path, os.O_RDWR))

    def check(self) -> None:
        """Raise NoSpace when they leave too little room for the others on their file system."""
        for key, descriptor in self.files.items():
            status, figures = os.fstat(descriptor), os.fstatvfs(descriptor)
            reserve = min(GIB, figures.f_blocks * figures.f_frsize // 20)
            free = figures.f_bavail * figures.f_frsize
            if stat.S_ISREG(status.st_mode) and status.st_blocks and free < reserve:
                raise NoSpace(
                    f"what the guest overwrites on {key} fills the place where it is kept: name a storage with more"
                    " room as `fleecing`, or save the VM while it writes less"
                )


async def _volume(rooms: Rooms, backup: Backup, storage_id: str, number: int) -> VolumeId:
    """A fleece's name, journaled; what an earlier one of that name has left is gone."""
    storage = await rooms.storages.disks(storage_id)
    volid = VolumeId(storage_id, storage.disk_name(backup.guest.vmid, f"fleece-{number}", "raw"))
    await backup.held.record(str(volid))
    await _remove(rooms, backup, volid)
    return volid


async def _remove(rooms: Rooms, backup: Backup, volid: VolumeId) -> None:
    for problem in await delete_volumes(rooms, [volid]):
        backup.task.warn(problem)
