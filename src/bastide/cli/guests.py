"""`ls`, `start`, `stop`, `shutdown`, `reboot`, `reset`, `suspend`, `resume`, `rm`: guests as a whole."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from bastide.base.errors import BastideError, NotSupported, WrongState
from bastide.cli import completing, errors, output, progress
from bastide.cli.launching import destroy
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


_QEMU_STATES = {"postmigrate": "paused", "finish-migrate": "paused"}
"""What QEMU calls a VM that is paused since its memory was saved (qapi/run-state.json), and what it is to its user."""


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
    slow = [str(row.get("name") or row["vmid"]) for row in rows if row.get("accelerator") == "tcg"]
    if slow:
        output.note(f"emulated without KVM, and slow: {', '.join(slow)}")


def guest_rows(session: Session) -> list[dict[str, Any]]:
    """Every guest as `/cluster/resources` has it, with its `addresses`; of running VMs also what QEMU does."""
    client = session.client()
    rows: list[dict[str, Any]] = client.get("/cluster/resources", type="vm")
    running = [row for row in rows if row.get("status") == "running"]
    addresses = known_addresses(session) if running else {}
    machines = _machines(session) if any(row.get("type") == "qemu" for row in running) else {}
    for row in rows:
        row["addresses"] = addresses.get(int(row["vmid"]), [])
        row.update(machines.get(int(row["vmid"]), {}))
    return rows


def _machines(session: Session) -> dict[int, dict[str, Any]]:
    """`qmpstatus` (`paused`, `io-error` ...) and `accelerator` of the running VMs, by id."""
    rows = session.client().get(f"/nodes/{session.node()}/qemu")
    told = ("qmpstatus", "accelerator")
    return {
        int(row["vmid"]): {key: row[key] for key in told if key in row}
        for row in rows
        if row.get("status") == "running"
    }


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
        _state(row),
        f"{row.get('maxcpu') or ''}",
        f"{output.size(row['mem'])} / {limit}" if live and row.get("mem") else limit,
        shown,
        output.duration(row.get("uptime")) if live else "",
    ]


def _state(row: dict[str, Any]) -> str:
    state = str(row["status"])
    if state == "running":
        state = str(row.get("qmpstatus", state))
        return _QEMU_STATES.get(state, state)
    if row.get("lock") == "suspended":
        return "suspended"
    return "template" if row.get("template") else state


def start(ctx: typer.Context, guests: Guests, no_wait: NoWait = False) -> None:
    """Start guests."""
    begin = _power("start", "starting", no_wait=no_wait)

    def act(session: Session, guest: GuestRef) -> str | None:
        upid = begin(session, guest)
        if guest.type == "qemu" and not no_wait:
            _warn(session, guest)
        return upid

    _each(ctx, guests, act, no_wait=no_wait)


def _warn(session: Session, guest: GuestRef) -> None:
    """Tell when a VM runs without KVM, which explains most of what is slow."""
    warning = session.client().get(f"{guest.path}/status/current").get("warning")
    if warning:
        output.note(f"warning: {guest.shown} is {warning}")


def stop(ctx: typer.Context, guests: Guests, no_wait: NoWait = False) -> None:
    """Stop guests at once, as by cutting the power. See also shutdown."""
    _each(ctx, guests, _power("stop", "stopping", no_wait=no_wait), no_wait=no_wait)


def shutdown(
    ctx: typer.Context,
    guests: Guests,
    timeout: Annotated[int, typer.Option(metavar="SECONDS", help="How long a guest may take.")] = 60,
    force: Annotated[bool, typer.Option("--force", help="Stop it when it takes longer.")] = False,
    no_wait: NoWait = False,
) -> None:
    """Ask guests to shut down, and wait until they have."""
    options = {"timeout": timeout, "forceStop": force}
    _each(ctx, guests, _power("shutdown", "shutting down", options, no_wait=no_wait), no_wait=no_wait)


def reboot(
    ctx: typer.Context,
    guests: Guests,
    timeout: Annotated[int | None, typer.Option(metavar="SECONDS", help="How long the shutdown may take.")] = None,
    no_wait: NoWait = False,
) -> None:
    """Shut guests down and start them again."""
    _each(ctx, guests, _power("reboot", "rebooting", {"timeout": timeout}, no_wait=no_wait), no_wait=no_wait)


def reset(ctx: typer.Context, guests: Guests, no_wait: NoWait = False) -> None:
    """Press VMs' reset button: their systems are not asked."""
    press = _power("reset", "resetting", no_wait=no_wait)

    def act(session: Session, guest: GuestRef) -> str | None:
        if guest.type != "qemu":
            raise NotSupported(
                f"{guest.shown} is a container, which has no reset button: stop and start it, or reboot it"
            )
        return press(session, guest)

    _each(ctx, guests, act, no_wait=no_wait)


