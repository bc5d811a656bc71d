"""Copies of a running VM's disks: QEMU mirrors a drive to another image, and the guest is switched to it.

What the guest writes meanwhile goes to both at once (`write-blocking`), so that a busy guest's copy gets in step, too.
Sources: QEMU's QMP reference (blockdev-mirror, job-complete, JobStatus).
"""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from bastide.base.errors import DeadlineExceeded, HostFailure, NotSupported, WrongState
from bastide.guest.qemu.hotchange import HotChange
from bastide.guest.qemu.nodes import add_node, change, inserted, node_of, remove_nodes
from bastide.guest.qemu.render import disks as render_disks
from bastide.guest.qemu.runtime import Vm
from bastide.guest.vm_protocol import Mirror, PlannedDisk, VmPlan
from bastide.host.qmp import CommandRefused
from bastide.model.vm_disks import ScsiDrive, VirtioDrive

_INTERVAL = 0.02
_DEADLINE = 30.0


class Mirrors(HotChange):
    """The `VmMirrors` part of the engine."""

    async def mirror(self, plan: VmPlan, key: str, target: PlannedDisk, token: str, *, speed: int = 0) -> None:
        """Begin to copy a drive to another image, and keep that in step."""
        if key == "tpmstate0":
            raise NotSupported("tpmstate0: QEMU does not hold it; stop the VM to move it")
        vm = self._runtime.require(plan.vmid)
        async with vm.changing, AsyncExitStack() as undo:
            source = await inserted(vm, key)
            # Devices come in whole extents: the copy may be a little larger than the guest's disk.
            size = int(source["image"]["virtual-size"])
            await add_node(vm, plan, _written(target, key), undo, token, size=size)
            arguments = {
                "job-id": _job_id(key),
                "device": source["node-name"],
                "target": f"drive-{render_disks.image_name(key, token)}",
                "sync": "full",
                "speed": speed,
                "copy-mode": "write-blocking",
                # Its end stays to be read by whoever asks next, a daemon of tomorrow too.
                "auto-dismiss": False,
            }
            await change(vm, "blockdev-mirror", arguments)
            undo.pop_all()

    async def mirror_progress(self, vmid: int, key: str) -> Mirror | None:
        """How far it is; None when there is no such job. Raises HostFailure with its error when it failed."""
        vm = self._runtime.require(vmid)
        job = await _job(vm, key)
        if job is None:
            return None
        if job["status"] == "concluded":
            await _settle(vm, key)
            if "error" in job:
                raise HostFailure(f"{key} could not be copied: {str(job['error'])[:300]}")
            return None
        return Mirror(job["current-progress"], job["total-progress"], ready=job["status"] == "ready")

    async def change_over(self, vmid: int, key: str) -> None:
        """Let the guest use the copy, which is in step, and close the old image."""
        vm = self._runtime.require(vmid)
        async with vm.changing:
            await change(vm, "job-complete", {"id": _job_id(key)})
            job = await _concluded(vm, key)
            await _settle(vm, key)
        if job is not None and "error" in job:
            raise HostFailure(f"{key} could not be changed over: {str(job['error'])[:300]}")

    async def cancel_mirror(self, vmid: int, key: str) -> None:
        """Stop copying, and close what the drive does not use, whichever of the two that is."""
        vm = self._runtime.require(vmid)
        async with vm.changing:
            if await _job(vm, key) is not None:
                with contextlib.suppress(CommandRefused):  # it has ended
                    await change(vm, "job-cancel", {"id": _job_id(key)})
                await _concluded(vm, key)
            with contextlib.suppress(WrongState):
                await _settle(vm, key)

    async def image_token(self, vmid: int, key: str) -> str | None:
        """The token of the copy that a drive uses, None when it uses the image that it was started with."""
        return render_disks.token_of(await node_of(self._runtime.require(vmid), key), key)


async def _settle(vm: Vm, key: str) -> None:
    """Forget an ended job, and close the image that the drive does not use."""
    keep = await node_of(vm, key)
    with contextlib.suppress(CommandRefused):
        await change(vm, "job-dismiss", {"id": _job_id(key)})
    await remove_nodes(vm, key, keep=keep)


async def _concluded(vm: Vm, key: str) -> dict[str, Any] | None:
    """The job once it has ended; None when it is gone. Raises DeadlineExceeded."""
    try:
        async with asyncio.timeout(_DEADLINE):
            while True:
                job = await _job(vm, key)
                if job is None or job["status"] == "concluded":
                    return job
                await asyncio.sleep(_INTERVAL)
    except TimeoutError:
        raise DeadlineExceeded(f"the copy of {key} did not end within {_DEADLINE:g} seconds") from None


async def _job(vm: Vm, key: str) -> dict[str, Any] | None:
    jobs: list[dict[str, Any]] = await vm.monitor.execute("query-jobs")
    return next((job for job in jobs if job["id"] == _job_id(key)), None)


def _job_id(key: str) -> str:
    return f"mirror-{key}"


def _written(target: PlannedDisk, key: str) -> PlannedDisk:
    """The copy of a disk that the guest only reads is written all the same."""
    options = target.options
    if isinstance(options, (ScsiDrive, VirtioDrive)):
        options = options.model_copy(update={"ro": None})
    return replace(target, key=key, options=options, read_only=False)
