"""Starting and stopping containers."""

import asyncio
from collections.abc import Awaitable, Callable

from bastide.base.errors import DeadlineExceeded, Locked, WrongState
from bastide.base.ids import Upid
from bastide.model.access import Identity
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest, GuestState
from bastide.operations import hooks
from bastide.operations.ct import seed
from bastide.operations.ct.plan import container_plan, deactivate
from bastide.operations.interfaces import check_interfaces
from bastide.operations.pending import apply_pending
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

_SHUTDOWN_SECONDS = 60.0


async def start(rooms: Rooms, by: Identity, vmid: int) -> Upid:
    """Start a container. Raises NotFound; WrongState when it runs already."""
    guest = await rooms.guests.get(vmid)
    if rooms.containers.state(vmid) is not GuestState.STOPPED:
        raise WrongState(f"CT {vmid} already running")
    if guest.config.get("template"):
        raise WrongState(f"you can't start CT {vmid}: it is a template")
    return await _task(rooms, by, vmid, "vzstart", start_locked)


async def stop(rooms: Rooms, by: Identity, vmid: int) -> Upid:
    """Kill every process of a container at once."""
    await rooms.guests.get(vmid)
    return await _task(rooms, by, vmid, "vzstop", stop_locked)


async def shutdown(
    rooms: Rooms, by: Identity, vmid: int, *, timeout: float = _SHUTDOWN_SECONDS, force_stop: bool = False
) -> Upid:
    """Ask a container to halt within `timeout` seconds; then kill it with `force_stop`, else fail."""

    async def work(rooms: Rooms, guest: Guest, task: Task) -> None:
        await shutdown_locked(rooms, guest, task, timeout=timeout, force_stop=force_stop)

    await rooms.guests.get(vmid)
    return await _task(rooms, by, vmid, "vzshutdown", work)


async def reboot(rooms: Rooms, by: Identity, vmid: int, *, timeout: float | None = None) -> Upid:
    """Shut a container down and start it again, with its pending changes."""

    async def work(rooms: Rooms, guest: Guest, task: Task) -> None:
        if rooms.containers.state(guest.vmid) is GuestState.STOPPED:
            raise WrongState(f"CT {guest.vmid} not running")
        await hooks.run_hook(rooms, guest, "pre-stop", task)
        if not await rooms.containers.shutdown(guest.vmid, timeout or _SHUTDOWN_SECONDS):
            raise DeadlineExceeded(f"CT {guest.vmid} did not shut down within {timeout or _SHUTDOWN_SECONDS:g} seconds")
        await tidy_stopped(rooms, guest, task)
        await start_locked(rooms, await rooms.guests.get(guest.vmid), task)

    await rooms.guests.get(vmid)
    return await _task(rooms, by, vmid, "vzreboot", work)


async def suspend(rooms: Rooms, by: Identity, vmid: int) -> Upid:
    """Freeze every process of a running container."""

    async def work(rooms: Rooms, guest: Guest, _task: Task) -> None:
        if rooms.containers.state(guest.vmid) is not GuestState.RUNNING:
            raise WrongState(f"CT {guest.vmid} not running")
        await rooms.containers.freeze(guest.vmid)

    await rooms.guests.get(vmid)
    return await _task(rooms, by, vmid, "vzsuspend", work)


async def resume(rooms: Rooms, by: Identity, vmid: int) -> Upid:
    """Let a frozen container go on."""

    async def work(rooms: Rooms, guest: Guest, _task: Task) -> None:
        if rooms.containers.state(guest.vmid) is not GuestState.PAUSED:
            raise WrongState(f"CT {guest.vmid} not suspended")
        await rooms.containers.thaw(guest.vmid)

    await rooms.guests.get(vmid)
    return await _task(rooms, by, vmid, "vzresume", work)


async def start_locked(rooms: Rooms, guest: Guest, task: Task) -> None:
    """Start a container whose lock the task holds; leaves nothing of it when that fails."""
    if rooms.containers.state(guest.vmid) is not GuestState.STOPPED:
        raise WrongState(f"CT {guest.vmid} already running")
    guest = await apply_pending(rooms, guest, task)
    config = ContainerConfig.parse(guest.config)
    await check_interfaces(rooms, config.net)
    try:
        await hooks.run_hook(rooms, guest, "pre-start", task)
        plan = await container_plan(rooms, guest)
        await asyncio.to_thread(rooms.containers.customize, plan)
        await seed.write_seed(rooms, guest, plan)
        await rooms.network.register(guest.vmid, guest.name, dict(config.net))
        await rooms.containers.start(plan)
        for index, nic in config.net.items():
            await rooms.network.connect(guest.vmid, index, nic)
    except BaseException:
        if rooms.containers.state(guest.vmid) is not GuestState.STOPPED:
            await rooms.containers.stop(guest.vmid)
        await tidy_stopped(rooms, guest, task)
        await deactivate(rooms, guest)
        raise
    await hooks.run_hook(rooms, guest, "post-start", task)


async def shutdown_locked(rooms: Rooms, guest: Guest, task: Task, *, timeout: float, force_stop: bool = False) -> None:
    """Shut down a container whose lock the task holds. Raises WrongState, DeadlineExceeded."""
    if rooms.containers.state(guest.vmid) is GuestState.STOPPED:
        raise WrongState(f"CT {guest.vmid} not running")
    if rooms.containers.state(guest.vmid) is GuestState.PAUSED:
        await rooms.containers.thaw(guest.vmid)
    await hooks.run_hook(rooms, guest, "pre-stop", task)
    if not await rooms.containers.shutdown(guest.vmid, timeout):
        if not force_stop:
            raise DeadlineExceeded(f"CT {guest.vmid} did not shut down within {timeout:g} seconds")
        task.warn(f"CT {guest.vmid} did not shut down within {timeout:g} seconds: killing it")
        await rooms.containers.stop(guest.vmid)
    await tidy_stopped(rooms, guest, task)


async def stop_locked(rooms: Rooms, guest: Guest, task: Task) -> None:
    """Kill a container whose lock the task holds."""
    if rooms.containers.state(guest.vmid) is GuestState.STOPPED:
        raise WrongState(f"CT {guest.vmid} not running")
    await hooks.run_hook(rooms, guest, "pre-stop", task)
    await rooms.containers.stop(guest.vmid)
    await tidy_stopped(rooms, guest, task)


async def tidy_stopped(rooms: Rooms, guest: Guest, task: Task | None) -> None:
    """What follows every stop, also one from inside, once: apply what waited, run the hook.

    The guest's volumes stay active for a start that follows at once; `watch.py` releases them.
    """
    if await rooms.containers.cleanup(guest.vmid):
        guest = await apply_pending(rooms, guest, task)
        await hooks.run_hook(rooms, guest, "post-stop", task)


def _refuse_config_lock(guest: Guest) -> None:
    if guest.config.get("lock"):
        raise Locked(f"CT is locked ({guest.config['lock']})")


async def _task(
    rooms: Rooms,
    by: Identity,
    vmid: int,
    kind: str,
    act: Callable[[Rooms, Guest, Task], Awaitable[None]],
) -> Upid:
    async def work(task: Task) -> None:
        async with rooms.locks.hold(vmid, task.upid, kind.removeprefix("vz")):
            guest = await rooms.guests.get(vmid)
            _refuse_config_lock(guest)
            await act(rooms, guest, task)

    return await rooms.tasks.start(kind, str(vmid), by, work)
