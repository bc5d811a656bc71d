"""Copies of VMs: linked ones that hold what differs from a template, and full ones; each has its own identity."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import cast

from bastide.base.errors import InvalidParameter, NotSupported, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.record import Scalar
from bastide.model.storage import DiskFormat
from bastide.model.vm import VmConfig
from bastide.operations import pools, snapshots
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted, check_fits, copy_rate
from bastide.operations.vm import cloudinit
from bastide.operations.vm.create import choose_uid, discard
from bastide.operations.vm.identity import RENEWED_INSIDE, with_new_identity
from bastide.operations.vm.snapshot import Taking, check_new, prepare
from bastide.operations.vm.template import is_base
from bastide.operations.vm.volumes import Disk, cloudinit_drive, disks_of, progress, with_size
from bastide.operations.volumes import free_numbers
from bastide.storage.protocol import CloneStorage
from bastide.tasks.locks import HeldLock
from bastide.tasks.tasks import Task

_WAIT = 60.0
"""How long, in seconds, a clone waits for others that are made of the same template."""

_SMALL_DISKS = ("efidisk0", "tpmstate0")
"""What is copied for a linked clone too: it is small, and a TPM knows no other format than raw."""

_NOT_CLONED = frozenset({"lock", "parent", "template", "vmstate", "runningmachine"})


@dataclass(frozen=True, slots=True)
class Clone:
    """A copy to make. `full` None means a full copy, but of a template a linked one.

    `storage` and `form` are a full copy's, where they shall not be the source's; `snapshot` is the state to copy;
    `limit` in KiB a second for what is copied.
    """

    newid: int
    name: str | None = None
    description: str | None = None
    full: bool | None = None
    snapshot: str | None = None
    storage: str | None = None
    form: DiskFormat | None = None
    pool: str | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class _Copy:
    """A disk, the volume that it becomes and that one's format, and whether that is a linked clone."""

    disk: Disk
    target: VolumeId
    form: str
    linked: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """The new record, and how each of its disks is made."""

    config: dict[str, Scalar]
    copies: list[_Copy]
    linked: bool

    @property
    def volumes(self) -> list[VolumeId]:
        """What is made, the configuration drive too."""
        drive = cloudinit_drive(VmConfig.parse(self.config))
        return [copy.target for copy in self.copies] + ([] if drive is None else [drive[1]])


@dataclass(frozen=True, slots=True)
class _Work:
    """The task, the copy's lock, and the source's where that is held."""

    task: Task
    held: HeldLock
    above: HeldLock | None


async def clone_vm(rooms: Rooms, by: Identity, vmid: int, wish: Clone) -> Upid:
    """Make a copy of a VM as a task; one that runs is copied as it is at one moment.

    What can be refused is refused before the task begins: NotFound, InvalidParameter, AlreadyExists, WrongState,
    Locked, NotSupported. Whatever fails then, or a crash, leaves neither record nor volume.
    """
    source = await rooms.guests.get(vmid, "qemu")
    if wish.pool is not None:
        await pools.get_pool(rooms, wish.pool)
    plan = await _planned(rooms, source, wish)
    async with rooms.guests.numbering:
        guest = await rooms.guests.create(
            Guest(
                vmid=wish.newid,
                kind="qemu",
                node=rooms.node,
                config={**plan.config, "lock": "create"},
                first_id=await choose_uid(rooms, wish.newid),
            )
        )

    async def work(task: Task) -> None:
        async with AsyncExitStack() as locks, AsyncExitStack() as undo:
            held = await locks.enter_async_context(rooms.locks.hold(wish.newid, task.upid, "create"))
            undo.push_async_callback(discard, rooms, guest, plan.volumes, task)
            above = None
            # A template does not change, and full copies take long: several may be made at once.
            if plan.linked or not source.is_template:
                above = await locks.enter_async_context(rooms.locks.hold(vmid, task.upid, "clone", _WAIT))
            await _fill(rooms, await rooms.guests.get(vmid, "qemu"), plan, wish, _Work(task, held, above))
            await _publish(rooms, vmid, replace(guest, config=plan.config))
            if wish.pool is not None:
                await pools.update_pool(rooms, wish.pool, guests=[wish.newid])
            undo.pop_all()

    try:
        return await rooms.tasks.start("qmclone", str(vmid), by, work)
    except BaseException:
        await rooms.guests.delete(wish.newid)
        raise


