"""Snapshots of guests of both kinds: the tree, the record with its steps, and what a restart finishes.

`ct/snapshot.py` and `vm/snapshot.py` tell how one is taken; what follows is the same for both. The caller holds the
guest's lock wherever a record is changed.
"""

import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from bastide.base.errors import AlreadyExists, BastideError, Locked, NotFound, NotSupported, WrongState
from bastide.base.ids import VolumeId
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.record import Scalar
from bastide.model.snapshot import Snapshot, check_snapshot_name
from bastide.operations.pending import keep_unused
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import delete_volumes, owned_volumes, present_volumes
from bastide.storage.protocol import SnapshotStorage
from bastide.tasks.tasks import Task

Feature = Literal["snapshot", "clone", "copy"]

_UNUSED = re.compile(r"unused\d+", re.ASCII)
_CLOUDINIT = re.compile(r"vm-\d+-cloudinit\b", re.ASCII)
_NOT_TAKEN = frozenset({"lock", "parent", "description", "template", "vmstate", "runningmachine"})
_log = logging.getLogger(__name__)


async def forget_volumes(rooms: Rooms, guest: Guest, snapshot: Snapshot) -> list[str]:
    """Delete a snapshot of every volume by its storage, and its memory; what cannot be deleted, as sentences."""
    del guest
    problems = []
    for text in snapshot.volumes:
        try:
            storage, name = await rooms.storages.resolve(text)
            if storage.capabilities.snapshots:
                await cast(SnapshotStorage, storage).delete_snapshot(name, snapshot.name)
        except NotFound:
            continue
        except Exception as error:
            problems.append(f"could not delete snapshot '{snapshot.name}' of volume '{text}': {error}")
    if snapshot.vmstate is not None:
        problems += await delete_volumes(rooms, [VolumeId.parse(snapshot.vmstate)])
    return problems


@dataclass(frozen=True, slots=True)
class Means:
    """What differs between the kinds of guest.

    `halt` stops a guest that runs and lets go of its volumes; `forget` deletes a snapshot of every volume and returns
    what it could not delete.
    """

    halt: Callable[[Rooms, Guest, Task | None], Awaitable[None]]
    forget: Callable[[Rooms, Guest, Snapshot], Awaitable[list[str]]] = forget_volumes


# reading


def rows(rooms: Rooms, guest: Guest) -> list[dict[str, Any]]:
    """The tree as `GET snapshot` answers it; the last row, `current`, is the present state."""
    found: list[dict[str, Any]] = []
    for snapshot in guest.snapshots.values():
        row = {"name": snapshot.name, "snaptime": snapshot.taken_at, "description": snapshot.description or ""}
        row |= {"parent": snapshot.parent} if snapshot.parent else {}
        row |= {"vmstate": int(snapshot.vmstate is not None)} if guest.kind == "qemu" else {}
        row |= {"snapstate": snapshot.step} if snapshot.step else {}
        found.append(row)
    running = rooms.engine(guest).state(guest.vmid) is not GuestState.STOPPED
    current = {"name": "current", "description": "You are here!", "running": int(running), "digest": guest.digest}
    current |= {"parent": guest.config["parent"]} if "parent" in guest.config else {}
    return [*found, current]


def find(guest: Guest, name: str) -> Snapshot:
    """A guest's snapshot. Raises NotFound."""
    if name not in guest.snapshots:
        raise NotFound(f"snapshot '{name[:60]}' does not exist")
    return guest.snapshots[name]


def shown_config(guest: Guest, name: str) -> dict[str, Scalar]:
    """A snapshot's configuration with what is known of the snapshot itself. Raises NotFound."""
    snapshot = find(guest, name)
    known = {
        "snaptime": snapshot.taken_at,
        "parent": snapshot.parent,
        "description": snapshot.description,
        "vmstate": snapshot.vmstate,
        "runningmachine": snapshot.machine,
        "runningcpu": snapshot.cpu,
        "snapstate": snapshot.step,
    }
    hidden = {"cipassword": "**********"} if "cipassword" in snapshot.config else {}
    return {**snapshot.config, **hidden, **{key: value for key, value in known.items() if value is not None}}


