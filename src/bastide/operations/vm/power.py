"""Starting and stopping VMs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from bastide.base.errors import DeadlineExceeded, Locked, WrongState
from bastide.base.ids import Upid
from bastide.guest.vm_protocol import PlannedDisk, VmPlan
from bastide.host import disk_image
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.model.vm import VmConfig
from bastide.operations import hooks
from bastide.operations.interfaces import check_interfaces
from bastide.operations.pending import apply_pending
from bastide.operations.rooms import Rooms
from bastide.operations.vm import cloudinit, hibernate
from bastide.operations.vm.memory import Memory
from bastide.operations.vm.plan import vm_plan
from bastide.operations.vm.ports import ports
from bastide.tasks.tasks import Task

_SHUTDOWN_SECONDS = 60.0
_START_SECONDS = 30.0
_GOING_ON = ("qmstart", "qmresume")
"""What may be done with a VM that is suspended to disk."""


async def start(rooms: Rooms, by: Identity, vmid: int, *, timeout: float | None = None) -> Upid:
    """Start a VM, within `timeout` seconds; one that was suspended to disk goes on.

    Raises NotFound; WrongState when it runs already, or is a template.
    """

    async def work(rooms: Rooms, guest: Guest, task: Task) -> None:
        limit = timeout or max(_START_SECONDS, VmConfig.parse(guest.config).memory_mib / 256)
        try:
            async with asyncio.timeout(limit):
                await (go_on if hibernate.is_suspended(guest) else start_locked)(rooms, guest, task)
        except TimeoutError:
            raise DeadlineExceeded(f"VM {vmid} did not start within {limit:g} seconds") from None

    guest = await rooms.guests.get(vmid, "qemu")
    if rooms.vms.state(vmid) is not GuestState.STOPPED:
        raise WrongState(f"VM {vmid} already running")
    if guest.is_template:
        raise WrongState(f"you can't start VM {vmid}: it is a template")
    return await _task(rooms, by, vmid, "qmstart", work)


async def stop(rooms: Rooms, by: Identity, vmid: int) -> Upid:
    """End a VM's process at once, as by pulling the plug."""
    return await _task(rooms, by, vmid, "qmstop", stop_locked)


async def shutdown(
    rooms: Rooms, by: Identity, vmid: int, *, timeout: float = _SHUTDOWN_SECONDS, force_stop: bool = False
) -> Upid:
    """Ask a VM to halt within `timeout` seconds; then pull the plug with `force_stop`, else fail."""

    async def work(rooms: Rooms, guest: Guest, task: Task) -> None:
        await shutdown_locked(rooms, guest, task, timeout, force_stop=force_stop)

    return await _task(rooms, by, vmid, "qmshutdown", work)


async def reboot(rooms: Rooms, by: Identity, vmid: int, *, timeout: float | None = None) -> Upid:
    """Shut a VM down and start it again, with its pending changes."""

    async def work(rooms: Rooms, guest: Guest, task: Task) -> None:
        await shutdown_locked(rooms, guest, task, timeout or _SHUTDOWN_SECONDS)
        await start_locked(rooms, await rooms.guests.get(guest.vmid), task)

    return await _task(rooms, by, vmid, "qmreboot", work)


async def reset(rooms: Rooms, by: Identity, vmid: int) -> Upid:
    """Press a VM's reset button."""

    async def work(rooms: Rooms, guest: Guest, _task: Task) -> None:
        _require_running(rooms, guest)
        await rooms.vms.reset(guest.vmid)

    return await _task(rooms, by, vmid, "qmreset", work)


async def suspend(rooms: Rooms, by: Identity, vmid: int) -> Upid:
    """Stop a VM's virtual CPUs."""

    async def work(rooms: Rooms, guest: Guest, _task: Task) -> None:
        _require_running(rooms, guest)
        await rooms.vms.pause(guest.vmid)

    return await _task(rooms, by, vmid, "qmpause", work)


async def resume(rooms: Rooms, by: Identity, vmid: int) -> Upid:
    """Let a paused VM go on: one that was suspended, slept, or stopped at an input/output error."""

    async def work(rooms: Rooms, guest: Guest, task: Task) -> None:
        if hibernate.is_suspended(guest) and rooms.vms.state(guest.vmid) is GuestState.STOPPED:
            await go_on(rooms, guest, task)
            return
        _require_running(rooms, guest)
        status = await rooms.vms.status(guest.vmid)
        if status is not None and status.state == "suspended":
            await rooms.vms.wake(guest.vmid)
        else:
            await rooms.vms.resume(guest.vmid)

    return await _task(rooms, by, vmid, "qmresume", work)


async def go_on(rooms: Rooms, guest: Guest, task: Task) -> None:
    """Let a VM that was suspended to disk, whose lock the task holds, go on where it was; its memory's volume goes."""
    memory = hibernate.memory_of(guest)
    task.log(f"resuming {guest.title} from '{memory.volid}'")
    await start_locked(rooms, guest, task, memory)
    await hibernate.forget(rooms, guest.vmid, task)


