"""Cloning a container: from its present state or a snapshot, sharing a template's volumes or standing alone."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from bastide.base import propstring
from bastide.base.errors import Conflict, InvalidParameter, WrongState
from bastide.base.ids import Upid
from bastide.model.access import Identity
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest, GuestState
from bastide.model.record import Scalar
from bastide.operations import pools, snapshots
from bastide.operations.ct import snapshot
from bastide.operations.ct.copies import Making, Origin, VolumeCopy, make_copy, plan_copy, plan_link
from bastide.operations.ct.plan import choose_ids, container_plan, deactivate
from bastide.operations.interfaces import check_interfaces, random_hwaddr
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import delete_volumes, free_numbers, with_volume
from bastide.tasks.tasks import Task

_NOT_CLONED = frozenset({"lock", "parent", "template"})


@dataclass(frozen=True, slots=True)
class Clone:
    """What a clone shall be; what is None is the source's. `limit` in KiB a second for files that are copied.

    `full` None is what Proxmox VE does: templates give linked clones, other containers full ones.
    """

    newid: int
    hostname: str | None = None
    description: str | None = None
    full: bool | None = None
    storage: str | None = None
    snapshot: str | None = None
    pool: str | None = None
    limit: float | None = None


async def clone_container(rooms: Rooms, by: Identity, vmid: int, wish: Clone) -> Upid:
    """Make a container of another one as a task: its own addresses, names and keys, and an id range of its own.

    A running one is frozen for an instant where its storages take snapshots. What can be refused is refused before the
    task begins: NotFound, InvalidParameter, AlreadyExists, WrongState, Locked, NotSupported. From then on the new vmid
    is taken; whatever fails, or a crash, leaves neither record nor volume of it.
    """
    source = await rooms.guests.get(vmid, "lxc")
    config, copies = await _plan(rooms, source, wish)
    if wish.pool is not None:
        await pools.get_pool(rooms, wish.pool)
    await check_interfaces(rooms, ContainerConfig.parse(config).net)
    async with rooms.guests.numbering:
        first_id = await choose_ids(rooms, wish.newid) if config.get("unprivileged") else None
        locked = {**config, "lock": "create"}
        guest = await rooms.guests.create(Guest(wish.newid, "lxc", rooms.node, locked, first_id=first_id))

    async def work(task: Task) -> None:
        made = [str(copy.target) for copy in copies]
        async with rooms.locks.hold(wish.newid, task.upid, "create", volumes=made) as held, AsyncExitStack() as undo:
            undo.push_async_callback(_discard, rooms, guest, copies, task)
            async with _quiet(rooms, source, wish, copies, task) as taken:
                for copy in copies:
                    await make_copy(rooms, copy, Origin(source, taken), Making(guest, held, task, "clone", wish.limit))
            await _personalize(rooms, replace(guest, config=config))
            if wish.pool is not None:
                await pools.update_pool(rooms, wish.pool, guests=[wish.newid])
            await rooms.guests.update(replace(guest, config=config))
            undo.pop_all()

    try:
        return await rooms.tasks.start("vzclone", str(vmid), by, work)
    except BaseException:
        await rooms.guests.delete(wish.newid)
        raise


async def _plan(rooms: Rooms, source: Guest, wish: Clone) -> tuple[dict[str, Scalar], list[VolumeCopy]]:
    """The clone's configuration, and the volumes to make for it."""
    linked = source.is_template if wish.full is None else not wish.full
    _check(source, wish, linked=linked)
    if wish.snapshot is not None:
        found = snapshots.find(source, wish.snapshot)
        if found.step is not None:
            raise WrongState(f"unable to clone incomplete snapshot (snapstate = {found.step})")
        before: Mapping[str, Scalar] = found.config
    else:
        before = source.config
    if not linked and not await snapshots.feature(rooms, source, "copy", wish.snapshot):
        raise WrongState(
            f"{source.title} runs, and its storage takes no snapshots to copy from: stop it, or clone a snapshot of it"
        )
    for index, mount in ContainerConfig.parse(before).mp.items():
        if mount.volume.startswith("/"):
            raise WrongState(f"unable to clone mount point 'mp{index}' (type bind): it is a folder of this host")
    config, copies = _new_config(before, wish), []
    volumes = snapshots.volumes_in(before, source.vmid)
    numbers = await free_numbers(rooms, wish.newid, {wish.storage or volid.storage for volid in volumes.values()})
    for key, volid in volumes.items():
        copy = await (
            plan_link(rooms, key, volid, wish.newid, next(numbers))
            if linked and not await _needs_whole(rooms, before, volid.storage)
            else plan_copy(rooms, key, volid, wish.newid, next(numbers), storage=wish.storage)
        )
        copies.append(copy)
        config[key] = with_volume(before[key], copy.target)
    return config, copies