def volumes_in(config: Mapping[str, Scalar], vmid: int) -> dict[str, VolumeId]:
    """{key: volume} of what a snapshot is taken of, a container's root first, the others in the order of the keys.

    Bind mounts, files of others and devices are not the guest's; configuration drives are written anew at each start.
    """
    return {
        key: VolumeId.parse(text)
        for key, text in sorted(owned_volumes(config, vmid).items(), key=lambda item: (item[0] != "rootfs", item))
        if not _UNUSED.fullmatch(key) and not _CLOUDINIT.search(text)
    }


async def feature(rooms: Rooms, guest: Guest, wanted: Feature, name: str | None = None) -> bool:
    """Whether a snapshot, a linked clone or a full copy of the guest, or of its snapshot, can be made now.

    Raises NotFound for a snapshot that is not there.
    """
    config = guest.config if name is None else find(guest, name).config
    if wanted == "snapshot" and guest.is_template:
        return False
    if wanted == "clone" and (not guest.is_template or name is not None):
        return False
    stopped = rooms.engine(guest).state(guest.vmid) is GuestState.STOPPED
    for volid in volumes_in(config, guest.vmid).values():
        storage, volume = await rooms.storages.resolve(str(volid))
        able = storage.capabilities.clones if wanted == "clone" else storage.capabilities.snapshots
        # A stopped guest's volumes can be copied on any storage.
        if not (wanted == "copy" and name is None and stopped) and (await storage.info(volume)).format not in able:
            return False
    return True


# changing


def check_unlocked(guest: Guest) -> None:
    """Raise Locked when the configuration holds a lock."""
    if guest.config.get("lock"):
        raise Locked(f"{guest.title.partition(' ')[0]} is locked ({guest.config['lock']})")


async def check_new(rooms: Rooms, guest: Guest, name: str) -> bool:
    """Refuse what cannot be taken; whether all volumes are taken in an instant, without copying.

    Raises InvalidParameter, AlreadyExists, WrongState for a template, Locked, NotSupported.
    """
    check_snapshot_name(name)
    check_unlocked(guest)
    if guest.is_template:
        raise WrongState(f"{guest.title} is a template: it does not change, so that there is nothing to snapshot")
    if name in guest.snapshots:
        raise AlreadyExists(f"snapshot name '{name}' already used: it already exists")
    instant = True
    for volid in volumes_in(guest.config, guest.vmid).values():
        storage, volume = await rooms.storages.resolve(str(volid))
        form = (await storage.info(volume)).format
        if form not in storage.capabilities.snapshots:
            raise NotSupported(
                f"snapshot feature is not available: storage '{volid.storage}' takes none of '{form}' volumes ({volid})"
            )
        instant = instant and form in storage.capabilities.instant
    return instant


async def begin(
    rooms: Rooms,
    guest: Guest,
    name: str,
    description: str | None = None,
    *,
    volumes: Iterable[VolumeId] | None = None,
    lock: str = "snapshot",
    **facts: Any,
) -> Guest:
    """Write down a snapshot before any volume is touched, with `facts` of Snapshot; returns the stored record.

    `volumes` of the guest's are meant, all without; `lock` is what its configuration says meanwhile. Until `complete` a
    restart of the daemon undoes it, and `discard` is the inverse.
    """
    taken = volumes_in(guest.config, guest.vmid).values() if volumes is None else volumes
    snapshot = Snapshot(
        name=name,
        taken_at=int(time.time()),
        config=_taken(guest.config),
        volumes=tuple(str(volid) for volid in taken),
        parent=cast(str | None, guest.config.get("parent")),
        description=description or None,
        step="prepare",
        **facts,
    )
    return await _write(rooms, guest, snapshot, lock)


async def take_volumes(rooms: Rooms, snapshot: Snapshot) -> None:
    """Take the snapshot of every volume by its storage; nobody writes to them meanwhile."""
    for text in snapshot.volumes:
        await (await _storage(rooms, text)).snapshot(VolumeId.parse(text).name, snapshot.name)


async def complete(rooms: Rooms, vmid: int, name: str, **facts: Any) -> Guest:
    """Make a snapshot whole, with further `facts`; the guest's present state comes after it from now on."""
    guest = await rooms.guests.get(vmid)
    snapshot = replace(find(guest, name), step=None, **facts)
    guest = replace(guest, config={**guest.config, "parent": name})
    return await _write(rooms, guest, snapshot, None)


