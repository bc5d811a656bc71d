"""Who may use, see and remove volumes, as Proxmox VE decides it by what a volume is and whose.

Datastore.Allocate on a storage is enough for whatever is on it.
"""

from collections.abc import Sequence

from bastide.api.routing import Call
from bastide.base.errors import NotFound
from bastide.base.ids import VolumeId
from bastide.model.storage import Volume

_PROTECTED = 5


async def check_volume(call: Call, volid: str, vmid: int | None = None) -> None:
    """Raise PermissionDenied unless the caller may use an existing volume (for the guest `vmid`, whose own are free).

    Raises InvalidParameter naming `volume`, NotFound, WrongState.
    """
    storage = VolumeId.parse(volid).storage
    if await _owns(call, storage):
        return
    volume = await _look(call, volid)
    if volume.vmid is None or volume.vmid != vmid:
        await _require(call, storage, volume.content, volume.vmid)


async def check_removal(call: Call, volid: str) -> None:
    """Raise PermissionDenied unless the caller may remove or annotate an existing volume. Raises as `check_volume`."""
    storage = VolumeId.parse(volid).storage
    if await _owns(call, storage):
        return
    volume = await _look(call, volid)
    if volume.content == "backup":
        await check_backups(call, storage, volume.vmid)
    else:
        await call.require(f"/storage/{storage}", "Datastore.Allocate")


async def check_backups(call: Call, storage: str, vmid: int | None) -> None:
    """Raise PermissionDenied unless the caller may use and remove a guest's backups on a storage, None for all."""
    if not await _owns(call, storage):
        await _require(call, storage, "backup", vmid)


async def may_see(call: Call, storage: str, content: str, vmid: int | None) -> bool:
    """Whether the caller may see a volume of that content and owner."""
    if await _owns(call, storage):
        return True
    for path, privileges in _needed(storage, content, vmid):
        if not await call.may(path, *privileges, any_of=True):
            return False
    return True


async def most_protected(call: Call, storage: str) -> int | None:
    """How many backups of a guest the caller may protect where the storage says nothing; None for any number."""
    return None if await call.may(f"/storage/{storage}", "Datastore.Allocate") else _PROTECTED


async def _owns(call: Call, storage: str) -> bool:
    return call.is_root or await call.may(f"/storage/{storage}", "Datastore.Allocate")


async def _look(call: Call, volid: str) -> Volume:
    try:
        storage, name = await call.rooms.storages.resolve(volid)
        return await storage.info(name)
    except NotFound:
        # Whoever sees nothing of a storage is not told what is not there.
        path = f"/storage/{VolumeId.parse(volid).storage}"
        await call.require(path, "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)
        raise


async def _require(call: Call, storage: str, content: str, vmid: int | None) -> None:
    for path, privileges in _needed(storage, content, vmid):
        await call.require(path, *privileges, any_of=True)


def _needed(storage: str, content: str, vmid: int | None) -> Sequence[tuple[str, Sequence[str]]]:
    """What the use of a volume takes where Datastore.Allocate is not there: on each path one of the privileges."""
    path = f"/storage/{storage}"
    if content in ("iso", "vztmpl", "import"):
        return [(path, ("Datastore.AllocateSpace", "Datastore.Audit"))]
    if content == "backup" and vmid is not None:
        return [(path, ("Datastore.AllocateSpace",)), (f"/vms/{vmid}", ("VM.Backup",))]
    if content in ("images", "rootdir") and vmid is not None:
        return [(path, ("Datastore.Audit",)), (f"/vms/{vmid}", ("VM.Config.Disk",))]
    return [(path, ("Datastore.Allocate",))]
