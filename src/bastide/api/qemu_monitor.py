"""A VM's keyboard, screen and monitor."""

from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from bastide.api.execute import GuestName, guest_for_console
from bastide.api.fields import GuestPath
from bastide.api.guest_permissions import root_only
from bastide.api.qemu import SkipLock
from bastide.api.routing import Branch, Call
from bastide.base.errors import NotFound
from bastide.model.audit import Bulk, Secret
from bastide.model.record import Record
from bastide.operations.console import require_screen

_LOOKING = frozenset({"help", "?", "info"})
"""Commands of QEMU's human monitor that only look."""

branch = Branch("")


class SendKey(GuestPath):
    """Keys to press together, in QEMU's names: `ctrl-alt-delete`."""

    key: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9_]+(-[A-Za-z0-9_]+){0,15}$"), Secret()]
    skiplock: SkipLock = None


class Monitor(GuestPath):
    """A command of QEMU's human monitor."""

    command: Annotated[str, Field(min_length=1, max_length=4096), Bulk()]


class Screenshot(Record):
    """A VM by its vmid or its name."""

    guest: GuestName


@branch.put("/nodes/{node}/qemu/{vmid}/sendkey", SendKey, check=("perm", "/vms/{vmid}", ("VM.Console",)))
async def send_key(call: Call, p: SendKey) -> None:
    """Press keys together."""
    require_screen(call.rooms, await call.rooms.guests.get(p.vmid))
    await call.rooms.vms.send_keys(p.vmid, p.key.split("-"))


@branch.post("/nodes/{node}/qemu/{vmid}/monitor", Monitor,
             check=("perm", "/vms/{vmid}", ("Sys.Audit", "Sys.Modify"), "any", 1))  # fmt: skip
async def run_monitor_command(call: Call, p: Monitor) -> str:
    """Run a command of QEMU's human monitor; what does more than look (`info`, `help`) is root@pam's alone."""
    words = p.command.split()
    if not call.is_root and (not words or words[0] not in _LOOKING):
        raise root_only("only root can use this monitor command")
    require_screen(call.rooms, await call.rooms.guests.get(p.vmid))
    return await call.rooms.vms.monitor(p.vmid, p.command)


@branch.get("/bastide/guests/{guest}/screenshot", Screenshot, user="all")
async def take_screenshot(call: Call, p: Screenshot) -> Response:
    """A VM's screen as a PNG picture. Needs VM.Console."""
    guest = await guest_for_console(call, p.guest)
    if guest.kind != "qemu":
        raise NotFound(f"a screen of '{p.guest}' does not exist: {guest.title} is a container")
    require_screen(call.rooms, guest)
    picture = await call.rooms.vms.screenshot(guest.vmid)
    return Response(picture, media_type="image/png", headers={"cache-control": "no-store"})
