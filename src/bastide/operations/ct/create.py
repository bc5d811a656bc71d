"""The story of a new container: reserve the vmid, allocate, unpack, personalize, publish, maybe start."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from bastide.base.errors import InvalidParameter, NotFound
from bastide.base.ids import Upid, VolumeId
from bastide.guest.protocol import ContainerPlan, IdMap
from bastide.host.archive import stream_archive
from bastide.host.password import hash_password
from bastide.model.access import Identity
from bastide.model.backup import Tree
from bastide.model.container import ContainerConfig, ContainerOptions, RootFs
from bastide.model.guest import Guest
from bastide.model.record import Scalar
from bastide.operations import pools
from bastide.operations.bases import Source, Target, container_from_base
from bastide.operations.ct import power
from bastide.operations.ct.interfaces import with_hardware_addresses
from bastide.operations.ct.plan import activate, choose_ids, container_plan, deactivate
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

    def hashed(self) -> str | None:
        """The password as shadow(5) holds it; takes some milliseconds."""
        return hash_password(self.password) if self.password else None


@dataclass(frozen=True, slots=True)
class NewContainer:
    """What a container is made of. `full`: it shares nothing; `whole`: its root is no overlay; `start`: it will run."""

    template: Source
    volumes: list[NewVolume]
    credentials: Credentials
    full: bool
    whole: bool
    start: bool


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
    full: bool = False,
) -> Upid:
    """Make a container from a template as a task; with `full` it shares nothing with others of that template.

    What can be refused is refused before the task begins: InvalidParameter, NotFound, AlreadyExists. From then on
    the vmid is taken; whatever fails, or a crash, leaves neither record nor volume.
    """
    template = await _template(rooms, ostemplate, privileged=not options.unprivileged)
    if pool is not None:
        await pools.get_pool(rooms, pool)
    options = _with_defaults(options, storage)
    await check_interfaces(rooms, options.net)
    config, volumes = await plan_volumes(rooms, vmid, options, [])
    # A container engine that runs inside puts overlays of its own on its root, and an overlay is no ground for them.
    engine_inside = config.features is not None and bool(config.features.keyctl)
    new = NewContainer(template, volumes, credentials, full=full, whole=engine_inside, start=start)
    async with rooms.guests.numbering:
        guest = await rooms.guests.create(
            Guest(
                vmid=vmid,
                kind="lxc",
                node=rooms.node,
                config={**config.to_text(), "lock": "create"},
                first_id=await choose_ids(rooms, vmid) if config.unprivileged else None,
            )
        )

    async def work(task: Task) -> None:
        made = [str(volume.volid) for volume in volumes]
        async with rooms.locks.hold(vmid, task.upid, "create", volumes=made), AsyncExitStack() as undo:
            undo.push_async_callback(_discard, rooms, guest, volumes, task)
            created = await _fill(rooms, guest, new, task)
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


async def _template(rooms: Rooms, ostemplate: str, *, privileged: bool) -> Source:
    try:
        volid = VolumeId.parse(ostemplate)
    except InvalidParameter as error:
        raise InvalidParameter({"ostemplate": error.errors["volume"]}) from None
    if not volid.name.startswith("vztmpl/"):
        raise InvalidParameter({"ostemplate": f"'{ostemplate}' is not a container template (STORAGE:vztmpl/FILE)"})
    storage = await rooms.storages.files(volid.storage, "vztmpl")
    try:
        await storage.info(volid.name)
    except NotFound:
        raise NotFound(f"volume '{volid}' does not exist; `bastide image ls` shows the templates") from None
    return Source(str(volid), await storage.file_path(volid.name), privileged=privileged)


def _with_defaults(options: ContainerOptions, storage: str) -> ContainerOptions:
    """Fill in what Proxmox VE fills in: a root file system and hardware addresses."""
    if options.rootfs is None:
        options = options.model_copy(update={"rootfs": RootFs(volume=f"{storage}:{_DEFAULT_SIZE_GIB}")})
    return with_hardware_addresses(options)


async def _fill(rooms: Rooms, guest: Guest, new: NewContainer, task: Task) -> Guest:
    """Make the volumes and give the guest its identity; returns the stored, unlocked record."""
    config = ContainerConfig.parse({key: value for key, value in guest.config.items() if key != "lock"})
    if config.rootfs is None:
        raise InvalidParameter({"rootfs": "missing"})
    try:
        async with asyncio.TaskGroup() as group:
            hashed = group.create_task(asyncio.to_thread(new.credentials.hashed))
            system = group.create_task(_make_root(rooms, guest, new, config.rootfs.volume, task))
            for volume in new.volumes:
                if str(volume.volid) != config.rootfs.volume:
                    group.create_task(_allocate(rooms, volume, task))
    except BaseExceptionGroup as failures:
        raise _first(failures) from None
    ostype, architecture = system.result()
    values: dict[str, Scalar] = {"arch": architecture, "ostype": ostype, **config.to_text()}
    task.log(f"detected distribution '{values['ostype']}', architecture {values['arch']}")
    guest = replace(guest, config=values)
    plan = await container_plan(rooms, guest)
    await asyncio.to_thread(_personalize, rooms, plan, hashed.result(), new.credentials.ssh_public_keys)
    if not new.start:
        await deactivate(rooms, guest)
    return await rooms.guests.update(guest)


async def _make_root(rooms: Rooms, guest: Guest, new: NewContainer, volid: str, task: Task) -> tuple[str, str]:
    """Make the root file system, of a base where the storage can; returns its `ostype` and architecture."""
    ids = IdMap(guest.first_id or 0)
    origin = None
    volume = next((volume for volume in new.volumes if str(volume.volid) == volid), None)
    if volume is not None and not new.full:
        target = Target(volume.volid, volume.size)
        origin = await container_from_base(rooms, new.template, target, ids, whole=new.whole, task=task)
    if origin is not None:
        task.log(f"made volume '{volid}' from the base of '{new.template.path.name}'")
        if origin.ostype is not None and origin.arch is not None:
            return origin.ostype, origin.arch
    elif volume is not None:
        await _allocate(rooms, volume, task)
    folder = await activate(rooms, volid, guest.first_id)
    if origin is None:
        task.log(f"extracting archive '{new.template.path.name}'")
        async with rooms.containers.unpacking(Tree(folder), ids) as argv:
            await stream_archive(new.template.path, argv, log=task.log)
    return await asyncio.to_thread(rooms.containers.detect, folder)


async def _allocate(rooms: Rooms, volume: NewVolume, task: Task) -> None:
    await allocate_volume(rooms, volume)
    storage = await rooms.storages.containers(volume.volid.storage)
    task.log(f"allocated volume '{volume.volid}'")
    if volume.size and not storage.capabilities.enforces_size:
        task.log(f"storage '{volume.volid.storage}' does not enforce sizes: its file system has no project quotas")


def _personalize(rooms: Rooms, plan: ContainerPlan, hashed: str | None, ssh_public_keys: str | None) -> None:
    rooms.containers.set_identity(plan)
    rooms.containers.set_credentials(plan, hashed, ssh_public_keys)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of failures that came together."""
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


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
