"""Starting guests with the host and stopping them with it, in the order of their `startup` option."""

import asyncio
import logging

from bastide.base.errors import BastideError
from bastide.model.access import ROOT
from bastide.model.container import ContainerConfig, Startup
from bastide.model.guest import Guest, GuestState
from bastide.operations import power
from bastide.operations.rooms import Rooms

_log = logging.getLogger(__name__)
_LAST = 2**31


def _startup(guest: Guest) -> Startup:
    return ContainerConfig.parse(guest.config).startup or Startup()


def _order(guest: Guest) -> tuple[int, int]:
    order = _startup(guest).order
    return (_LAST if order is None else order, guest.vmid)


async def start_all(rooms: Rooms) -> None:
    """Start every guest with `onboot`, one after the other, waiting `up` seconds after each that asks for it."""
    wanted = [guest for guest in await rooms.guests.list() if guest.config.get("onboot")]
    for guest in sorted(wanted, key=_order):
        if rooms.containers.state(guest.vmid) is not GuestState.STOPPED:
            continue
        try:
            await rooms.tasks.wait(await power.start(rooms, ROOT, guest.vmid))
        except BastideError as error:
            _log.error("guest %d was not started: %s", guest.vmid, error)
            continue
        await asyncio.sleep(_startup(guest).up or 0)


async def stop_all(rooms: Rooms) -> None:
    """Shut every running guest down in the opposite order, each within its `down` seconds, then by force."""
    running = [guest for guest in await rooms.guests.list() if guest.vmid in rooms.containers.running()]
    for guest in sorted(running, key=_order, reverse=True):
        seconds = _startup(guest).down or 60
        try:
            upid = await power.shutdown(rooms, ROOT, guest.vmid, timeout=seconds, force_stop=True)
            await rooms.tasks.wait(upid)
        except BastideError as error:
            _log.error("guest %d was not stopped: %s", guest.vmid, error)