def suspend(
    ctx: typer.Context,
    guests: Guests,
    *,
    disk: Annotated[
        bool, typer.Option("--disk", help="A VM: write its memory to disk and end it; its next start goes on there.")
    ] = False,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="STORAGE",
            help="With --disk: where to. Default: beside its first disk.",
            autocompletion=completing.storages,
        ),
    ] = None,
    no_wait: NoWait = False,
) -> None:
    """Pause guests where they are. They stay in memory, or with --disk VMs' memory goes to disk.

    See also resume; what is on disk goes on by start as well.
    """
    if storage is not None and not disk:
        raise typer.BadParameter("--storage goes with --disk")
    pause = _power("suspend", "suspending", no_wait=no_wait)
    options = {"todisk": True, "statestorage": storage}
    save = _power("suspend", "writing to disk the memory of", options, no_wait=no_wait)

    def act(session: Session, guest: GuestRef) -> str | None:
        if disk and guest.type != "qemu":
            raise NotSupported(f"{guest.shown} is a container, whose memory cannot be kept: leave --disk out")
        return (save if disk else pause)(session, guest)

    _each(ctx, guests, act, no_wait=no_wait)


def resume(ctx: typer.Context, guests: Guests, no_wait: NoWait = False) -> None:
    """Let paused guests go on; also a VM that an error of its disk has paused."""
    _each(ctx, guests, _power("resume", "resuming", no_wait=no_wait), no_wait=no_wait)


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

    def remove(session: Session, guest: GuestRef) -> str | None:
        if guest.status == "running" and not force:
            raise WrongState(f"{guest.shown} is running: shut it down first, or add --force")
        if session.interactive and not (yes or force) and not typer.confirm(f"Destroy {guest.shown}?", err=True):
            raise typer.Exit(1)
        answer = destroy(session, guest, force=force, purge=not keep_jobs)
        return progress.finish(session, answer, f"destroying {guest.shown}", no_wait=no_wait)

    _each(ctx, guests, remove, no_wait=no_wait)


Act = Callable[[Session, GuestRef], str | None]


def _power(verb: str, doing: str, options: dict[str, Any] | None = None, *, no_wait: bool) -> Act:
    def act(session: Session, guest: GuestRef) -> str | None:
        answer = session.client().post(f"{guest.path}/status/{verb}", options)
        return progress.finish(session, answer, f"{doing} {guest.shown}", no_wait=no_wait)

    return act


def _each(ctx: typer.Context, names: list[str], act: Act, *, no_wait: bool) -> None:
    """Act on every guest and print the tasks, as JSON or when nobody waited for them.

    One failure does not keep the others from their turn; the first one decides the exit code.
    """
    session: Session = ctx.obj
    code, done = 0, []
    for name in names:
        try:
            guest = session.guest(name)
            done.append({"vmid": guest.vmid, "name": guest.name, "upid": act(session, guest)})
        except BastideError as error:
            code = code or errors.exit_code(error)
            errors.report(error, session.root_option)
    if session.json:
        output.emit_json(done)
    elif no_wait:
        for row in done:
            output.line(str(row["upid"]))
    if code:
        raise typer.Exit(code)
