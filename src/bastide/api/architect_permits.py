"""What applying a plan needs: for each guest, exactly what the single calls of the API need."""

from dataclasses import dataclass

from bastide.api import lxc_permissions, qemu_permissions
from bastide.api.execute import BY_AGENT
from bastide.api.guest_permissions import Place
from bastide.api.routing import Call
from bastide.api.volume_permissions import check_volume
from bastide.architect.differences import Order, disk_key
from bastide.base import propstring
from bastide.model.container import ContainerConfig, ContainerOptions
from bastide.model.guest import Guest
from bastide.model.service import ENGINE
from bastide.model.vm import VmConfig
from bastide.operations.architect import deploy, guest_images
from bastide.operations.architect.changes import Change
from bastide.operations.catalog import find_buildable


@dataclass(frozen=True, slots=True)
class Permits:
    """The caller's permissions. Fulfils `operations.architect.apply.Permit`."""

    call: Call

    async def image(self, image: str, order: Order) -> None:
        """Use of a volume that is there; else what building or pulling one needs."""
        call = self.call
        if call.is_root:
            return
        volume = await guest_images.known(call.rooms, image, ENGINE[order.kind])
        if volume is not None:
            await check_volume(call, volume)
            return
        await call.require(f"/storage/{guest_images.STORAGE}", "Datastore.AllocateTemplate")
        built = "://" not in image and find_buildable(image, ENGINE[order.kind]) is not None
        if not built and not await call.may("/", "Sys.Modify"):
            await call.require(f"/nodes/{call.rooms.node}", "Sys.AccessNetwork")

    async def create(self, order: Order, name: str, vmid: int) -> None:
        """What POST /nodes/{node}/lxc and /qemu need, cloud-init's texts, and commands inside where one installs."""
        call = self.call
        if order.kind == "ct":
            container = deploy.container_options(call.rooms, order, name)
            await lxc_permissions.check_create(call, vmid, container, template=None, storage=order.storage)
        else:
            machine = deploy.vm_options(call.rooms, order, name, None)
            await qemu_permissions.check_create(Place(call, vmid), machine, storage=order.storage)
        await self._inside(order, vmid)

    async def change(self, guest: Guest, change: Change) -> None:
        """What PUT config needs."""
        call, vmid = self.call, guest.vmid
        if isinstance(change.options, ContainerOptions):
            before = ContainerConfig.parse(guest.config)
            await lxc_permissions.check_options(
                call, vmid, change.options, change.delete, before=before, unprivileged=bool(before.unprivileged)
            )
        else:
            present = [VmConfig.parse(guest.config), VmConfig.parse(guest.pending)]
            await qemu_permissions.check_options(Place(call, vmid), change.options, change.delete, present)

    async def grow(self, guest: Guest) -> None:
        """What PUT resize needs."""
        await self.call.require(f"/vms/{guest.vmid}", "VM.Config.Disk")
        drive = propstring.parse(str(guest.config.get(disk_key(guest.config), "")), "file")
        storage = (drive.get("file") or drive.get("volume", "")).partition(":")[0]
        await self.call.require(f"/storage/{storage}", "Datastore.AllocateSpace")

    async def finish(self, order: Order, guest: Guest) -> None:
        """What POST status/start needs, and commands inside where one installs."""
        await self.call.require(f"/vms/{guest.vmid}", "VM.PowerMgmt")
        await self._inside(order, guest.vmid)

    async def remove(self, guest: Guest) -> None:
        """What DELETE needs."""
        await self.call.require(f"/vms/{guest.vmid}", "VM.Allocate")

    async def _inside(self, order: Order, vmid: int) -> None:
        place = f"/vms/{vmid}"
        if order.service.user_data:
            await self.call.require(place, "VM.Config.Cloudinit")
        if order.recipe is not None or (order.kind == "vm" and order.service.mounts):
            await self.call.require(place, BY_AGENT if order.kind == "vm" else "VM.Console")
