"""`/nodes/{node}/startall` and `stopall`: all guests of the host, in their order."""

from typing import Annotated

from pydantic import Field

from bastide.api.fields import NodePath
from bastide.api.routing import Branch, Call
from bastide.base.errors import InvalidParameter
from bastide.model.types import split_list
from bastide.operations import autostart

branch = Branch("/nodes/{node}")

Workers = Annotated[int | None, Field(alias="max-workers", ge=1, le=64)]


class StartAll(NodePath):
    """Which guests to start. They start one after the other, whatever `max-workers` allows."""

    force: bool = False
    max_workers: Workers = None
    vms: str | None = None


class StopAll(NodePath):
    """Which guests to stop, and how long each may take."""

    force_stop: Annotated[bool, Field(alias="force-stop")] = True
    max_workers: Workers = None
    timeout: Annotated[int, Field(ge=0, le=7200)] = 180
    vms: str | None = None


@branch.post("/startall", StartAll, user="all")
async def start_all(call: Call, p: StartAll) -> str:
    """Start the guests with onboot. Needs VM.PowerMgmt on / or on every guest named in vms."""
    vmids = await _allowed(call, p.vms)
    return str(await autostart.start_all(call.rooms, call.identity, vmids=vmids, force=p.force))


@branch.post("/stopall", StopAll, user="all")
async def stop_all(call: Call, p: StopAll) -> str:
    """Shut the guests down. Needs VM.PowerMgmt on / or on every guest named in vms."""
    vmids = await _allowed(call, p.vms)
    upid = await autostart.stop_all(call.rooms, call.identity, vmids=vmids, timeout=p.timeout, force_stop=p.force_stop)
    return str(upid)


async def _allowed(call: Call, vms: str | None) -> list[int] | None:
    if vms is None:
        await call.require("/", "VM.PowerMgmt")
        return None
    names = split_list(vms)
    if not all(name.isascii() and name.isdecimal() for name in names):
        raise InvalidParameter({"vms": "a list of VMIDs is wanted"})
    if not await call.may("/", "VM.PowerMgmt"):
        for name in names:
            await call.require(f"/vms/{int(name)}", "VM.PowerMgmt")
    return [int(name) for name in names]
