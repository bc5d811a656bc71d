"""Consoles: ours (`/bastide/guests/{guest}/console`) and Proxmox VE's `termproxy`, `vncproxy`, `vncwebsocket`."""

import asyncio
import secrets
from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.allowed import while_allowed
from bastide.api.execute import Columns, GuestName, guest_for_console, on_guest
from bastide.api.fields import GuestPath
from bastide.api.routing import Branch, Call
from bastide.api.shapes_guests import ScreenOffer, TerminalOffer
from bastide.api.websocket import SocketChannel
from bastide.base.errors import MethodNotImplemented
from bastide.model.audit import Secret
from bastide.model.record import Record
from bastide.operations import execute
from bastide.operations.console import Screen

branch = Branch("")

_CHECK = ("perm", "/vms/{vmid}", ("VM.Console",))
_PASSWORD_LENGTH = 8  # all that RFB's authentication looks at (RFC 6143, 7.2.2)


class Console(Record):
    """A guest's console.

    `tty` of a container: 0 is /dev/console, 2 and up that virtual terminal, 1 (or none) what `cmode` says. `serial` of
    a VM: that serial port, none the one that is its display, or its first.
    """

    guest: GuestName
    tty: Annotated[int, Field(ge=0, le=6)] = 1
    serial: Annotated[int | None, Field(ge=0, le=3)] = None
    cols: Columns | None = None
    rows: Columns | None = None


class ContainerVncProxy(GuestPath):
    """What a VNC terminal would look like."""

    websocket: bool | None = None
    width: Annotated[int | None, Field(ge=16, le=4096)] = None
    height: Annotated[int | None, Field(ge=16, le=2160)] = None


class TermProxy(GuestPath):
    """Which serial port."""

    serial: Literal["serial0", "serial1", "serial2", "serial3"] | None = None


class VncProxy(GuestPath):
    """How the screen is shown: always over a WebSocket, with a password of its own or with none."""

    websocket: bool | None = None
    generate_password: Annotated[bool | None, Field(alias="generate-password")] = None


class VncWebsocket(GuestPath):
    """What `termproxy` or `vncproxy` offered."""

    port: Annotated[int, Field(ge=5900, le=5999)]
    vncticket: Annotated[str, Field(max_length=512), Secret()]


@branch.websocket("/bastide/guests/{guest}/console", Console, user="all")
async def attach(call: Call, p: Console) -> None:
    """Attach to the guest's console; the frames are those of `exec`."""
    guest = await guest_for_console(call, p.guest)
    terminal = execute.terminal_of(p.cols, p.rows)
    tty = p.serial if guest.kind == "qemu" else None if p.tty == 1 else p.tty
    channel = SocketChannel(call.websocket)
    async with call.services.consoles.open(call.rooms, guest, tty, terminal) as console:
        await channel.accept()
        await while_allowed(call, on_guest(call, guest.vmid, "VM.Console"), console.join(channel))
    await channel.close()


@branch.post("/nodes/{node}/lxc/{vmid}/termproxy", GuestPath, check=_CHECK, answer=TerminalOffer)
async def offer_terminal(call: Call, p: GuestPath) -> dict[str, Any]:
    """Offer a terminal of the container; the ticket is good for one use within 30 seconds."""
    return await _offer(call, p.vmid, None)


@branch.post("/nodes/{node}/qemu/{vmid}/termproxy", TermProxy, check=_CHECK, answer=TerminalOffer)
async def offer_serial_port(call: Call, p: TermProxy) -> dict[str, Any]:
    """Offer a serial port of the VM as a terminal; the ticket is good for one use within 30 seconds."""
    return await _offer(call, p.vmid, None if p.serial is None else int(p.serial.removeprefix("serial")))


@branch.post("/nodes/{node}/lxc/{vmid}/vncproxy", ContainerVncProxy, check=_CHECK)
async def offer_picture(_call: Call, p: ContainerVncProxy) -> None:
    """A terminal as a VNC picture."""
    raise MethodNotImplemented(
        f"Method 'POST /nodes/{p.node}/lxc/{p.vmid}/vncproxy' not implemented: use termproxy, which gives a terminal"
    )


@branch.post("/nodes/{node}/qemu/{vmid}/vncproxy", VncProxy, check=_CHECK, answer=ScreenOffer)
async def offer_screen(call: Call, p: VncProxy) -> dict[str, Any]:
    """Offer the VM's screen to a VNC client; the ticket is good for one use within 30 seconds.

    Nothing listens on the port, with `websocket` or without: the client comes to `vncwebsocket`.
    """
    password = secrets.token_urlsafe(_PASSWORD_LENGTH)[:_PASSWORD_LENGTH] if p.generate_password else None
    answer = await _offer(call, p.vmid, Screen(password))
    certificate = call.rooms.layout.state / "api.pem"
    answer["cert"] = await asyncio.to_thread(lambda: certificate.read_text() if certificate.exists() else "")
    return answer if password is None else {**answer, "password": password}


@branch.websocket("/nodes/{node}/lxc/{vmid}/vncwebsocket", VncWebsocket, check=_CHECK)
async def open_terminal(call: Call, p: VncWebsocket) -> None:
    """Open the terminal that `termproxy` offered, once."""
    await _serve(call, p)


@branch.websocket("/nodes/{node}/qemu/{vmid}/vncwebsocket", VncWebsocket, check=_CHECK)
async def open_console(call: Call, p: VncWebsocket) -> None:
    """Open the terminal or the screen (RFB in binary frames) that `termproxy` or `vncproxy` offered, once."""
    await _serve(call, p)


async def _offer(call: Call, vmid: int, what: Screen | int | None) -> dict[str, Any]:
    guest = await call.rooms.guests.get(vmid)
    offer, upid = await call.services.consoles.offer(call.rooms, guest, call.identity, what)
    ticket = await call.access.issue_console_ticket(call.identity, f"/vms/{vmid}", offer.port)
    return {"port": offer.port, "ticket": ticket, "user": offer.user, "upid": str(upid)}


async def _serve(call: Call, p: VncWebsocket) -> None:
    guest = await call.rooms.guests.get(p.vmid)
    await call.access.use_console_ticket(p.vncticket, call.identity, f"/vms/{p.vmid}", p.port)
    offer = call.services.consoles.take(p.vmid, str(call.identity), p.port)
    channel = SocketChannel(call.websocket)
    try:
        await channel.accept()
        serving = call.services.consoles.serve(call.rooms, guest, offer, channel, p.vncticket)
        await while_allowed(call, on_guest(call, guest.vmid, "VM.Console"), serving)
    finally:
        offer.closed.set()
    await channel.close()
