"""`snapshot` and `rollback`: guests' states of earlier."""

from typing import Annotated, Any

import typer

from bastide.base.errors import NotFound, NotSupported
from bastide.cli import completing, output, progress
from bastide.cli.session import GuestRef, Session
from bastide.client.http import segment

Guest = Annotated[
    str, typer.Argument(metavar="GUEST", help="Name or id.", autocompletion=completing.guests, show_default=False)
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the task's UPID and return.")]

_CURRENT = "current"


def snapshot(
    ctx: typer.Context,
    guest: Guest,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Its name: a letter, then letters, digits, - or _. Without one, the snapshots are listed.",
            autocompletion=completing.snapshots,
            show_default=False,
        ),
    ] = None,
    *,
    memory: Annotated[bool, typer.Option("--memory", help="Of a running VM: with its memory.")] = False,
    description: Annotated[str | None, typer.Option("--description", "-d", metavar="TEXT", help="What for.")] = None,
    config: Annotated[bool, typer.Option("--config", help="Print the configuration of then.")] = False,
    edit: Annotated[bool, typer.Option("--edit", help="Give one that is there the --description.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --delete: forget it even when a disk's state cannot be deleted.")
    ] = False,
    no_wait: NoWait = False,
) -> None:
    """Keep a guest's present state under a name; list those that are kept.

    A running guest is held for a moment, and goes on. See also rollback.
    """
    session: Session = ctx.obj
    if sum((config, edit, delete)) > 1 or (memory and (config or edit or delete)):
        raise typer.BadParameter("one thing at a time: --config, --edit, --delete, or a new snapshot")
    if edit and description is None:
        raise typer.BadParameter("--edit needs the new --description; an empty one removes it")
    if name is None:
        if memory or description or config or edit or delete:
            raise typer.BadParameter("which snapshot? give its NAME")
        _list(session, session.guest(guest))
        return
    found = session.guest(guest)
    path = f"{found.path}/snapshot/{segment(name)}"
    if config or edit or delete:
        check_name(session, found, name)
    if config:
        _print_config(session, path)
    elif edit:
        session.client().put(f"{path}/config", {"description": description})
        output.emit_json({"vmid": found.vmid, "snapshot": name}, only_if=session.json)
    elif delete:
        answer = session.client().delete(path, force=force or None)
        _finish(session, found, name, answer, f"deleting {name} of {found.shown}", no_wait=no_wait)
    else:
        _take(session, found, name, memory=memory, description=description, no_wait=no_wait)


def rollback(
    ctx: typer.Context,
    guest: Guest,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The snapshot.", autocompletion=completing.snapshots, show_default=False),
    ],
    *,
    start: Annotated[
        bool, typer.Option("--start", help="Start it then. One with memory runs on where it was in any case.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    no_wait: NoWait = False,
) -> None:
    """Give a guest the state that it had.

    A running guest is stopped for it. What it has become since is lost, unless another snapshot keeps it.
    """
    session: Session = ctx.obj
    found = session.guest(guest)
    check_name(session, found, name)
    if session.interactive and not yes:
        question = f"Take {found.shown} back to {name}? What has changed since is lost."
        if not typer.confirm(question, err=True):
            raise typer.Exit(1)
    answer = session.client().post(f"{found.path}/snapshot/{segment(name)}/rollback", {"start": start or None})
    _finish(session, found, name, answer, f"taking {found.shown} back to {name}", no_wait=no_wait)


def _take(
    session: Session, guest: GuestRef, name: str, *, memory: bool, description: str | None, no_wait: bool
) -> None:
    if memory and guest.type != "qemu":
        raise NotSupported(f"{guest.shown} is a container: its memory cannot be kept; leave --memory out")
    if memory and guest.status != "running":
        output.note(f"{guest.shown} does not run: there is no memory to keep")
    params = {"snapname": name, "description": description, "vmstate": memory or None}
    answer = session.client().post(f"{guest.path}/snapshot", params)
    _finish(session, guest, name, answer, f"keeping {name} of {guest.shown}", no_wait=no_wait)


def _finish(session: Session, guest: GuestRef, name: str, answer: Any, title: str, *, no_wait: bool) -> None:
    upid = progress.finish(session, answer, title, no_wait=no_wait)
    if session.json:
        output.emit_json({"vmid": guest.vmid, "snapshot": name, "upid": upid})
    elif no_wait and upid is not None:
        output.line(upid)


def _print_config(session: Session, path: str) -> None:
    values: dict[str, Any] = session.client().get(f"{path}/config")
    if session.json:
        output.emit_json(values)
        return
    output.pairs({f"{key}:": value for key, value in sorted(values.items())})


def _list(session: Session, guest: GuestRef) -> None:
    rows: list[dict[str, Any]] = session.client().get(f"{guest.path}/snapshot")
    if session.json:
        output.emit_json(rows)
        return
    if not any(row["name"] != _CURRENT for row in rows):
        output.note(
            f"{guest.shown} has no snapshots; take one with: bastide snapshot{session.root_option} "
            f"{guest.name or guest.vmid} NAME"
        )
        return
    columns = [
        output.Column("snapshot"),
        output.Column("taken"),
        output.Column("memory"),
        output.Column("description", wrap=True),
    ]
    output.table(columns, [_cells(prefix, row) for prefix, row in tree(rows)])


def _cells(prefix: str, row: dict[str, Any]) -> list[str]:
    if row["name"] == _CURRENT:
        return [f"{prefix}{_CURRENT}", "", "", f"how it is now, {'running' if row.get('running') else 'stopped'}"]
    described = str(row.get("description") or "").strip().partition("\n")[0]
    return [
        f"{prefix}{row['name']}",
        output.moment(row.get("snaptime")),
        "yes" if row.get("vmstate") else "",
        described,
    ]


def tree(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The rows with lines that lead from each to what came of it, oldest first, the present state last."""
    names = {row["name"] for row in rows}
    children: dict[str | None, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["name"] == _CURRENT, row.get("snaptime") or 0)):
        parent = row.get("parent")
        children.setdefault(parent if parent in names else None, []).append(row)
    drawn: list[tuple[str, dict[str, Any]]] = []

    def draw(parent: str | None, indent: str) -> None:
        below = children.pop(parent, [])
        for row in below:
            last = row is below[-1]
            drawn.append(("" if parent is None else f"{indent}{'└─' if last else '├─'} ", row))
            draw(row["name"], "" if parent is None else f"{indent}{'   ' if last else '│  '}")

    draw(None, "")
    for name in list(children):  # parents that lead in a circle
        draw(name, "")
    return drawn


def check_name(session: Session, guest: GuestRef, name: str) -> None:
    """Raise NotFound that tells which snapshots there are when one is not."""
    names = [row["name"] for row in session.client().get(f"{guest.path}/snapshot") if row["name"] != _CURRENT]
    if name not in names:
        known = f"it has {', '.join(names)}" if names else "it has none"
        raise NotFound(f"snapshot '{name}' of {guest.shown} does not exist: {known}")
