"""Ending shutdowns at work for a guest that shall be stopped at once (`overrule-shutdown`)."""

from bastide.api.routing import Call
from bastide.base.errors import PermissionDenied


async def end_shutdowns(call: Call, vmid: int, kind: str) -> None:
    """End the guest's running tasks of a kind such as `vzshutdown`: one's own, or with Sys.Modify on the node all.

    Raises PermissionDenied for another's.
    """
    every = await call.may(f"/nodes/{call.rooms.node}", "Sys.Modify")
    for record in await call.rooms.tasks.list(vmid=vmid, typefilter=kind, source="active"):
        if not every and record.upid.user != str(call.identity):
            raise PermissionDenied(f"Permission check failed (/nodes/{call.rooms.node}, Sys.Modify)")
        await call.rooms.tasks.stop(record.upid)
        await call.rooms.tasks.wait(record.upid)
