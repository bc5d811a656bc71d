"""`ls`, `start`, `stop`, `shutdown`, `reboot`, `rm`: guests as a whole."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from bastide.base.errors import BastideError, WrongState
from bastide.cli import completing, errors, output, progress
from bastide.cli.session import GuestRef, Session

Guests = Annotated[
    list[str],
    typer.Argument(metavar="GUEST", help="Name or id.", autocompletion=completing.guests, show_default=False),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the task's UPID and return.")]

_COLUMNS = [
    output.Column("id", "right"),
    output.Column("name"),
    output.Column("kind"),
    output.Column("status"),
    output.Column("cores", "right"),
    output.Column("memory", "right"),
    output.Column("address"),
    output.Column("uptime", "right"),
]


def ls(
    ctx: typer.Context,
    running: Annotated[bool, typer.Option("--running", help="Only those that run.")] = False,
) -> None:
    """List the guests."""
    session: Session = ctx.obj
    rows = sorted(guest_rows(session), key=lambda row: int(row["vmid"]))
    if running:
        rows = [row for row in rows if row["status"] == "running"]
    if session.json:
        output.emit_json(rows)
        return
    hint = f"no guests; make one with: bastide launch{session.root_option} debian-12 web"
    output.table(_COLUMNS, [_cells(row) for row in rows], empty=hint if not running else "no guest runs")


def guest_rows(session: Session) -> list[dict[str, Any]]:
    """Every guest as `/cluster/resources` has it, with its `addresses`."""
    client = session.client()
    rows: list[dict[str, Any]] = client.get("/cluster/resources", type="vm")
    running = [row for row in rows if row.get("status") == "running"]
    addresses = known_addresses(session) if running else {}
    for row in rows:
        row["addresses"] = addresses.get(int(row["vmid"]), [])
    return rows


def known_addresses(session: Session) -> dict[int, list[str]]:
    """The addresses of the running guests, by id."""
    return {
        int(row["vmid"]): [str(address) for address in row.get("addresses") or ()]
        for row in session.client().get("/bastide/guests")
    }


def _cells(row: dict[str, Any]) -> list[Any]:
    live = row["status"] == "running"
    limit = output.size(row.get("maxmem"))
    addresses = row["addresses"]
    shown = addresses[0] + (f" +{len(addresses) - 1}" if len(addresses) > 1 else "") if addresses else ""
    return [
        row["vmid"],
        row.get("name", ""),
        "VM" if row.get("type") == "qemu" else "CT",
        row["status"],
        f"{row.get('maxcpu') or ''}",
        f"{output.size(row.get('mem'))} / {limit}" if live else limit,
        shown,
        output.duration(row.get("uptime")) if live else "",
    ]


def start(ctx: typer.Context, guests: Guests, no_wait: NoWait = False) -> None:
    """Start guests."""
    _each(ctx, guests, lambda session, guest: _power(session, guest, "start", "starting", no_wait=no_wait))


def stop(ctx: typer.Context, guests: Guests, no_wait: NoWait = False) -> None:
    """Stop guests at once, as by cutting the power. See also shutdown."""
    _each(ctx, guests, lambda session, guest: _power(session, guest, "stop", "stopping", no_wait=no_wait))


def shutdown(
    ctx: typer.Context,
    guests: Guests,
    timeout: Annotated[int, typer.Option(metavar="SECONDS", help="How long a guest may take.")] = 60,
    force: Annotated[bool, typer.Option("--force", help="Stop it when it takes longer.")] = False,
    no_wait: NoWait = False,
) -> None:
    """Ask guests to shut down, and wait until they have."""
    options = {"timeout": timeout, "forceStop": force}
    _each(
        ctx,
        guests,
        lambda session, guest: _power(session, guest, "shutdown", "shutting down", no_wait=no_wait, options=options),
    )


def reboot(
    ctx: typer.Context,
    guests: Guests,
    timeout: Annotated[int | None, typer.Option(metavar="SECONDS", help="How long the shutdown may take.")] = None,
    no_wait: NoWait = False,
) -> None:
    """Shut guests down and start them again."""
    options = {"timeout": timeout}
    _each(
        ctx,
        guests,
        lambda session, guest: _power(session, guest, "reboot", "rebooting", no_wait=no_wait, options=options),
    )


def rm(
    ctx: typer.Context,
    guests: Guests,
    *,
    force: Annotated[bool, typer.Option("--force", "-f", help="Stop a running guest first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep_jobs: Annotated[
        bool, typer.Option("--keep-references", help="Leave its entries in permissions, pools and jobs.")
    ] = False,
    no_wait: NoWait = False,
) -> None:
    """Destroy guests with their disks.

    A running one is refused without --force.
    """

    def remove(session: Session, guest: GuestRef) -> None:
        if guest.status == "running" and not force:
            raise WrongState(f"{_shown(guest)} is running: shut it down first, or add --force")
        if session.interactive and not (yes or force) and not typer.confirm(f"Destroy {_shown(guest)}?", err=True):
            raise typer.Exit(1)
        answer = session.client().delete(guest.path, force=force, purge=not keep_jobs)
        progress.finish(session, answer, f"destroying {_shown(guest)}", no_wait=no_wait)

    _each(ctx, guests, remove)


def _power(
    session: Session, guest: GuestRef, verb: str, doing: str, *, no_wait: bool, options: dict[str, Any] | None = None
) -> None:
    answer = session.client().post(f"{guest.path}/status/{verb}", options)
    progress.finish(session, answer, f"{doing} {_shown(guest)}", no_wait=no_wait)


def _shown(guest: GuestRef) -> str:
    return f"{guest.name} ({guest.vmid})" if guest.name else str(guest.vmid)


def _each(ctx: typer.Context, names: list[str], act: Callable[[Session, GuestRef], None]) -> None:
    """Act on every guest; one failure does not keep the others from their turn, and the first decides the exit code."""
    session: Session = ctx.obj
    if len(names) == 1:
        act(session, session.guest(names[0]))
        return
    code = 0
    for name in names:
        try:
            act(session, session.guest(name))
        except BastideError as error:
            code = code or errors.exit_code(error)
            errors.report(error, session.root_option)
    if code:
        raise typer.Exit(code)
