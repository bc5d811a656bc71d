"""A container's texts for cloud-init: left in its file system before a start. A VM has a drive for them."""

import asyncio

from bastide.base.errors import WrongState
from bastide.guest import cloudinit as drive
from bastide.guest.protocol import ContainerPlan
from bastide.model.guest import Guest
from bastide.operations.rooms import Rooms
from bastide.operations.vm.cloudinit import CloudInit, get_data

_NOTHING = "#cloud-config\n{}\n"
# The container's options say what its network is; cloud-init would make one of its own.
_NETWORK = "config: disabled\n"


async def write_seed(rooms: Rooms, guest: Guest, plan: ContainerPlan) -> None:
    """Leave the texts that were set for a guest, if any, in its root file system, which is active.

    Raises WrongState when it has no cloud-init.
    """
    data = await get_data(rooms, guest.vmid)
    if data == CloudInit():
        return
    texts = drive.documents(
        drive.Seed(
            hostname=guest.name.partition(".")[0],
            user_data=data.user or _NOTHING,
            network_data=_NETWORK,
            vendor_data=data.vendor,
            meta_data=data.meta,
        )
    )
    try:
        await asyncio.to_thread(rooms.containers.seed, plan, texts)
    except WrongState as error:
        raise WrongState(
            f"CT {guest.vmid} ({guest.name}) has user data and cannot start: {error}; use a template that has "
            "cloud-init, such as debian-12-cloud, or delete the texts (bastide cloudinit --delete)"
        ) from None
