"""The guests that a comparison measures: made, started until they are ready, stopped, and never left behind.

A guest is written down under `comparing/<vmid>`, with its name, before it is made, and struck out when it is gone. What
stands there after a daemon's death is removed by the next one (`left`), or by the next comparison.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bastide.base.errors import BastideError, DeadlineExceeded, NotFound
from bastide.host import facts
from bastide.model.access import Identity
from bastide.model.container import ContainerOptions
from bastide.model.guest import Guest
from bastide.model.service import ENGINE, Choice
from bastide.model.vm import VmOptions
from bastide.operations import booting, images, temporary
from bastide.operations.architect.subtasks import finished
from bastide.operations.ct import power as ct_power
from bastide.operations.ct.create import create_container
from bastide.operations.destroy import destroy_guest
from bastide.operations.rooms import Rooms
from bastide.operations.vm import power as vm_power
from bastide.operations.vm.create import create_vm
from bastide.tasks.tasks import Task

MEMORY = 1024
"""MiB that each measured guest has."""

_FIRST_VMID = 900_000_000
_READY_SECONDS = {"ct": 120.0, "vm": 300.0}
_EMULATED_SECONDS = 1800.0  # a machine that is busy as well takes its time
_STOP_SECONDS = {"ct": 60.0, "vm": 300.0}


@dataclass(frozen=True, slots=True)
class Stage:
    """Where and for whom guests are made: the storage of their disks, and the volume id of each kind's image."""

    rooms: Rooms
    by: Identity
    storage: str
    images: dict[Choice, str]

    @property
    def address(self) -> str | None:
        """The host's address on the managed bridge, as guests reach it."""
        bridge = self.rooms.network.gateway(self.rooms.network.bridge)
        return None if bridge is None else str(bridge.ipv4.ip)


async def obtain(rooms: Rooms, by: Identity, name: str, kind: Choice, *, storage: str, task: Task) -> str:
    """The volume id of an image, which is built when there is none. Raises NotFound, InvalidParameter, HostFailure."""
    engine = ENGINE[kind]
    found = await images.image_volid(rooms, name, engine)
    if found is None:
        task.log(f"building the image {name} for a {kind.upper()}: there is none yet")
        await finished(rooms, images.build_image(rooms, by, name, storage, kind=engine))
        found = await images.image_volid(rooms, name, engine)
    if found is None:
        raise NotFound(f"there is no image '{name}' for a {kind.upper()}: see `bastide image ls`")
    return found


@contextlib.asynccontextmanager
async def made(stage: Stage, kind: Choice) -> AsyncIterator[tuple[Guest, float]]:
    """A new stopped guest and the seconds that making it took; it is gone when the block ends, however it ends."""
    rooms = stage.rooms
    vmid = await rooms.guests.next_vmid(_FIRST_VMID)
    name = f"compare-{kind}-{secrets.token_hex(4)}"
    await temporary.enter(rooms, "comparing", vmid, name)
    try:
        begun = time.monotonic()
        await _create(stage, kind, vmid, name)
        seconds = time.monotonic() - begun
        yield await rooms.guests.get(vmid), seconds
    finally:
        await asyncio.shield(asyncio.ensure_future(_remove(rooms, stage.by, vmid, name)))


async def _create(stage: Stage, kind: Choice, vmid: int, name: str) -> None:
    rooms, cores = stage.rooms, facts.cpu_count()
    common = {"cores": cores, "memory": str(MEMORY), "description": "measured by bastide compare"}
    nic = f"bridge={rooms.network.bridge}"
    if kind == "ct":
        options = ContainerOptions.parse(
            {
                **common,
                "hostname": name,
                "unprivileged": 1,
                "rootfs": f"{stage.storage}:8",
                "net0": f"name=eth0,{nic},ip=dhcp,ip6=auto",
            }
        )
        image = stage.images["ct"]
        await finished(rooms, create_container(rooms, stage.by, vmid, image, options, storage=stage.storage))
        return
    machine = {"cpu": "host"} if rooms.vms.accelerator[0] == "kvm" else {}
    disk = f"{stage.storage}:0,import-from={stage.images['vm']},iothread=1,discard=on"
    vm_options = VmOptions.parse(
        {
            **common,
            **machine,
            "name": name,
            "machine": "q35",
            "ostype": "l26",
            "scsihw": "virtio-scsi-single",
            "scsi0": disk,
            "ide2": f"{stage.storage}:cloudinit",
            "net0": f"virtio,{nic}",
            "ipconfig0": "ip=dhcp,ip6=auto",
            "ciupgrade": 0,
            "agent": "1",
            "rng0": "source=/dev/urandom",
            "serial0": "socket",
        }
    )
    await finished(rooms, create_vm(rooms, stage.by, vmid, vm_options, storage=stage.storage))


async def _remove(rooms: Rooms, by: Identity, vmid: int, name: str) -> None:
    """Destroy a guest of ours, if it is there; one that stays is removed by whoever looks at `left` next."""
    guest = await temporary.entered(rooms, vmid, name)
    if guest is not None:
        await finished(rooms, destroy_guest(rooms, by, vmid, force=True))
    await temporary.strike_out(rooms, "comparing", vmid)


async def remove_left(rooms: Rooms, by: Identity, task: Task) -> None:
    """Destroy what an earlier comparison has left."""
    for guest in await temporary.left(rooms, "comparing"):
        task.log(f"removing {guest.title}, which an earlier comparison left")
        try:
            await _remove(rooms, by, guest.vmid, guest.name)
        except BastideError as error:
            task.warn(f"{guest.title} could not be removed: {error}")


async def start(stage: Stage, kind: Choice, guest: Guest) -> float:
    """Start a guest; the seconds until its system says that it is up.

    Raises DeadlineExceeded, HostFailure.
    """
    rooms, begun = stage.rooms, time.monotonic()
    power = ct_power if kind == "ct" else vm_power
    await finished(rooms, power.start(rooms, stage.by, guest.vmid))
    emulated = kind == "vm" and rooms.vms.accelerator[0] == "tcg"
    limit = _EMULATED_SECONDS if emulated else _READY_SECONDS[kind]
    try:
        async with asyncio.timeout(limit):
            if kind == "vm":
                await booting.agent_up(rooms, guest)
            await booting.system_up(rooms, guest, limit)
    except TimeoutError:
        raise DeadlineExceeded(f"{guest.title} was not ready within {limit:g} seconds") from None
    return time.monotonic() - begun


async def stop(stage: Stage, kind: Choice, guest: Guest) -> float:
    """Shut a guest down; the seconds until it is stopped. Raises HostFailure."""
    power, begun = ct_power if kind == "ct" else vm_power, time.monotonic()
    await finished(stage.rooms, power.shutdown(stage.rooms, stage.by, guest.vmid, timeout=_STOP_SECONDS[kind]))
    return time.monotonic() - begun
