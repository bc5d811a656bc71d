"""`/nodes/{node}/{lxc,qemu}/{vmid}/snapshot`: no snapshots are made yet, so a guest has its present state alone."""

from typing import Any

from bastide.api.fields import GuestPath
from bastide.api.routing import Branch, Call
from bastide.model.guest import GuestState

branch = Branch("/nodes/{node}")

_AUDIT = ("perm", "/vms/{vmid}", ("VM.Audit",))


@branch.get("/lxc/{vmid}/snapshot", GuestPath, check=_AUDIT)
async def list_container_snapshots(call: Call, p: GuestPath) -> list[dict[str, Any]]:
    """The container's snapshots; the last row is its present state."""
    return await _rows(call, p.vmid)


@branch.get("/qemu/{vmid}/snapshot", GuestPath, check=_AUDIT)
async def list_vm_snapshots(call: Call, p: GuestPath) -> list[dict[str, Any]]:
    """The VM's snapshots; the last row is its present state."""
    return await _rows(call, p.vmid)


async def _rows(call: Call, vmid: int) -> list[dict[str, Any]]:
    guest = await call.rooms.guests.get(vmid)
    running = call.rooms.engine(guest).state(vmid) is not GuestState.STOPPED
    return [{"name": "current", "description": "You are here!", "running": int(running), "digest": guest.digest}]
