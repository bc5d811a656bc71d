"""Consoles: ours (`/bastide/guests/{guest}/console`) and Proxmox VE's `termproxy`, `vncproxy`, `vncwebsocket`."""

from typing import Annotated, Any

from pydantic import Field

from bastide.api.execute import Columns, GuestName, guest_for_console
from bastide.api.fields import GuestPath
from bastide.api.routing import Branch, Call
from bastide.api.websocket import SocketChannel, while_allowed
from bastide.base.errors import MethodNotImplemented
from bastide.model.record import Record
from bastide.operations import execute
from bastide.operations.console import Consoles

branch = Branch("")

_CHECK = ("perm", "/vms/{vmid}", ("VM.Console",))


class Console(Record):
    """A guest's console. `tty`: 0 is /dev/console, 2 and up that virtual terminal, 1 (or none) what `cmode` says."""

    guest: GuestName
    tty: Annotated[int, Field(ge=0, le=6)] = 1
    cols: Columns | None = None
    rows: Columns | None = None


class VncProxy(GuestPath):
    """What a VNC terminal would look like."""

    websocket: bool | None = None
    width: Annotated[int | None, Field(ge=16, le=4096)] = None
    height: Annotated[int | None, Field(ge=16, le=2160)] = None


class VncWebsocket(GuestPath):
    """The terminal that `termproxy` offered."""

    port: Annotated[int, Field(ge=5900, le=5999)]
    vncticket: Annotated[str, Field(max_length=512)]


def consoles(call: Call) -> Consoles:
    """The consoles of this daemon."""
    found: Consoles = call.services.extra.setdefault("consoles", Consoles())
    return found


@branch.websocket("/bastide/guests/{guest}/console", Console, user="all")
async def attach(call: Call, p: Console) -> None:
    """Attach to the guest's console; the frames are those of `exec`."""
    guest = await guest_for_console(call, p.guest)
    terminal = execute.terminal_of(p.cols, p.rows)
    channel = SocketChannel(call.websocket)
    async with consoles(call).open(call.rooms, guest, None if p.tty == 1 else p.tty, terminal) as session:
        await channel.accept()
        await while_allowed(call, guest.vmid, execute.join(session, channel))
    await channel.close()


@branch.post("/nodes/{node}/lxc/{vmid}/termproxy", GuestPath, check=_CHECK)
async def termproxy(call: Call, p: GuestPath) -> dict[str, Any]:
    """Offer a terminal of the container; the ticket is good for one use within 30 seconds."""
    guest = await call.rooms.guests.get(p.vmid)
    offer, upid = await consoles(call).offer(call.rooms, guest, call.identity)
    ticket = await call.access.issue_console_ticket(call.identity, f"/vms/{p.vmid}", offer.port)
    return {"port": offer.port, "ticket": ticket, "user": offer.user, "upid": str(upid)}


@branch.post("/nodes/{node}/lxc/{vmid}/vncproxy", VncProxy, check=_CHECK)
async def vncproxy(_call: Call, p: VncProxy) -> None:
    """A terminal as a VNC picture."""
    raise MethodNotImplemented(
        f"Method 'POST /nodes/{p.node}/lxc/{p.vmid}/vncproxy' not implemented: use termproxy, which gives a terminal"
    )


@branch.websocket("/nodes/{node}/lxc/{vmid}/vncwebsocket", VncWebsocket, check=_CHECK)
async def vncwebsocket(call: Call, p: VncWebsocket) -> None:
    """Open the terminal that `termproxy` offered, once."""
    guest = await call.rooms.guests.get(p.vmid)
    await call.access.use_console_ticket(p.vncticket, call.identity, f"/vms/{p.vmid}", p.port)
    offer = consoles(call).take(p.vmid, str(call.identity), p.port)
    channel = SocketChannel(call.websocket)
    try:
        await channel.accept()
        serving = consoles(call).serve(call.rooms, guest, offer, channel, p.vncticket)
        await while_allowed(call, guest.vmid, serving)
    finally:
        offer.closed.set()
    await channel.close()
