"""`storage rescan`: guests' records against what lies on the storages."""

from typing import Annotated, Any

import typer

from bastide.cli import completing, output
from bastide.cli.session import Session


def rescan(
    ctx: typer.Context,
    guest: Annotated[
        str | None,
        typer.Argument(metavar="GUEST", help="Name or id; without one, all.", autocompletion=completing.guests),
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would change.")] = False,
) -> None:
    """Find volumes that belong to a guest which does not name them, and correct disks' sizes.

    What is found becomes unused0, unused1 ... of its guest: `bastide set` attaches it again, or removes it.
    """
    session: Session = ctx.obj
    found = session.guest(guest) if guest is not None else None
    rows: list[dict[str, Any]] = session.client().post(
        "/bastide/rescan", {"vmid": found.vmid if found is not None else None, "dry-run": int(dry_run)}
    )
    if session.json:
        output.emit_json(rows)
        return
    columns = [output.Column("guest", "right"), output.Column("key"), output.Column("volume"), output.Column("change")]
    lines = [[row.get("vmid"), row.get("key"), row.get("volume"), _change(row)] for row in rows]
    output.table(columns, lines, empty="every volume is named, and every size is right")


def _change(row: dict[str, Any]) -> str:
    if row["what"] == "problem":
        return f"not looked at: {row['problem']}"
    if row["what"] == "unused":
        return "was named by nobody"
    before = output.size(row["before"]) if row.get("before") is not None else "no size"
    return f"{before} is {output.size(row['after'])}"