async def discard(rooms: Rooms, vmid: int, name: str, means: Means, task: Task | None = None) -> None:
    """The inverse of `begin`. What cannot be removed now goes with the next start of the daemon."""
    try:
        guest = await rooms.guests.get(vmid)
        if name in guest.snapshots:
            await delete(rooms, guest, name, means, task)
    except BastideError as error:
        _log.error("snapshot '%s' of guest %d is not removed yet: %s", name, vmid, error)
        if task is not None:
            task.warn(str(error))


async def delete(
    rooms: Rooms, guest: Guest, name: str, means: Means, task: Task | None = None, *, force: bool = False
) -> Guest:
    """Delete a snapshot, of a running guest too; with `force` the record goes even if a volume's snapshot stays.

    When it fails the snapshot is as it was, or it is marked so that it cannot be rolled back to: then the next try or
    the next start of the daemon carries on. Raises NotFound, WrongState.
    """
    snapshot = find(guest, name)
    if snapshot.step == "rollback" and not force:
        raise WrongState(f"{guest.title} is on its way back to '{name}': roll back to it again first")
    guest = await _write(rooms, guest, replace(snapshot, step="delete"), "snapshot-delete")
    try:
        problems = await means.forget(rooms, guest, snapshot)
    except BaseException:
        await _write(rooms, guest, replace(snapshot, step="delete"), None)
        raise
    if task is not None and force:
        for problem in problems:
            task.warn(problem)
    if problems and not force:
        whole = snapshot.step is None and await _whole(rooms, snapshot)
        await _write(rooms, guest, replace(snapshot, step=None if whole else "delete"), None)
        raise WrongState("; ".join(problems))
    guest = await rooms.guests.update(_without(guest, snapshot))
    if task is not None:
        task.log(f"deleted snapshot '{name}'")
    return guest


def check_rollback(guest: Guest, name: str) -> Snapshot:
    """The snapshot to roll back to. Raises NotFound, Locked, WrongState for one that is not whole."""
    snapshot = find(guest, name)
    if snapshot.step in ("prepare", "delete"):
        raise WrongState(f"unable to rollback to incomplete snapshot (snapstate = {snapshot.step})")
    # A rollback that could not be finished is tried again.
    if snapshot.step is None:
        check_unlocked(guest)
    return snapshot


async def roll_back(rooms: Rooms, guest: Guest, name: str, means: Means, task: Task | None = None) -> Guest:
    """Stop the guest and give it the volumes and the configuration that it had; returns the stored record.

    Volumes that were added since become `unused[n]`. When a volume cannot be taken back the first time, nothing has
    changed but that the guest is stopped; later the guest stays locked, and the next try or the next start of the
    daemon carries on. Raises NotFound, Locked, WrongState.
    """
    snapshot = check_rollback(guest, name)
    await _check_volumes(rooms, snapshot)
    begun = snapshot.step == "rollback"
    guest = await _write(rooms, guest, replace(snapshot, step="rollback"), "rollback")
    try:
        await means.halt(rooms, guest, task)
    except BaseException:
        await _stay(rooms, guest.vmid, name, begun=begun)
        raise
    for text in snapshot.volumes:
        try:
            await (await _storage(rooms, text)).rollback(VolumeId.parse(text).name, name)
        except BastideError:
            await _stay(rooms, guest.vmid, name, begun=begun)
            raise
        begun = True
    guest = await rooms.guests.update(_restored(await rooms.guests.get(guest.vmid), snapshot))
    if task is not None:
        task.log(f"{guest.title} is as it was at snapshot '{name}'")
    return guest


async def describe(rooms: Rooms, by: Identity, guest: Guest, name: str, description: str | None) -> None:
    """Change what is written about a snapshot; None leaves it, an empty text removes it. Raises NotFound, Locked."""
    find(guest, name)
    if description is None:
        return
    async with rooms.locks.hold(guest.vmid, f"{by}:snapshot", "snapshot"):
        guest = await rooms.guests.get(guest.vmid)
        snapshot = replace(find(guest, name), description=description or None)
        await rooms.guests.update(replace(guest, snapshots={**guest.snapshots, name: snapshot}))


