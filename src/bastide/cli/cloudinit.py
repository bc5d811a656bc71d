"""`cloudinit`: what cloud-init in a guest is told at its first boot."""

from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import unquote

import typer

from bastide.base.errors import NotSupported
from bastide.cli import completing, output
from bastide.cli.launch_options import read_text
from bastide.cli.session import GuestRef, Session

Guest = Annotated[
    str, typer.Argument(metavar="GUEST", help="Name or id.", autocompletion=completing.guests, show_default=False)
]
_FILE = "In full, in place of what the options say."


class Part(StrEnum):
    """A text that cloud-init reads."""

    USER = "user"
    NETWORK = "network"
    META = "meta"
    VENDOR = "vendor"


def cloudinit(
    ctx: typer.Context,
    guest: Guest,
    *,
    user_data: Annotated[str | None, typer.Option("--user-data", metavar="FILE", help=_FILE)] = None,
    network_data: Annotated[str | None, typer.Option("--network-data", metavar="FILE", help=_FILE)] = None,
    vendor_data: Annotated[str | None, typer.Option("--vendor-data", metavar="FILE", help=_FILE)] = None,
    meta_data: Annotated[str | None, typer.Option("--meta-data", metavar="FILE", help=_FILE)] = None,
    delete: Annotated[
        list[Part] | None, typer.Option("--delete", help="Go back to what the options say. May be repeated.")
    ] = None,
    dump: Annotated[Part | None, typer.Option("--dump", help="Print a text as the guest reads it.")] = None,
    regenerate: Annotated[
        bool, typer.Option("--regenerate", help="Write the drive of a VM anew now, not at its next start.")
    ] = False,
) -> None:
    """Show or change what cloud-init in a guest is told.

    Without options: the options that it is made from, and which texts were given in full.
    Options are changed by `set`: ciuser, cipassword, sshkeys, ipconfig0 ...
    """
    session: Session = ctx.obj
    files = {Part.USER: user_data, Part.NETWORK: network_data, Part.VENDOR: vendor_data, Part.META: meta_data}
    texts = {part.value: read_text(f"{part}-data", name) for part, name in files.items() if name is not None}
    found = session.guest(guest)
    texts |= {str(part): "" for part in delete or ()}
    if texts:
        session.client().put(f"/bastide/guests/{found.vmid}/cloudinit", texts)
    if regenerate:
        session.client().put(f"{_of_vm(found)}/cloudinit")
    if dump is not None:
        _dump(session, found, dump)
    elif texts or regenerate:
        output.emit_json({"vmid": found.vmid, "changed": sorted(texts)}, only_if=session.json)
    else:
        _show(session, found)


def _shown(row: dict[str, Any], name: str) -> Any:
    value = row.get(name)
    return unquote(str(value)).strip() if row["key"] == "sshkeys" and value is not None else value


def _of_vm(guest: GuestRef) -> str:
    if guest.type != "qemu":
        raise NotSupported(
            f"{guest.shown} is a container: cloud-init in it reads no drive, but the texts given in full"
        )
    return guest.path


def _dump(session: Session, guest: GuestRef, part: Part) -> None:
    """Print one text; vendor data, and all texts of a container, are what was given and nothing else."""
    if part is Part.VENDOR or guest.type != "qemu":
        text = session.client().get(f"/bastide/guests/{guest.vmid}/cloudinit").get(part.value, "")
    else:
        text = session.client().get(f"{guest.path}/cloudinit/dump", type=part.value)
    if session.json:
        output.emit_json({"type": part.value, "text": text})
        return
    for line in str(text).splitlines():
        output.line(line)


def _show(session: Session, guest: GuestRef) -> None:
    client = session.client()
    rows: list[dict[str, Any]] = client.get(f"{guest.path}/cloudinit") if guest.type == "qemu" else []
    texts = client.get(f"/bastide/guests/{guest.vmid}/cloudinit")
    if session.json:
        output.emit_json({"options": rows, "texts": texts})
        return
    cells = [
        (row["key"], _shown(row, "value"), "(removed)" if row.get("delete") else _shown(row, "pending")) for row in rows
    ]
    cells += [(f"{part} data", f"given in full, {len(text)} characters", None) for part, text in texts.items()]
    columns = [output.Column("key"), output.Column("now", wrap=True), output.Column("at the next start", wrap=True)]
    output.table(columns, cells, empty=f"nothing is set for cloud-init in {guest.shown}")
