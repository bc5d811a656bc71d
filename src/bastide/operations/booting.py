"""Waiting until the system in a guest of either kind is up."""

import asyncio
import time

from bastide.base.errors import DeadlineExceeded, HostFailure, WrongState
from bastide.model.guest import Guest
from bastide.operations.architect import inside
from bastide.operations.rooms import Rooms

_PAUSE = 0.1
_NO_SYSTEMD = (126, 127)


async def agent_up(rooms: Rooms, guest: Guest) -> None:
    """Return when a VM's agent answers. Raises HostFailure when the VM ends before."""
    while not await rooms.vms.agent_answers(guest.vmid):
        if guest.vmid not in rooms.vms.running():
            raise HostFailure(f"{guest.title} ended while it booted")
        await asyncio.sleep(_PAUSE)


async def system_up(rooms: Rooms, guest: Guest, limit: float) -> str | None:
    """Return when systemd has started everything: `running`, or `degraded` when a unit failed; None without systemd.

    A command in it answers, then. At most `limit` seconds. Raises DeadlineExceeded, HostFailure, and WrongState when
    the guest ends before.
    """
    until = time.monotonic() + limit
    while True:
        left = until - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"the system in {guest.title} was not up within {limit:g} seconds")
        argv = ["systemctl", "is-system-running", "--wait"]
        try:
            ended = await inside.run(rooms, guest, argv, deadline=left, check=False)
            if ended.code in _NO_SYSTEMD:
                return None
            # Without a word systemd does not yet take calls.
            if (state := ended.output.strip()) in ("running", "degraded"):
                return state
        except (WrongState, DeadlineExceeded):
            if guest.vmid not in rooms.engine(guest).running():
                raise
        await asyncio.sleep(_PAUSE)
