"""`/nodes/{node}/qemu/{vmid}/status`: starting, stopping, and what a VM does now."""

from typing import Annotated, Any

from pydantic import Field

from bastide.api.fields import GuestPath
from bastide.api.lists import index
from bastide.api.qemu import SkipLock
from bastide.api.routing import Branch, Call, NotBuilt
from bastide.api.shapes_guests import VmStatus
from bastide.api.shutdowns import end_shutdowns
from bastide.base.errors import InvalidParameter
from bastide.model.types import NodeName, StorageId
from bastide.model.vm_devices import Machine
from bastide.operations import inspect
from bastide.operations.vm import hibernate, memory, power

_POWER = ("perm", "/vms/{vmid}", ("VM.PowerMgmt",))
_LONGEST = 24 * 3600
_SHUTDOWN_SECONDS = 60

branch = Branch("/nodes/{node}/qemu/{vmid}/status")

_Seconds = Annotated[int | None, Field(ge=0, le=_LONGEST)]
_OfMigration = NotBuilt(root_only=True)
"""Parameters that a node gives to another when a VM migrates."""


class Start(GuestPath):
    """How a VM is started; in `timeout` seconds."""

    timeout: _Seconds = None
    force_cpu: Annotated[str | None, Field(alias="force-cpu", max_length=4096), _OfMigration] = None
    machine: Annotated[Machine | None, _OfMigration] = None
    migratedfrom: Annotated[NodeName | None, _OfMigration] = None
    migration_network: Annotated[str | None, Field(max_length=64), _OfMigration] = None
    migration_type: Annotated[str | None, Field(pattern=r"^(secure|insecure)$"), _OfMigration] = None
    nets_host_mtu: Annotated[
        str | None, Field(alias="nets-host-mtu", pattern=r"^net\d+=\d+(,net\d+=\d+)*$"), _OfMigration
    ] = None
    skiplock: SkipLock = None
    stateuri: Annotated[str | None, Field(max_length=128), _OfMigration] = None
    targetstorage: Annotated[str | None, Field(max_length=1024), _OfMigration] = None
    with_conntrack_state: Annotated[bool | None, Field(alias="with-conntrack-state"), _OfMigration] = None


class Stop(GuestPath):
    """How a VM is stopped, which takes no time: `timeout` is taken and not needed."""

    timeout: _Seconds = None
    keep_active: Annotated[bool | None, Field(alias="keepActive"), NotBuilt(root_only=True)] = None
    migratedfrom: Annotated[NodeName | None, _OfMigration] = None
    overrule_shutdown: Annotated[bool | None, Field(alias="overrule-shutdown")] = None
    skiplock: SkipLock = None


class Shutdown(GuestPath):
    """How long to wait for a VM to halt, and what then."""

    timeout: _Seconds = None
    force_stop: Annotated[bool | None, Field(alias="forceStop")] = None
    keep_active: Annotated[bool | None, Field(alias="keepActive"), NotBuilt(root_only=True)] = None
    skiplock: SkipLock = None


class Reboot(GuestPath):
    """How long to wait for a VM to halt."""

    timeout: _Seconds = None


class Reset(GuestPath):
    """How a VM is reset."""

    skiplock: SkipLock = None


class Suspend(GuestPath):
    """How a VM is paused: in memory, or `todisk` on `statestorage`."""

    skiplock: SkipLock = None
    statestorage: StorageId | None = None
    todisk: bool | None = None


class Resume(GuestPath):
    """How a VM goes on."""

    nocheck: Annotated[bool | None, _OfMigration] = None
    skiplock: SkipLock = None


@branch.get("", GuestPath, user="all")
async def read_index(_call: Call, _p: GuestPath) -> list[dict[str, str]]:
    """Directory index."""
    return index("subdir", "current", "start", "stop", "reset", "shutdown", "suspend", "resume", "reboot")


@branch.get("/current", GuestPath, check=("perm", "/vms/{vmid}", ("VM.Audit",)), answer=VmStatus)
async def read_current(call: Call, p: GuestPath) -> dict[str, Any]:
    """What a VM does now, as QEMU says within 2 seconds."""
    return await inspect.vm_status(call.rooms, p.vmid)


@branch.post("/start", Start, check=_POWER)
async def start(call: Call, p: Start) -> str:
    """Start a VM."""
    return str(await power.start(call.rooms, call.identity, p.vmid, timeout=p.timeout or None))


@branch.post("/stop", Stop, check=_POWER)
async def stop(call: Call, p: Stop) -> str:
    """Pull a VM's plug; with `overrule-shutdown` a shutdown at work is ended first."""
    if p.overrule_shutdown:
        await end_shutdowns(call, p.vmid, "qmshutdown")
    return str(await power.stop(call.rooms, call.identity, p.vmid))


@branch.post("/reset", Reset, check=_POWER)
async def reset(call: Call, p: Reset) -> str:
    """Press a VM's reset button."""
    return str(await power.reset(call.rooms, call.identity, p.vmid))


@branch.post("/shutdown", Shutdown, check=_POWER)
async def shutdown(call: Call, p: Shutdown) -> str:
    """Ask a VM to halt, and with `forceStop` pull its plug when it does not."""
    timeout = _SHUTDOWN_SECONDS if p.timeout is None else p.timeout
    return str(await power.shutdown(call.rooms, call.identity, p.vmid, timeout=timeout, force_stop=bool(p.force_stop)))


@branch.post("/reboot", Reboot, check=_POWER)
async def reboot(call: Call, p: Reboot) -> str:
    """Shut a VM down and start it again, with its pending changes."""
    return str(await power.reboot(call.rooms, call.identity, p.vmid, timeout=p.timeout))


@branch.post("/suspend", Suspend, check=_POWER)
async def suspend(call: Call, p: Suspend) -> str:
    """Pause a VM; it stays in memory, or its memory goes `todisk` and its process ends.

    That needs VM.Config.Disk, and Datastore.AllocateSpace on the storage for the memory.
    """
    if not p.todisk:
        if p.statestorage is not None:
            raise InvalidParameter({"statestorage": "statestorage needs 'todisk'"})
        return str(await power.suspend(call.rooms, call.identity, p.vmid))
    await call.require(f"/vms/{p.vmid}", "VM.Config.Disk")
    volid = await memory.memory_volume(call.rooms, await call.rooms.guests.get(p.vmid, "qemu"), "x", p.statestorage)
    await call.require(f"/storage/{volid.storage}", "Datastore.AllocateSpace")
    return str(await hibernate.suspend_to_disk(call.rooms, call.identity, p.vmid, p.statestorage))


@branch.post("/resume", Resume, check=_POWER)
async def resume(call: Call, p: Resume) -> str:
    """Let a paused VM go on, also one that an input/output error has stopped or that sleeps."""
    return str(await power.resume(call.rooms, call.identity, p.vmid))
