"""`clone` and `template`: guests made of guests."""

from typing import Annotated, Any

import typer

from bastide.base.errors import InvalidParameter, WrongState
from bastide.cli import completing, output, progress
from bastide.cli.session import GuestRef, Session
from bastide.cli.snapshots import Guest, NoWait, check_name


def clone(
    ctx: typer.Context,
    guest: Guest,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new guest's name.", show_default=False)],
    *,
    full: Annotated[bool, typer.Option("--full", help="A copy of its own. Default, but of a template.")] = False,
    linked: Annotated[
        bool, typer.Option("--linked", help="One that holds only what differs. Default of a template.")
    ] = False,
    snapshot: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of that state of it.", autocompletion=completing.snapshots),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="STORAGE", help="Of a full one: where to.", autocompletion=completing.storages),
    ] = None,
    form: Annotated[str | None, typer.Option("--format", metavar="FORMAT", help="Of a full VM: raw, qcow2.")] = None,
    vmid: Annotated[int | None, typer.Option("--vmid", metavar="ID", help="Default: the next free one.")] = None,
    pool: Annotated[str | None, typer.Option(metavar="POOL", help="The pool that it is put in.")] = None,
    description: Annotated[str | None, typer.Option("--description", "-d", metavar="TEXT", help="What for.")] = None,
    start: Annotated[bool, typer.Option("--start", help="Start it then.")] = False,
    no_wait: NoWait = False,
) -> None:
    """Make a guest of a guest, with an identity of its own: addresses, host name, machine-id, host keys.

    Of a template a linked clone, which is made at once; of any other guest a full copy.
    """
    session: Session = ctx.obj
    if full and linked:
        raise typer.BadParameter("either --full or --linked")
    if start and no_wait:
        raise typer.BadParameter("--start has to wait for the clone: leave --no-wait out")
    found = session.guest(guest)
    if form is not None and found.type != "qemu":
        raise InvalidParameter({"format": f"{found.shown} is a container, whose volumes have no format to choose"})
    if snapshot is not None:
        check_name(session, found, snapshot)
    if linked:
        _check_template(session, found)
    elif not full and (storage or form):
        _check_copies(session, found, "storage" if storage else "format")
    new = vmid if vmid is not None else int(session.client().get("/cluster/nextid"))
    params = {
        "newid": new,
        "name" if found.type == "qemu" else "hostname": name,
        "full": True if full else False if linked else None,
        "storage": storage,
        "format": form,
        "snapname": snapshot,
        "pool": pool,
        "description": description,
    }
    upid = progress.finish(
        session, session.client().post(f"{found.path}/clone", params), f"cloning {found.shown}", no_wait=no_wait
    )
    made = GuestRef(new, found.node, found.type, name, "stopped")
    if start:
        progress.finish(session, session.client().post(f"{made.path}/status/start"), f"starting {made.shown}")
    if session.json:
        output.emit_json({"vmid": new, "name": name, "upid": upid})
    elif no_wait:
        output.line(str(upid))
    else:
        output.line(made.shown)
        _hint(session, made, running=found.status == "running" and snapshot is None)


def _check_template(session: Session, guest: GuestRef) -> None:
    """Raise WrongState that tells how to get one when a guest is no template."""
    if not session.client().get(f"{guest.path}/config").get("template"):
        raise WrongState(
            f"{guest.shown} is no template, and linked clones are made of those alone: leave --linked out, or first "
            f"bastide template{session.root_option} {guest.name or guest.vmid}"
        )


def _check_copies(session: Session, guest: GuestRef, key: str) -> None:
    """Raise InvalidParameter when what would be made is a linked clone, which stays where its base is."""
    if session.client().get(f"{guest.path}/config").get("template"):
        raise InvalidParameter(
            {key: f"{guest.shown} is a template, whose linked clones are like it and beside it: add --full"}
        )


def _hint(session: Session, made: GuestRef, *, running: bool) -> None:
    """Tell of a VM what a clone of it does not do by itself: renew what is inside, and write out what was in memory."""
    if made.type != "qemu":
        return
    config: dict[str, Any] = session.client().get(f"{made.path}/config")
    agent = str(config.get("agent", "0")).removeprefix("enabled=").startswith("1")
    if running and not agent:
        output.note("the other one ran and has no agent (agent=1): the clone's disks are as after a power cut")
    if not any("cloudinit" in str(value) for value in config.values()):
        output.note("it has no cloud-init: host name, machine-id and ssh host keys inside are still those of the other")
        output.note("renew them inside, before both are in one network: rm /etc/machine-id /etc/ssh/ssh_host_*_key*")
        output.note("systemd-machine-id-setup; ssh-keygen -A; hostnamectl hostname NAME")


def template(
    ctx: typer.Context,
    guest: Guest,
    *,
    disk: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Of a VM: make only that disk a base.", autocompletion=completing.disks_of_guest
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Make a stopped guest a template, of which clones are made at once. There is no way back.

    A template never runs again.
    """
    session: Session = ctx.obj
    found = session.guest(guest)
    if disk is not None and found.type != "qemu":
        raise InvalidParameter({"disk": f"{found.shown} is a container, of which all volumes become bases"})
    if session.interactive and not yes:
        question = f"Make {found.shown} a template? It can never be started again."
        if not typer.confirm(question, err=True):
            raise typer.Exit(1)
    answer = session.client().post(f"{found.path}/template", {"disk": disk} if disk else None)
    upid = progress.finish(session, answer, f"making {found.shown} a template")
    output.emit_json({"vmid": found.vmid, "upid": upid}, only_if=session.json)
    if not session.json:
        output.note(f"clones of it: bastide clone{session.root_option} {found.name or found.vmid} NAME")
