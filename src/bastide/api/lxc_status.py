"""`/nodes/{node}/lxc/{vmid}/status`: starting, stopping, and what a container does now."""

from typing import Annotated, Any

from pydantic import Field

from bastide.api.fields import GuestPath
from bastide.api.lists import index
from bastide.api.routing import Branch, Call, NotBuilt
from bastide.api.shapes_guests import ContainerStatus
from bastide.api.shutdowns import end_shutdowns
from bastide.operations import inspect
from bastide.operations.ct import power

_POWER = ("perm", "/vms/{vmid}", ("VM.PowerMgmt",))
_LONGEST = 24 * 3600

branch = Branch("/nodes/{node}/lxc/{vmid}/status")


class Start(GuestPath):
    """How a container is started."""

    debug: Annotated[bool | None, NotBuilt()] = None
    skiplock: Annotated[bool | None, NotBuilt(root_only=True)] = None


class Stop(GuestPath):
    """How a container is stopped."""

    overrule_shutdown: Annotated[bool | None, Field(alias="overrule-shutdown")] = None
    skiplock: Annotated[bool | None, NotBuilt(root_only=True)] = None


class Shutdown(GuestPath):
    """How long to wait for a container to halt, and what then."""

    force_stop: Annotated[bool | None, Field(alias="forceStop")] = None
    timeout: Annotated[int | None, Field(ge=0, le=_LONGEST)] = None


class Reboot(GuestPath):
    """How long to wait for a container to halt."""

    timeout: Annotated[int | None, Field(ge=0, le=_LONGEST)] = None


@branch.get("", GuestPath, user="all")
async def read_index(_call: Call, _p: GuestPath) -> list[dict[str, str]]:
    """Directory index."""
    return index("subdir", "current", "start", "stop", "shutdown", "suspend", "resume", "reboot")


@branch.get("/current", GuestPath, check=("perm", "/vms/{vmid}", ("VM.Audit",)), answer=ContainerStatus)
async def read_current(call: Call, p: GuestPath) -> dict[str, Any]:
    """What a container does now, asked of the kernel."""
    return await inspect.container_status(call.rooms, p.vmid)


@branch.post("/start", Start, check=_POWER)
async def start(call: Call, p: Start) -> str:
    """Start a container."""
    return str(await power.start(call.rooms, call.identity, p.vmid))


@branch.post("/stop", Stop, check=_POWER)
async def stop(call: Call, p: Stop) -> str:
    """Kill every process of a container at once; with `overrule-shutdown` a shutdown at work is ended first."""
    if p.overrule_shutdown:
        await end_shutdowns(call, p.vmid, "vzshutdown")
    return str(await power.stop(call.rooms, call.identity, p.vmid))


@branch.post("/shutdown", Shutdown, check=_POWER)
async def shutdown(call: Call, p: Shutdown) -> str:
    """Ask a container to halt, and with `forceStop` kill it when it does not."""
    timeout = 60 if p.timeout is None else p.timeout
    return str(await power.shutdown(call.rooms, call.identity, p.vmid, timeout=timeout, force_stop=bool(p.force_stop)))


@branch.post("/reboot", Reboot, check=_POWER)
async def reboot(call: Call, p: Reboot) -> str:
    """Shut a container down and start it again, with its pending changes."""
    return str(await power.reboot(call.rooms, call.identity, p.vmid, timeout=p.timeout))


@branch.post("/suspend", GuestPath, check=_POWER)
async def suspend(call: Call, p: GuestPath) -> str:
    """Freeze every process of a container."""
    return str(await power.suspend(call.rooms, call.identity, p.vmid))


@branch.post("/resume", GuestPath, check=_POWER)
async def resume(call: Call, p: GuestPath) -> str:
    """Let a frozen container go on."""
    return str(await power.resume(call.rooms, call.identity, p.vmid))
