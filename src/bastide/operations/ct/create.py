"""The story of a new container: reserve the vmid, allocate, unpack, personalize, publish, maybe start."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bastide.base.errors import InvalidParameter, NotFound
from bastide.base.ids import Upid, VolumeId
from bastide.guest.protocol import ContainerPlan, IdMap
from bastide.host.archive import stream_archive
from bastide.host.password import hash_password
from bastide.model.access import Identity
from bastide.model.container import ContainerConfig, ContainerOptions, RootFs
from bastide.model.guest import Guest
from bastide.model.record import Scalar
from bastide.operations import pools
from bastide.operations.ct import power
from bastide.operations.ct.interfaces import with_hardware_addresses
from bastide.operations.ct.plan import activate, container_plan, deactivate
from bastide.operations.interfaces import check_interfaces
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import NewVolume, allocate_volume, delete_volumes, plan_volumes
from bastide.tasks.tasks import Task

_DEFAULT_SIZE_GIB = 4


@dataclass(frozen=True, slots=True)
class Credentials:
    """How root logs in to the new guest. Never stored, never logged."""

    password: str | None = None
    ssh_public_keys: str | None = None

    def __repr__(self) -> str:
        return "Credentials(...)"


async def create_container(
    rooms: Rooms,
    by: Identity,
    vmid: int,
    ostemplate: str,
    options: ContainerOptions,
    *,
    storage: str = "local",
    credentials: Credentials = Credentials(),
    pool: str | None = None,
    start: bool = False,
) -> Upid:
    """Make a container from a template as a task.

    What can be refused is refused before the task begins: InvalidParameter, NotFound, AlreadyExists. From then on
    the vmid is taken; whatever fails, or a crash, leaves neither record nor volume.
    """
    template = await _template(rooms, ostemplate)
    if pool is not None:
        await pools.get_pool(rooms, pool)
    options = _with_defaults(options, storage)
    await check_interfaces(rooms, options.net)
    config, volumes = await plan_volumes(rooms, vmid, options, [])
    async with rooms.guests.numbering:
        guest = await rooms.guests.create(
            Guest(
                vmid=vmid,
                kind="lxc",
                node=rooms.node,
                config={**config.to_text(), "lock": "create"},
                first_id=await _choose_ids(rooms, vmid) if config.unprivileged else None,
            )
        )

    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, "create") as held, AsyncExitStack() as undo:
            undo.push_async_callback(_discard, rooms, guest, volumes, task)
            for volume in volumes:
                await held.record(str(volume.volid))
                await _allocate(rooms, volume, task)
            created = await _fill(rooms, guest, template, credentials, task)
            if pool is not None:
                await pools.update_pool(rooms, pool, guests=[vmid])
            if start:
                await power.start_locked(rooms, created, task)
            undo.pop_all()

    try:
        return await rooms.tasks.start("vzcreate", str(vmid), by, work)
    except BaseException:
        await rooms.guests.delete(vmid)
        raise


async def _template(rooms: Rooms, ostemplate: str) -> Path:
    try:
        volid = VolumeId.parse(ostemplate)
    except InvalidParameter as error:
        raise InvalidParameter({"ostemplate": error.errors["volume"]}) from None
    if not volid.name.startswith("vztmpl/"):
        raise InvalidParameter({"ostemplate": f"'{ostemplate}' is not a container template (STORAGE:vztmpl/FILE)"})
    storage = await rooms.storages.files(volid.storage, "vztmpl")
    path = storage.path(volid.name)
    if not path.is_file():
        raise NotFound(f"volume '{volid}' does not exist; `bastide image ls` shows the templates")
    return path


def _with_defaults(options: ContainerOptions, storage: str) -> ContainerOptions:
    """Fill in what Proxmox VE fills in: a root file system and hardware addresses."""
    if options.rootfs is None:
        options = options.model_copy(update={"rootfs": RootFs(volume=f"{storage}:{_DEFAULT_SIZE_GIB}")})
    return with_hardware_addresses(options)


async def _choose_ids(rooms: Rooms, vmid: int) -> int:
    taken = [guest.first_id for guest in await rooms.guests.list() if guest.first_id is not None]
    return rooms.containers.choose_ids(vmid, taken).first


async def _allocate(rooms: Rooms, volume: NewVolume, task: Task) -> None:
    await allocate_volume(rooms, volume)
    storage = await rooms.storages.containers(volume.volid.storage)
    task.log(f"allocated volume '{volume.volid}'")
    if volume.size and not storage.capabilities.enforces_size:
        task.log(f"storage '{volume.volid.storage}' does not enforce sizes: its file system has no project quotas")


async def _fill(rooms: Rooms, guest: Guest, template: Path, credentials: Credentials, task: Task) -> Guest:
    """Unpack the template and give the guest its identity; returns the stored, unlocked record."""
    config = ContainerConfig.parse({key: value for key, value in guest.config.items() if key != "lock"})
    if config.rootfs is None:
        raise InvalidParameter({"rootfs": "missing"})
    root = await activate(rooms, config.rootfs.volume)
    task.log(f"extracting archive '{template.name}'")
    async with rooms.containers.unpacking(root, IdMap(guest.first_id or 0)) as argv:
        await stream_archive(template, argv, log=task.log)
    detected, architecture = await asyncio.to_thread(rooms.containers.detect, root)
    values: dict[str, Scalar] = {"arch": architecture, "ostype": detected, **config.to_text()}
    task.log(f"detected distribution '{values['ostype']}', architecture {values['arch']}")
    guest = replace(guest, config=values)
    plan = await container_plan(rooms, guest)
    await asyncio.to_thread(_personalize, rooms, plan, credentials)
    await deactivate(rooms, guest)
    return await rooms.guests.update(guest)


def _personalize(rooms: Rooms, plan: ContainerPlan, credentials: Credentials) -> None:
    rooms.containers.set_identity(plan)
    hashed = hash_password(credentials.password) if credentials.password else None
    rooms.containers.set_credentials(plan, hashed, credentials.ssh_public_keys)


async def _discard(rooms: Rooms, guest: Guest, volumes: list[NewVolume], task: Task) -> None:
    """The inverse of everything `create_container` makes."""
    if guest.vmid in rooms.containers.running():
        await rooms.containers.stop(guest.vmid)
    await rooms.containers.cleanup(guest.vmid)
    for problem in await delete_volumes(rooms, [volume.volid for volume in volumes]):
        task.warn(problem)
    await rooms.network.forget(guest.vmid)
    await pools.forget_guest(rooms, guest.vmid)
    await rooms.guests.delete(guest.vmid)
