"""Hook scripts: a snippet that the host runs at the turns of a guest's life, as Proxmox VE calls it."""

import asyncio
import os
from typing import Literal

from bastide.base.errors import RunError, WrongState
from bastide.base.ids import VolumeId
from bastide.host.run import run
from bastide.model.guest import Guest
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

Phase = Literal["pre-start", "post-start", "pre-stop", "post-stop"]
_DEADLINE = 600


async def run_hook(rooms: Rooms, guest: Guest, phase: Phase, task: Task | None) -> None:
    """Run the guest's hook script with the vmid and the phase.

    A failing `pre-start` stops the start: WrongState. A failure in any other phase is a warning.
    """
    script = guest.config.get("hookscript")
    if script is None:
        return
    volid = VolumeId.parse(str(script))
    storage = await rooms.storages.files(volid.storage, "snippets")
    path = await storage.file_path(volid.name)
    if not await asyncio.to_thread(os.access, path, os.X_OK):
        raise WrongState(f"hookscript '{volid}' does not exist or is not executable")
    try:
        result = await run([str(path), str(guest.vmid), phase], deadline=_DEADLINE)
    except RunError as error:
        text = f"hookscript '{volid}' failed in {phase} with exit code {error.code}: {error.stderr.strip()[-500:]}"
        if phase == "pre-start":
            raise WrongState(text) from error
        if task is not None:
            task.warn(text)
        return
    if task is not None:
        for line in result.text.splitlines():
            task.log(line)
