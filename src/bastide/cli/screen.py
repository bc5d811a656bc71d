"""`screenshot`, `sendkey` and `monitor`: a VM's screen and keyboard, and QEMU behind it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from bastide.base.errors import AlreadyExists, HostFailure, InvalidParameter, NotSupported
from bastide.cli import completing, output
from bastide.cli.session import GuestRef, Session

Guest = Annotated[
    str, typer.Argument(metavar="VM", help="Name or id.", autocompletion=completing.guests, show_default=False)
]


def screenshot(
    ctx: typer.Context,
    guest: Guest,
    target: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="PNG; - is standard output. Default: NAME.png."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")] = False,
) -> None:
    """Take a picture of a VM's screen."""
    session: Session = ctx.obj
    found = _vm(session, guest, "screen")
    place = Path(target or f"{found.name or found.vmid}.png")
    if target == "-" and os.isatty(1):
        raise InvalidParameter({"output": "a picture does not go to a terminal: name a file, or redirect"})
    if target != "-" and place.exists() and not force:
        raise AlreadyExists(f"{place} already exists: add --force to replace it")
    with session.client().download(f"/bastide/guests/{found.vmid}/screenshot", {}) as body:
        picture = b"".join(body.chunks)
    if target == "-":
        sys.stdout.buffer.write(picture)
        sys.stdout.buffer.flush()
        return
    try:
        place.write_bytes(picture)
    except OSError as error:
        raise HostFailure(f"{place}: {error.strerror or error}") from error
    if session.json:
        output.emit_json({"vmid": found.vmid, "file": str(place)})
    else:
        output.line(str(place))


def sendkey(
    ctx: typer.Context,
    guest: Guest,
    keys: Annotated[
        list[str], typer.Argument(metavar="KEYS", help="ret, esc, ctrl-alt-delete ..., one after the other.")
    ],
) -> None:
    """Press keys of a VM's keyboard."""
    session: Session = ctx.obj
    found = _vm(session, guest, "keyboard")
    for key in keys:
        session.client().put(f"{found.path}/sendkey", {"key": key})
    output.emit_json({"vmid": found.vmid, "keys": keys}, only_if=session.json)


def monitor(
    ctx: typer.Context,
    guest: Guest,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="info status, help ...", show_default=False)],
) -> None:
    """Run a command of QEMU's monitor and print what it says."""
    session: Session = ctx.obj
    found = _vm(session, guest, "monitor")
    text = str(session.client().post(f"{found.path}/monitor", {"command": " ".join(command)}) or "")
    if session.json:
        output.emit_json({"vmid": found.vmid, "output": text})
        return
    for line in text.splitlines():
        output.line(line)


def _vm(session: Session, name: str, what: str) -> GuestRef:
    guest = session.guest(name)
    if guest.type != "qemu":
        instead = f"bastide console{session.root_option} {name}"
        raise NotSupported(f"{guest.shown} is a container, which has no {what}; its console: {instead}")
    return guest