async def start_locked(
    rooms: Rooms,
    guest: Guest,
    task: Task,
    memory: Memory | None = None,
    *,
    instead: Mapping[str, PlannedDisk] = MappingProxyType({}),
    paused: bool = False,
) -> None:
    """Start a VM whose lock the task holds, or let it go on with its `memory`; leaves nothing of it when that fails.

    It gets `instead` in place of the disks of the same keys. With `paused` it has not run its first instruction yet.
    """
    if rooms.vms.state(guest.vmid) is not GuestState.STOPPED:
        raise WrongState(f"VM {guest.vmid} already running")
    if guest.is_template:
        raise WrongState(f"you can't start VM {guest.vmid}: it is a template")
    if memory is None:
        guest = await apply_pending(rooms, guest, task)
    config = VmConfig.parse(guest.config)
    cards = ports(config)
    await check_interfaces(rooms, cards)
    rooms.vms.check(config)
    accelerator, why = rooms.vms.accelerator
    if accelerator == "tcg" and config.kvm is not False:
        # Not a warning of the task's: clients take any end but OK for a failure.
        task.log(f"warning: without KVM the VM is emulated and slow: {why}")
    if config.bios == "ovmf" and config.efidisk0 is None:
        task.log("warning: without efidisk0 UEFI forgets its variables when the VM stops")
    try:
        await hooks.run_hook(rooms, guest, "pre-start", task)
        await cloudinit.write_drive(rooms, guest)
        plan = await vm_plan(rooms, guest)
        plan = replace(plan, disks=[instead.get(disk.key, disk) for disk in plan.disks])
        await rooms.network.register(guest.vmid, guest.name, cards, "qemu")
        await (rooms.vms.start(plan, paused=paused) if memory is None else _start_from(rooms, plan, memory))
        for index, card in cards.items():
            await rooms.network.connect(guest.vmid, index, card, "qemu")
    except BaseException:
        await asyncio.shield(_undo_start(rooms, guest, task))
        raise
    await hooks.run_hook(rooms, guest, "post-start", task)


async def _start_from(rooms: Rooms, plan: VmPlan, memory: Memory) -> None:
    image = await (await rooms.storages.disks(memory.volid.storage)).disk_image(memory.volid.name)
    with disk_image.opened_chain(image) as (opened,):
        await rooms.vms.start_from(replace(plan, machine=memory.machine or plan.machine), opened)


async def _undo_start(rooms: Rooms, guest: Guest, task: Task) -> None:
    if rooms.vms.state(guest.vmid) is not GuestState.STOPPED:
        await rooms.vms.stop(guest.vmid)
    await tidy_stopped(rooms, guest, task)


async def stop_locked(rooms: Rooms, guest: Guest, task: Task) -> None:
    """End a VM whose lock the task holds."""
    _require_running(rooms, guest)
    await hooks.run_hook(rooms, guest, "pre-stop", task)
    await rooms.vms.stop(guest.vmid)
    await tidy_stopped(rooms, guest, task)


async def tidy_stopped(rooms: Rooms, guest: Guest, task: Task | None) -> None:
    """What follows every stop, also one from inside, once: apply what waited, run the hook."""
    if await rooms.vms.cleanup(guest.vmid):
        # Memory goes on with the devices that it had.
        if not hibernate.is_suspended(guest):
            guest = await apply_pending(rooms, guest, task)
        await hooks.run_hook(rooms, guest, "post-stop", task)


async def shutdown_locked(rooms: Rooms, guest: Guest, task: Task, timeout: float, *, force_stop: bool = False) -> None:
    """Have a VM halt whose lock the task holds. Raises DeadlineExceeded when it does not, unless `force_stop`."""
    _require_running(rooms, guest)
    if rooms.vms.state(guest.vmid) is GuestState.PAUSED:
        await rooms.vms.resume(guest.vmid)
    await hooks.run_hook(rooms, guest, "pre-stop", task)
    if not await rooms.vms.shutdown(guest.vmid, timeout):
        if not force_stop:
            raise DeadlineExceeded(f"VM {guest.vmid} did not shut down within {timeout:g} seconds")
        task.warn(f"VM {guest.vmid} did not shut down within {timeout:g} seconds: stopping it")
        await rooms.vms.stop(guest.vmid)
    await tidy_stopped(rooms, guest, task)


def _require_running(rooms: Rooms, guest: Guest) -> None:
    if rooms.vms.state(guest.vmid) is GuestState.STOPPED:
        raise WrongState(f"VM {guest.vmid} not running")


async def _task(
    rooms: Rooms, by: Identity, vmid: int, kind: str, act: Callable[[Rooms, Guest, Task], Awaitable[None]]
) -> Upid:
    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, kind.removeprefix("qm")):
            guest = await rooms.guests.get(vmid)
            if guest.config.get("lock") and not (kind in _GOING_ON and hibernate.is_suspended(guest)):
                raise Locked(f"VM is locked ({guest.config['lock']})")
            await act(rooms, guest, task)

    await rooms.guests.get(vmid, "qemu")
    return await rooms.tasks.start(kind, str(vmid), by, work)
