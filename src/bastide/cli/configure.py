"""`config` and `set`: what a guest is asked to be."""

from typing import Annotated, Any
from urllib.parse import unquote

import typer

from bastide.base.errors import InvalidParameter
from bastide.cli import completing, output, progress
from bastide.cli.session import Session

Guest = Annotated[
    str, typer.Argument(metavar="GUEST", help="Name or id.", autocompletion=completing.guests, show_default=False)
]


def config(
    ctx: typer.Context,
    guest: Guest,
    pending: Annotated[bool, typer.Option("--pending", help="Also what waits for the next start.")] = False,
) -> None:
    """Print a guest's configuration."""
    session: Session = ctx.obj
    found = session.guest(guest)
    if pending:
        rows: list[dict[str, Any]] = session.client().get(f"{found.path}/pending")
        if session.json:
            output.emit_json(rows)
            return
        output.table(
            [output.Column("key"), output.Column("now", wrap=True), output.Column("at the next start", wrap=True)],
            [(row["key"], row.get("value"), _waiting(row)) for row in rows],
        )
        return
    values: dict[str, Any] = session.client().get(f"{found.path}/config")
    if session.json:
        output.emit_json(values)
        return
    values.pop("digest", None)
    if "sshkeys" in values:
        values["sshkeys"] = unquote(str(values["sshkeys"])).strip()
    output.pairs({f"{key}:": value for key, value in sorted(values.items())})


def _waiting(row: dict[str, Any]) -> str:
    if row.get("delete"):
        return "(removed)"
    return str(row.get("pending", ""))


def set_(
    ctx: typer.Context,
    guest: Guest,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="memory=2048 cores=2 net0=name=eth0,bridge=vmbr0,ip=dhcp ...; of a VM: net0=virtio,bridge=vmbr0 "
            "scsi1=local:8 ...",
        ),
    ] = None,
    *,
    delete: Annotated[
        list[str] | None, typer.Option("--delete", metavar="KEY", help="Go back to the default. May be repeated.")
    ] = None,
    revert: Annotated[
        list[str] | None, typer.Option("--revert", metavar="KEY", help="Forget a change that waits for the next start.")
    ] = None,
    digest: Annotated[
        str | None, typer.Option(metavar="SHA1", help="Only if the configuration is still this one.")
    ] = None,
) -> None:
    """Change a guest's configuration.

    What a running guest can take is applied at once; the rest waits for its next start, and is told.
    """
    session: Session = ctx.obj
    values = key_values(changes or [])
    if not values and not delete and not revert:
        raise typer.BadParameter("nothing to change: give KEY=VALUE, --delete KEY or --revert KEY")
    found = session.guest(guest)
    params = {**values, "delete": _joined(delete), "revert": _joined(revert), "digest": digest}
    # A VM's change as a task: new disks and imported ones take their time.
    method = "POST" if found.type == "qemu" else "PUT"
    answer = session.client().request(method, f"{found.path}/config", params)
    progress.finish(session, answer, f"changing {found.shown}")
    rows: list[dict[str, Any]] = session.client().get(f"{found.path}/pending")
    waiting = [row for row in rows if "pending" in row or row.get("delete")]
    if session.json:
        output.emit_json(waiting)
        return
    for row in waiting:
        output.note(f"{row['key']} waits for the next start: {_waiting(row)}")


def key_values(texts: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` arguments as parameters; a key given more than once makes a list. Raises InvalidParameter."""
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidParameter({text[:60] or "argument": "write it as KEY=VALUE"})
        if key in values:
            before = values[key]
            values[key] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            values[key] = value
    return values


def _joined(keys: list[str] | None) -> str | None:
    return ",".join(keys) if keys else None
