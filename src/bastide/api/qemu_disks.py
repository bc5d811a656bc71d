"""`/nodes/{node}/qemu/{vmid}`: growing, detaching and moving disks."""

from typing import Annotated, Literal

from pydantic import Field

from bastide.api import qemu_permissions
from bastide.api.fields import GuestPath, WithDigest
from bastide.api.guest_permissions import Place
from bastide.api.qemu import SkipLock, known_options, option_keys
from bastide.api.routing import Branch, Call
from bastide.base.errors import Conflict
from bastide.base.ids import VolumeId
from bastide.model.types import ConfigKeys, Digest, StorageId, Vmid
from bastide.model.vm import VmOptions
from bastide.model.vm_disks import DRIVE_COUNTS
from bastide.operations.vm import disks
from bastide.operations.vm.move import Move, move_disk
from bastide.operations.volumes import owned_volumes

_CHECK = ("perm", "/vms/{vmid}", ("VM.Config.Disk",))
_DRIVES = tuple(f"{bus}{number}" for bus, count in DRIVE_COUNTS.items() for number in range(count))
_UNUSED = tuple(f"unused{number}" for number in range(256))

branch = Branch("/nodes/{node}/qemu/{vmid}")

DiskKey = Literal["efidisk0", "tpmstate0", *_DRIVES]  # type: ignore[valid-type]
MovableKey = Literal["efidisk0", "tpmstate0", *_DRIVES, *_UNUSED]  # type: ignore[valid-type]


class Resize(GuestPath, WithDigest):
    """A disk and its new size."""

    disk: DiskKey
    size: Annotated[str, Field(pattern=r"^\+?\d{1,15}(\.\d{1,6})?[KMGT]?$")]
    skiplock: SkipLock = None


class Unlink(GuestPath):
    """Disks to detach; with `force` their volumes go too."""

    idlist: Annotated[ConfigKeys, Field(max_length=16384)]
    force: bool | None = None


class MoveDisk(GuestPath, WithDigest):
    """A disk, and the storage and format, or the other VM, that it goes to."""

    disk: MovableKey
    storage: StorageId | None = None
    format: Literal["raw", "qcow2", "vmdk"] | None = None
    delete: bool | None = None
    target_vmid: Annotated[Vmid | None, Field(alias="target-vmid")] = None
    target_disk: Annotated[MovableKey | None, Field(alias="target-disk")] = None
    target_digest: Annotated[Digest | None, Field(alias="target-digest")] = None
    bwlimit: Annotated[int | None, Field(ge=0)] = None


@branch.put("/resize", Resize, check=_CHECK)
async def resize_disk(call: Call, p: Resize) -> str:
    """Grow a disk. Needs Datastore.AllocateSpace on its storage."""
    await _require_space(call, p.vmid, p.disk)
    return str(await disks.resize_disk(call.rooms, call.identity, p.vmid, p.disk, p.size, digest=p.digest))


@branch.put("/unlink", Unlink, check=_CHECK)
async def unlink_disks(call: Call, p: Unlink) -> None:
    """Detach disks, which become unused; unused ones are removed."""
    keys = option_keys(p.idlist)
    present = known_options(await call.rooms.guests.get(p.vmid))
    await qemu_permissions.check_options(Place(call, p.vmid), VmOptions(), keys, present)
    await disks.unlink(call.rooms, call.identity, p.vmid, keys, force=bool(p.force))


@branch.post("/move_disk", MoveDisk, check=_CHECK)
async def move(call: Call, p: MoveDisk) -> str:
    """Move a disk to another storage or format, or give it to another VM.

    Needs Datastore.AllocateSpace on the storage, and VM.Config.Disk on the other VM.
    """
    if p.target_vmid is not None:
        await call.require(f"/vms/{p.target_vmid}", "VM.Config.Disk")
        target = await call.rooms.guests.get(p.target_vmid, "qemu")
        if p.target_digest is not None and p.target_digest != target.digest:
            raise Conflict("detected modified configuration - file changed by other user? Try again.")
    if p.storage is not None:
        await call.require(f"/storage/{p.storage}", "Datastore.AllocateSpace")
    else:
        await _require_space(call, p.vmid, p.disk)
    wanted = Move(
        p.disk, p.storage, p.format, p.target_vmid, p.target_disk, bool(p.delete), digest=p.digest, limit=p.bwlimit
    )
    upid = await move_disk(call.rooms, call.identity, p.vmid, wanted)
    return str(upid)


async def _require_space(call: Call, vmid: int, key: str) -> None:
    """Raise PermissionDenied unless the caller may have space on the storage of a disk."""
    guest = await call.rooms.guests.get(vmid)
    volume = owned_volumes(guest.config, vmid).get(key)
    if volume is not None:
        await call.require(f"/storage/{VolumeId.parse(volume).storage}", "Datastore.AllocateSpace")
