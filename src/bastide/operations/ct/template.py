"""Making a container a template: its volumes become bases for linked clones, and it never runs again."""

import logging
from typing import cast

from bastide.base.errors import BastideError, NotSupported, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest, GuestState
from bastide.operations import snapshots
from bastide.operations.ct import places
from bastide.operations.ct.plan import deactivate
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import with_volume
from bastide.storage.protocol import CloneStorage
from bastide.tasks.tasks import Task

_LOCK = "disk"
_log = logging.getLogger(__name__)


async def make_template(rooms: Rooms, by: Identity, vmid: int) -> Upid:
    """Make a stopped container a template as a task.

    From the moment the first volume is a base it is final: what is interrupted then is carried on by the next try or
    the next start of the daemon. Raises NotFound; WrongState when it runs, has snapshots or is a template; NotSupported
    when a storage makes no linked clones.
    """
    await _check(rooms, await rooms.guests.get(vmid, "lxc"))

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "template"):
            await become_template(rooms, await rooms.guests.get(vmid, "lxc"), task)

    return await rooms.tasks.start("vztemplate", str(vmid), by, work)


async def become_template(rooms: Rooms, guest: Guest, task: Task) -> None:
    """Make a container whose lock the task holds a template. Raises as `make_template` does."""
    await _check(rooms, guest)
    volumes = places.volumes_by_place(guest)
    if len(volumes) > 1 and not _half(guest):
        await places.opened(rooms, guest, volumes)  # nobody can write to it later
    await deactivate(rooms, guest)
    guest = await rooms.guests.update(guest.with_config({**guest.config, "template": 1, "lock": _LOCK}))
    await _make_bases(rooms, guest)
    task.log(f"{guest.title} is a template")


async def finish(rooms: Rooms, vmid: int) -> None:
    """At the daemon's start: carry on with a container that was being made a template. A failure is logged."""
    guest = await rooms.guests.get(vmid)
    if _half(guest):
        try:
            await _make_bases(rooms, guest)
        except BastideError as error:
            _log.error("container %d is not a template yet: %s", vmid, error)


async def _make_bases(rooms: Rooms, guest: Guest) -> None:
    """Make every volume a base, and write down their new names at once. May be repeated."""
    config = dict(guest.config)
    for key, volid in snapshots.volumes_in(guest.config, guest.vmid).items():
        storage = cast(CloneStorage, await rooms.storages.get(volid.storage))
        try:
            name = await storage.make_base(volid.name)
        except BastideError:
            if config == dict(guest.config):
                plain = {key: value for key, value in config.items() if key not in ("template", "lock")}
                await rooms.guests.update(guest.with_config(plain))
            raise
        config[key] = with_volume(config[key], VolumeId(volid.storage, name))
    del config["lock"]
    await rooms.guests.update(guest.with_config(config))


def _half(guest: Guest) -> bool:
    return guest.is_template and guest.config.get("lock") == _LOCK


async def _check(rooms: Rooms, guest: Guest) -> None:
    if _half(guest):
        return
    snapshots.check_unlocked(guest)
    if guest.is_template:
        raise WrongState(f"{guest.title} is a template already")
    if rooms.containers.state(guest.vmid) is not GuestState.STOPPED:
        raise WrongState(f"you can't convert {guest.title} to a template while it runs: stop it first")
    if guest.snapshots:
        raise WrongState(f"unable to create template, because {guest.title} contains snapshots: delete them first")
    if guest.pending or guest.removed:
        raise WrongState(f"{guest.title} has changes that wait for its next start")
    for key, mount in ContainerConfig.parse(guest.config).mp.items():
        if mount.volume.startswith("/"):
            raise WrongState(f"unable to create template, because mp{key} is a folder of this host")
    for volid in snapshots.volumes_in(guest.config, guest.vmid).values():
        storage, name = await rooms.storages.resolve(str(volid))
        form = (await storage.info(name)).format
        if form not in storage.capabilities.clones:
            raise NotSupported(f"storage '{volid.storage}' does not support templates of '{form}' volumes ({volid})")