def check_unheld(guest: Guest, volumes: Mapping[str, str]) -> None:
    """Raise WrongState when a snapshot still needs one of the volumes ({key: volume id}) that shall be removed."""
    for key, volume in volumes.items():
        for snapshot in guest.snapshots.values():
            if volume in snapshot.volumes:
                raise WrongState(
                    f"unable to delete '{key}': snapshot '{snapshot.name}' still needs the volume '{volume}'"
                )


async def finish(rooms: Rooms, guest: Guest, means: Means) -> None:
    """At the daemon's start: undo the snapshots that were being taken, and carry on what had begun.

    What fails is logged and tried again at the next start.
    """
    for snapshot in list(guest.snapshots.values()):
        if snapshot.step is None:
            continue
        _log.warning("guest %d: snapshot '%s' was interrupted (%s)", guest.vmid, snapshot.name, snapshot.step)
        try:
            guest = await rooms.guests.get(guest.vmid)
            act = roll_back if snapshot.step == "rollback" else delete
            guest = await act(rooms, guest, snapshot.name, means)
        except BastideError as error:
            _log.error("guest %d: %s", guest.vmid, error)


def _taken(config: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {key: value for key, value in config.items() if key not in _NOT_TAKEN and not _UNUSED.fullmatch(key)}


def _restored(guest: Guest, snapshot: Snapshot) -> Guest:
    """The record after a rollback; words about the guest itself stay, as Proxmox VE has it."""
    kept = {key: value for key, value in guest.config.items() if key == "description" or _UNUSED.fullmatch(key)}
    owned = [str(volid) for volid in present_volumes(guest)]
    config = keep_unused(owned, {**snapshot.config, **kept, "parent": snapshot.name}, guest.vmid)
    whole = replace(snapshot, step=None)
    return replace(guest, config=config, pending={}, removed=(), snapshots={**guest.snapshots, snapshot.name: whole})


def _without(guest: Guest, snapshot: Snapshot) -> Guest:
    """The record without a snapshot; what came after it now comes after its parent."""
    rest = {
        name: replace(other, parent=snapshot.parent) if other.parent == snapshot.name else other
        for name, other in guest.snapshots.items()
        if name != snapshot.name
    }
    config = {key: value for key, value in guest.config.items() if key != "lock"}
    if config.get("parent") == snapshot.name:
        del config["parent"]
        config |= {"parent": snapshot.parent} if snapshot.parent else {}
    return replace(guest, config=config, snapshots=rest)


async def _write(rooms: Rooms, guest: Guest, snapshot: Snapshot, lock: str | None) -> Guest:
    config = {key: value for key, value in guest.config.items() if key != "lock"}
    config |= {"lock": lock} if lock else {}
    return await rooms.guests.update(
        replace(guest, config=config, snapshots={**guest.snapshots, snapshot.name: snapshot})
    )


async def _stay(rooms: Rooms, vmid: int, name: str, *, begun: bool) -> None:
    """After a rollback that failed: back to where it was, unless a volume was taken back already."""
    if not begun:
        guest = await rooms.guests.get(vmid)
        await _write(rooms, guest, replace(find(guest, name), step=None), None)


async def _check_volumes(rooms: Rooms, snapshot: Snapshot) -> None:
    """Refuse a rollback that would fail in the middle. Raises NotFound, WrongState."""
    for text in snapshot.volumes:
        storage = await _storage(rooms, text)
        there = await storage.snapshots(VolumeId.parse(text).name)
        if snapshot.name not in there:
            raise NotFound(f"volume '{text}' has no snapshot '{snapshot.name}': it does not exist any more")
        if storage.capabilities.latest_only and there[-1] != snapshot.name:
            raise WrongState(
                f"can't rollback, '{snapshot.name}' is not most recent snapshot on '{text}': delete '{there[-1]}' first"
            )


async def _whole(rooms: Rooms, snapshot: Snapshot) -> bool:
    """Whether every volume still has the snapshot."""
    try:
        for text in snapshot.volumes:
            if snapshot.name not in await (await _storage(rooms, text)).snapshots(VolumeId.parse(text).name):
                return False
    except BastideError:
        return False
    return snapshot.vmstate is None


async def _storage(rooms: Rooms, text: str) -> SnapshotStorage:
    storage, _ = await rooms.storages.resolve(text)
    if not storage.capabilities.snapshots:
        raise NotSupported(f"storage '{storage.config.storage}' takes no snapshots")
    return cast(SnapshotStorage, storage)