async def _planned(rooms: Rooms, source: Guest, wish: Clone) -> _Plan:
    snapshots.check_unlocked(source)
    linked = not (wish.full if wish.full is not None else not source.is_template)
    _check(source, wish, linked=linked)
    config = source.config if wish.snapshot is None else snapshots.find(source, wish.snapshot).config
    if not linked and wish.snapshot is None and rooms.vms.state(source.vmid) is not GuestState.STOPPED:
        await check_new(rooms, source, _passing(wish))
    disks = await disks_of(rooms, source.vmid, config)
    numbers = await free_numbers(rooms, wish.newid, {wish.storage or disk.volid.storage for disk in disks})
    copies = []
    for disk in disks:
        place = _linked if linked and disk.key not in _SMALL_DISKS else _copied
        copies.append(await place(rooms, disk, wish, next(numbers)))
    sizes = {copy.disk.key: Wanted(copy.target.storage, copy.disk.size) for copy in copies if not copy.linked}
    await check_fits(rooms, sizes)
    names = {copy.disk.key: str(copy.target) for copy in copies}
    drive = cloudinit_drive(VmConfig.parse(config))
    if drive is not None:
        storage_id = wish.storage or drive[1].storage
        storage = await rooms.storages.disks(storage_id)
        names[drive[0]] = str(VolumeId(storage_id, storage.disk_name(wish.newid, "cloudinit", "raw")))
    return _Plan(_cloned(source, config, wish, names), copies, linked)


def _check(source: Guest, wish: Clone, *, linked: bool) -> None:
    if linked and not source.is_template:
        raise InvalidParameter({"full": f"{source.title} is no template: a linked clone is made of a template"})
    if linked:
        given = {"storage": wish.storage, "format": wish.form}
        wrong = [key for key, value in given.items() if value is not None]
        if wrong:
            raise InvalidParameter(dict.fromkeys(wrong, "parameter not allowed for linked clones"))
    if wish.snapshot is not None and (step := snapshots.find(source, wish.snapshot).step) is not None:
        raise WrongState(f"snapshot '{wish.snapshot}' is incomplete (snapstate = {step})")


async def _linked(rooms: Rooms, disk: Disk, wish: Clone, number: int) -> _Copy:
    storage = await rooms.storages.get(disk.volid.storage)
    if not is_base(disk.volid) or disk.form not in storage.capabilities.clones:
        raise NotSupported(f"linked clone feature for '{disk.volid}' ({disk.key}) is not available: make a full clone")
    name = cast(CloneStorage, storage).clone_name(disk.volid.name, wish.newid, number, "images")
    return _Copy(disk, VolumeId(disk.volid.storage, name), disk.form, linked=True)


async def _copied(rooms: Rooms, disk: Disk, wish: Clone, number: int) -> _Copy:
    """Where a copy goes: EFI variables and a TPM's state stay as they are, other disks get the format that is asked."""
    storage_id = wish.storage or disk.volid.storage
    storage = await rooms.storages.disks(storage_id)
    known = storage.capabilities.disk_formats
    asked = wish.form if disk.key not in _SMALL_DISKS else None
    form = cast(DiskFormat, asked or disk.form)
    if asked is not None and asked not in known:
        raise InvalidParameter(
            {"format": f"storage '{storage_id}' has no disks of the format '{asked}': use {', '.join(sorted(known))}"}
        )
    if form not in known:
        form = storage.capabilities.default_disk_format
    return _Copy(disk, VolumeId(storage_id, storage.disk_name(wish.newid, number, form)), form)


