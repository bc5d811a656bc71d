"""`backups rm` and `backups set`: what becomes of backups that are there."""

from typing import Annotated, Any

import typer

from bastide.cli import completing, output, progress
from bastide.cli.backup_names import stored
from bastide.cli.host import confirm
from bastide.cli.session import Session
from bastide.client.http import segment

_HELP = "As ls shows it, or latest:GUEST."


def remove(
    ctx: typer.Context,
    backups: Annotated[
        list[str],
        typer.Argument(metavar="BACKUP...", help=_HELP, autocompletion=completing.backups, show_default=False),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove backups, with their logs and notes. A protected one stays: see set."""
    session: Session = ctx.obj
    volids = [stored(session, name) for name in backups]
    if session.interactive and not yes:
        confirm(session, f"Remove {', '.join(volids)}?")
    for volid in volids:
        progress.finish(session, session.client().delete(_path(session, volid)), f"removing {volid}")
    output.emit_json(volids, only_if=session.json)


def change(
    ctx: typer.Context,
    backup: Annotated[
        str, typer.Argument(metavar="BACKUP", help=_HELP, autocompletion=completing.backups, show_default=False)
    ],
    *,
    notes: Annotated[str | None, typer.Option(metavar="TEXT", help="What for.")] = None,
    protected: Annotated[
        bool | None, typer.Option("--protected/--no-protected", help="It cannot be removed, nor pruned.")
    ] = None,
) -> None:
    """Change a backup's notes, or protect it."""
    session: Session = ctx.obj
    if notes is None and protected is None:
        raise typer.BadParameter("what is to be changed? give --notes, --protected or --no-protected")
    volid = stored(session, backup)
    params: dict[str, Any] = {"notes": notes, "protected": protected}
    session.client().put(_path(session, volid), params)
    output.emit_json({"backup": volid}, only_if=session.json)


def _path(session: Session, volid: str) -> str:
    return f"/nodes/{session.node()}/storage/{segment(volid.partition(':')[0])}/content/{segment(volid)}"
