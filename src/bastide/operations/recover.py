"""What a daemon does with what an earlier one left: interrupted tasks, half-made guests, locks of the dead."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace

from bastide.base.errors import BastideError, InvalidParameter, NotFound
from bastide.base.ids import VolumeId
from bastide.host import qemu_nbd
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest, GuestState
from bastide.model.vm import VmConfig
from bastide.operations import snapshots, temporary
from bastide.operations.backup import disks as backup_disks
from bastide.operations.ct import snapshot as ct_snapshot
from bastide.operations.ct import staging as ct_staging
from bastide.operations.ct import stillness as ct_stillness
from bastide.operations.ct import template as ct_template
from bastide.operations.ct.plan import deactivate
from bastide.operations.destroy import erase
from bastide.operations.rooms import Rooms
from bastide.operations.vm import backup as vm_backup
from bastide.operations.vm import hibernate as vm_hibernate
from bastide.operations.vm import live_restore as vm_live_restore
from bastide.operations.vm import move as vm_move
from bastide.operations.vm import snapshot as vm_snapshot
from bastide.operations.vm import stillness as vm_stillness
from bastide.operations.vm import template as vm_template
from bastide.operations.vm.agent import thaw_forgotten
from bastide.operations.vm.ports import ports
from bastide.operations.volumes import delete_volumes, volumes_of

_log = logging.getLogger(__name__)


async def let_go(rooms: Rooms) -> None:
    """Let the guests go on that a dead daemon held: containers, virtual CPUs, and file systems inside.

    Called before anything that waits for others: a storage that hangs must not make a guest stand still.
    """
    await ct_stillness.let_go(rooms)
    await vm_stillness.let_go(rooms)
    await thaw_forgotten(rooms)


async def recover(rooms: Rooms) -> None:
    """Bring the host back to a state without halves. Called once at start, after `let_go`, before anybody is answered.

    * running tasks of the dead daemon end as failed;
    * a VM that was being restored while it ran is ended, and the one in whose place it was comes back;
    * a guest whose creation was interrupted is removed, one whose deletion was interrupted is deleted to the end;
    * VMs that were being saved get their drives back as they were;
    * what was being suspended to disk runs on, or is suspended if its memory was whole;
    * VMs whose disks were being moved keep the images that they use;
    * guests that had begun to run are connected to the network, and volumes of those that had not are released;
    * snapshots that were being taken are undone, deletions and rollbacks and the making of templates carried on;
    * guests that were only there to be measured are removed, and what was unpacked of a backup to be looked into;
    * volumes that an interrupted task had made and no guest uses are removed, and copies that it had put aside;
    * all locks are released. Running guests keep running.
    """
    qemu_nbd.tidy(rooms.layout.runtime)
    for record in await rooms.tasks.recover():
        _log.warning("task %s was interrupted", record.upid)
    await vm_backup.finish(rooms)
    await vm_move.finish_moves(rooms)
    waiting = await vm_live_restore.put_back(rooms)
    replaced = {guest.vmid for guest in waiting}
    for guest in await rooms.guests.list():
        if guest.vmid in replaced:
            continue
        if guest.config.get("lock") in ("create", "destroyed"):
            await _remove(rooms, guest)
        elif guest.kind == "lxc":
            await snapshots.finish(rooms, guest, ct_snapshot.MEANS)
            await ct_template.finish(rooms, guest.vmid)
        else:
            await snapshots.finish(rooms, guest, vm_snapshot.MEANS)
            await vm_hibernate.finish(rooms, guest)
    await vm_template.finish(rooms)
    for guest in await temporary.left(rooms):
        await _remove(rooms, guest)
    await backup_disks.tidy(rooms)
    await _connect(rooms)
    await _release(rooms)
    await _free_journaled(rooms, waiting)
    await ct_staging.forget_copies(rooms)


async def _remove(rooms: Rooms, guest: Guest) -> None:
    _log.warning("guest %d was half made or half removed: removing it", guest.vmid)
    try:
        if rooms.engine(guest).state(guest.vmid) is not GuestState.STOPPED:
            await rooms.engine(guest).stop(guest.vmid)
        await erase(rooms, guest, None)
    except BastideError as error:
        _log.error("guest %d could not be removed: %s", guest.vmid, error)
        await rooms.guests.update(replace(guest, config={**guest.config, "lock": "destroyed"}))


async def _connect(rooms: Rooms) -> None:
    """Connect the guests that somebody worked on: a start may have been cut short when the guest already ran."""
    for lock in await rooms.locks.list():
        try:
            guest = await rooms.guests.get(lock.vmid)
            if rooms.engine(guest).state(guest.vmid) is GuestState.STOPPED:
                continue
            qemu = guest.kind == "qemu"
            cards = ports(VmConfig.parse(guest.config)) if qemu else ContainerConfig.parse(guest.config).net
            for index, card in cards.items():
                with contextlib.suppress(NotFound):  # it is not plugged in
                    await rooms.network.connect(guest.vmid, index, card, guest.kind)
        except BastideError as error:
            _log.error("guest %d is not connected: %s", lock.vmid, error)


async def _release(rooms: Rooms) -> None:
    """Unmount the volumes of stopped containers that somebody worked on: no stop is seen of what never ran."""
    for lock in await rooms.locks.list():
        try:
            guest = await rooms.guests.get(lock.vmid)
            if guest.kind == "lxc" and rooms.engine(guest).state(guest.vmid) is GuestState.STOPPED:
                await deactivate(rooms, guest)
        except NotFound:
            continue
        except BastideError as error:
            _log.error("the volumes of guest %d are not released: %s", lock.vmid, error)


async def _free_journaled(rooms: Rooms, waiting: Sequence[Guest]) -> None:
    """Free what the locks name and no guest uses, also none of those that wait to come back."""
    used = {volid for guest in [*await rooms.guests.list(), *waiting] for volid in volumes_of(guest)}
    unreadable = rooms.guests.unreadable()
    for lock in await rooms.locks.list():
        if lock.vmid in unreadable:
            _log.error("guest %d: its record cannot be read, so its lock and its volumes stay", lock.vmid)
            continue
        doomed = []
        for text in lock.volumes:
            try:
                volid = VolumeId.parse(text)
            except InvalidParameter:
                continue
            if volid not in used and not rooms.guests.naming(str(volid)):
                doomed.append(volid)
        for problem in await delete_volumes(rooms, doomed):
            _log.error("%s", problem)
        await rooms.locks.break_lock(lock.vmid)