def _cloned(source: Guest, config: Mapping[str, Scalar], wish: Clone, names: Mapping[str, str]) -> dict[str, Scalar]:
    """The copy's record: other volumes, another identity, no snapshots, nothing unused."""
    kept = {key: value for key, value in config.items() if key not in _NOT_CLONED and not key.startswith("unused")}
    for key, volume in VmConfig.parse(config).volumes():
        if key in names:
            kept[key] = str(volume.model_copy(update={"file": names[key]}))
    if wish.description is not None:
        kept["description"] = wish.description
    elif "description" in source.config:
        kept["description"] = source.config["description"]
    kept["name"] = wish.name or f"Copy-of-VM-{source.config.get('name', source.vmid)}"
    return dict(with_new_identity(VmConfig.parse(kept)).to_text())


async def _fill(rooms: Rooms, source: Guest, plan: _Plan, wish: Clone, work: _Work) -> None:
    """Make the disks; of a VM that runs as they are at a snapshot for the time being."""
    for volid in plan.volumes:
        await work.held.record(str(volid))
    snapshot = wish.snapshot
    async with AsyncExitStack() as stack:
        if snapshot is None and work.above is not None and rooms.vms.state(source.vmid) is not GuestState.STOPPED:
            taking = Taking(_passing(wish), work.above, work.task)
            await stack.enter_async_context(taking.undo)
            snapshot = (await prepare(rooms, source, taking)).name
        for copy in plan.copies:
            work.task.log(f"{copy.disk.key}: '{copy.disk.volid}' as '{copy.target}'")
            rate = await copy_rate(rooms, "clone", {copy.disk.volid.storage, copy.target.storage}, wish.limit)
            await _make(rooms, copy, snapshot, work.task, rate)
            # Devices come in whole extents.
            size = (await (await rooms.storages.get(copy.target.storage)).info(copy.target.name)).size
            sized = with_size(VmConfig.parse(plan.config), copy.disk.key, size).to_text()
            plan.config[copy.disk.key] = sized[copy.disk.key]


async def _make(rooms: Rooms, copy: _Copy, snapshot: str | None, task: Task, rate: int) -> None:
    """By the storage itself where both are on it and of one format, else as an image."""
    disk, target = copy.disk, copy.target
    storage = await rooms.storages.disks(target.storage)
    able = target.storage == disk.volid.storage and copy.form == disk.form and disk.form in storage.capabilities.clones
    if copy.linked:
        await cast(CloneStorage, storage).clone(disk.volid.name, target.name)
    elif able:
        await cast(CloneStorage, storage).copy(disk.volid.name, target.name, snapshot, progress(task), rate=rate)
    else:
        image = await (await rooms.storages.disks(disk.volid.storage)).disk_image(disk.volid.name, snapshot)
        await storage.import_disk(image, image.format, target.name, progress(task), ours=True, rate=rate)


async def _publish(rooms: Rooms, source: int, guest: Guest) -> None:
    """Give the copy its configuration drive, which makes cloud-init see a new machine, and unlock it."""
    config = VmConfig.parse(guest.config)
    data = replace(await cloudinit.get_data(rooms, source), meta=None)
    told = config.cicustom is not None and config.cicustom.vendor is not None
    if cloudinit_drive(config) is not None and config.citype in (None, "nocloud") and not config.is_windows:
        data = replace(data, vendor=data.vendor or (None if told else RENEWED_INSIDE))
    await cloudinit.set_data(rooms, guest.vmid, data)
    await cloudinit.write_drive(rooms, guest)
    await rooms.guests.update(guest)


def _passing(wish: Clone) -> str:
    """The name of a snapshot that is there while a running VM is copied."""
    return f"clone-{wish.newid}"
