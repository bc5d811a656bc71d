"""Starting guests with the host and stopping them with it, in the order of their `startup` option."""

import asyncio
from collections.abc import Awaitable, Collection

from bastide.base.errors import BastideError
from bastide.base.ids import Upid
from bastide.model.access import Identity
from bastide.model.container import Startup
from bastide.model.guest import Guest, GuestState
from bastide.operations.ct import power as ct_power
from bastide.operations.rooms import Rooms
from bastide.operations.vm import power as vm_power
from bastide.tasks.tasks import Task

_LAST = 2**31
_STOP_SECONDS = 180


async def start_all(rooms: Rooms, by: Identity, *, vmids: Collection[int] | None = None, force: bool = False) -> Upid:
    """Start the guests with `onboot` (all with `force`; only `vmids` if given) one after the other, as a task.

    After each it waits the `up` seconds of its `startup`. A guest that does not start is a warning.
    """

    async def work(task: Task) -> None:
        for guest in await _chosen(rooms, vmids):
            wanted = force or guest.config.get("onboot")
            if not wanted or rooms.engine(guest).state(guest.vmid) is not GuestState.STOPPED:
                continue
            task.log(f"starting {guest.title}")
            start = ct_power.start if guest.kind == "lxc" else vm_power.start
            if await _ended_well(rooms, task, guest, start(rooms, by, guest.vmid)):
                await asyncio.sleep(_startup(guest).up or 0)

    return await rooms.tasks.start("startall", "", by, work)


async def stop_all(
    rooms: Rooms,
    by: Identity,
    *,
    vmids: Collection[int] | None = None,
    timeout: int = _STOP_SECONDS,
    force_stop: bool = True,
) -> Upid:
    """Shut the running guests down in the opposite order, as a task.

    Each has the `down` seconds of its `startup`, else `timeout`; then it is killed with `force_stop`.
    """

    async def work(task: Task) -> None:
        for guest in reversed(await _chosen(rooms, vmids)):
            if guest.vmid not in rooms.engines.running():
                continue
            seconds = _startup(guest).down or timeout
            task.log(f"shutting down {guest.title} (within {seconds} seconds)")
            shutdown = ct_power.shutdown if guest.kind == "lxc" else vm_power.shutdown
            ended = shutdown(rooms, by, guest.vmid, timeout=seconds, force_stop=force_stop)
            await _ended_well(rooms, task, guest, ended)

    return await rooms.tasks.start("stopall", "", by, work)


async def _ended_well(rooms: Rooms, task: Task, guest: Guest, begun: Awaitable[Upid]) -> bool:
    try:
        status = (await rooms.tasks.wait(await begun)).exitstatus or ""
    except BastideError as error:
        status = str(error)
    if status != "OK" and not status.startswith("WARNINGS"):
        task.warn(f"{guest.title}: {status}")
        return False
    return True


async def _chosen(rooms: Rooms, vmids: Collection[int] | None) -> list[Guest]:
    guests = [guest for guest in await rooms.guests.list() if vmids is None or guest.vmid in vmids]
    return sorted(guests, key=_order)


def _startup(guest: Guest) -> Startup:
    return Startup.model_validate(str(guest.config.get("startup", "")))


def _order(guest: Guest) -> tuple[int, int]:
    order = _startup(guest).order
    return (_LAST if order is None else order, guest.vmid)