def _check(source: Guest, wish: Clone, *, linked: bool) -> None:
    snapshots.check_unlocked(source)
    if not linked:
        return
    if not source.is_template or wish.snapshot is not None:
        raise InvalidParameter({"full": "linked clones are made of templates: leave it out or write full=1"})
    if wish.storage is not None:
        raise InvalidParameter({"storage": "parameter 'storage' not allowed for linked clones"})


async def _needs_whole(rooms: Rooms, config: Mapping[str, Scalar], storage: str) -> bool:
    """Whether a container engine inside would put overlays on what would be one itself, which the kernel refuses."""
    features = propstring.parse(str(config.get("features", "")))
    return features.get("keyctl") == "1" and (await rooms.storages.get(storage)).capabilities.layered


def _new_config(before: Mapping[str, Scalar], wish: Clone) -> dict[str, Scalar]:
    config = {key: value for key, value in before.items() if key not in _NOT_CLONED and not key.startswith("unused")}
    for key, value in before.items():
        if key.startswith("net"):
            config[key] = propstring.render({**propstring.parse(str(value)), "hwaddr": random_hwaddr()})
    label, dot, domain = str(before.get("hostname", f"CT{wish.newid}")).partition(".")
    # Two guests of one name could not be told apart in the bridge's name service.
    config["hostname"] = wish.hostname or f"{label[:50]}-{wish.newid}{dot}{domain}"
    if wish.description is not None:
        config["description"] = wish.description
    return config


@asynccontextmanager
async def _quiet(
    rooms: Rooms, source: Guest, wish: Clone, copies: list[VolumeCopy], task: Task
) -> AsyncIterator[str | None]:
    """While entered, nobody changes what is copied; yields the snapshot to copy from, a passing one of a running guest.

    Raises Conflict when the source is not what it was when the clone was asked for.
    """
    if source.is_template and all(copy.means != "link" for copy in copies):
        # Nothing writes to a base; others may clone it meanwhile.
        yield None
        return
    async with rooms.locks.hold(source.vmid, task.upid, "clone"), AsyncExitStack() as undo:
        present = await rooms.guests.get(source.vmid)
        snapshots.check_unlocked(present)
        if _own(present) != _own(source):
            raise Conflict(f"{source.title} has been changed since the clone was asked for. Try again.")
        taken = wish.snapshot
        if taken is None and rooms.containers.state(source.vmid) is not GuestState.STOPPED:
            taken = next(name for n in range(100) if (name := f"clone-{wish.newid}-{n}") not in present.snapshots)
            await snapshot.prepare(rooms, present, taken, task, undo)
        elif taken is None:
            await deactivate(rooms, present)
        yield taken


def _own(guest: Guest) -> dict[str, Scalar]:
    """What a clone takes over of a configuration."""
    return {key: value for key, value in guest.config.items() if key not in _NOT_CLONED}


async def _personalize(rooms: Rooms, guest: Guest) -> None:
    """Give the clone a machine-id and ssh host keys of its own; its other names are written at each start."""
    try:
        plan = await container_plan(rooms, guest)
        await asyncio.to_thread(rooms.containers.set_identity, plan)
    finally:
        await deactivate(rooms, guest)


async def _discard(rooms: Rooms, guest: Guest, copies: list[VolumeCopy], task: Task) -> None:
    """The inverse of everything that a clone makes."""
    for problem in await delete_volumes(rooms, [copy.target for copy in copies]):
        task.warn(problem)
    await rooms.network.forget(guest.vmid)
    await pools.forget_guest(rooms, guest.vmid)
    await rooms.guests.delete(guest.vmid)
