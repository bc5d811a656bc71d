"""What options of guests of both kinds reach beyond the guest: other volumes, storages, bridges, resource mappings."""

from dataclasses import dataclass

from bastide.api.routing import Call
from bastide.base.errors import PermissionDenied
from bastide.base.ids import VolumeId


@dataclass(frozen=True, slots=True)
class Place:
    """A guest whose options a caller would set. `pool` is the pool that a new guest shall be in."""

    call: Call
    vmid: int
    pool: str | None = None

    async def require(self, *privileges: str, any_of: bool = False) -> None:
        """Raise PermissionDenied unless the caller has the privileges on the guest, or on the pool of a new one."""
        if self.pool is not None and await self.call.may(f"/pool/{self.pool}", *privileges, any_of=any_of):
            return
        await self.call.require(f"/vms/{self.vmid}", *privileges, any_of=any_of)


def root_only(what: str) -> PermissionDenied:
    """The refusal of what is root@pam's alone; a token is never root@pam."""
    return PermissionDenied(f"Permission check failed ({what})")


async def check_bridge(call: Call, bridge: str | None, tag: int | None = None, trunks: str | None = None) -> None:
    """Raise PermissionDenied unless the caller may use the bridge, and there the VLANs."""
    if bridge is None:
        return
    base = f"/sdn/zones/localnetwork/{bridge}"
    vlans = [str(tag)] if tag is not None else []
    vlans += (trunks or "").split(";") if trunks else []
    if vlans:
        for vlan in vlans:
            await call.require(f"{base}/{vlan}", "SDN.Use")
    else:
        await call.require(base, "SDN.Use")


async def check_volume(call: Call, volid: str, vmid: int | None = None) -> None:
    """Raise PermissionDenied unless the caller may use an existing volume (for the guest `vmid`)."""
    if call.is_root:
        return
    volume = VolumeId.parse(volid)
    storage, name = await call.rooms.storages.resolve(volid)
    info = await storage.info(name)
    path = f"/storage/{volume.storage}"
    if info.content in ("iso", "vztmpl", "import"):
        await call.require(path, "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)
    elif info.vmid is not None and info.vmid == vmid:
        return
    elif info.content == "backup" and info.vmid is not None:
        await call.require(path, "Datastore.AllocateSpace")
        await call.require(f"/vms/{info.vmid}", "VM.Backup")
    elif info.content in ("images", "rootdir") and info.vmid is not None:
        await call.require(path, "Datastore.Audit")
        await call.require(f"/vms/{info.vmid}", "VM.Config.Disk")
    else:
        await call.require(path, "Datastore.Allocate")
