"""Making a VM a template: its disks become bases for linked clones, and it never runs again."""

import logging
from typing import cast

from bastide.base.errors import BastideError, InvalidParameter, NotFound, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.vm import VmConfig
from bastide.operations import snapshots
from bastide.operations.rooms import Rooms
from bastide.storage.protocol import CloneStorage, Storage
from bastide.tasks.tasks import Task

_PREFIX = "templating/"
_log = logging.getLogger(__name__)


async def make_template(rooms: Rooms, by: Identity, vmid: int, disk: str | None = None) -> Upid:
    """Make a stopped VM a template as a task: every disk becomes a base where its storage has such, or that one alone.

    From the moment the first disk is a base it is final: what is interrupted then is carried on by the next try or the
    next start of the daemon. Raises NotFound, InvalidParameter; WrongState when it runs, has snapshots or is one.
    """
    await _check(rooms, await rooms.guests.get(vmid, "qemu"), disk)

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "template"):
            await make_template_locked(rooms, await rooms.guests.get(vmid, "qemu"), task, disk)

    return await rooms.tasks.start("qmtemplate", str(vmid), by, work)


async def make_template_locked(rooms: Rooms, guest: Guest, task: Task, disk: str | None = None) -> None:
    """Make a VM whose lock the task holds a template."""
    await _check(rooms, guest, disk)
    await rooms.store.put(f"{_PREFIX}{guest.vmid}", disk or "")
    guest = await rooms.guests.update(guest.with_config({**guest.config, "template": 1}))
    await _make_bases(rooms, guest, disk)
    task.log(f"{guest.title} is a template")


async def finish(rooms: Rooms) -> None:
    """At the daemon's start: carry on with VMs that were being made templates. A failure is logged."""
    for entry in await rooms.store.list(_PREFIX):
        vmid = int(entry.key.removeprefix(_PREFIX))
        try:
            guest = await rooms.guests.get(vmid, "qemu")
            if guest.is_template:
                await _make_bases(rooms, guest, entry.value or None)
            else:
                await rooms.store.delete(entry.key)
        except BastideError as error:
            _log.error("VM %d is not a template yet: %s", vmid, error)


async def _make_bases(rooms: Rooms, guest: Guest, only: str | None) -> None:
    """Make disks bases, and write down their new names at once. May be repeated."""
    config = VmConfig.parse(guest.config)
    names: dict[str, str] = {}
    for key, volid in _volumes(guest, only).items():
        storage = await rooms.storages.get(volid.storage)
        try:
            if await _can_be_base(storage, volid.name):
                names[key] = str(VolumeId(volid.storage, await cast(CloneStorage, storage).make_base(volid.name)))
        except BastideError:
            if not names:
                plain = {name: value for name, value in guest.config.items() if name != "template"}
                await rooms.guests.update(guest.with_config(plain))
                await rooms.store.delete(f"{_PREFIX}{guest.vmid}")
            raise
    renamed = {
        key: str(volume.model_copy(update={"file": names[key]})) for key, volume in config.volumes() if key in names
    }
    await rooms.guests.update(guest.with_config({**guest.config, **renamed}))
    await rooms.store.delete(f"{_PREFIX}{guest.vmid}")


def _volumes(guest: Guest, only: str | None) -> dict[str, VolumeId]:
    found = snapshots.volumes_in(guest.config, guest.vmid)
    return {key: volid for key, volid in found.items() if only in (None, key) and not is_base(volid)}


def is_base(volid: VolumeId) -> bool:
    """Whether a volume's name says that nothing writes to it any more."""
    return volid.name.rpartition("/")[2].startswith("base-")


async def _can_be_base(storage: Storage, name: str) -> bool:
    try:
        return (await storage.info(name)).format in storage.capabilities.clones
    except NotFound:
        # It was made one, and its new name not yet written down.
        return bool(storage.capabilities.clones)


async def _check(rooms: Rooms, guest: Guest, disk: str | None) -> None:
    snapshots.check_unlocked(guest)
    if rooms.vms.state(guest.vmid) is not GuestState.STOPPED:
        raise WrongState(f"you can't convert {guest.title} to a template while it runs: stop it first")
    if guest.is_template and not _volumes(guest, disk):
        raise WrongState(f"{guest.title} is a template already")
    if guest.snapshots:
        raise WrongState(f"unable to create template, because {guest.title} contains snapshots: delete them first")
    if guest.pending or guest.removed:
        raise WrongState(f"{guest.title} has changes that wait for its next start")
    if disk is not None and disk not in snapshots.volumes_in(guest.config, guest.vmid):
        raise InvalidParameter({"disk": f"{guest.title} has no disk '{disk}' of its own"})
