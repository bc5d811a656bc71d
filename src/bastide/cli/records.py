"""`record`: records of the host's state that cannot be read."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bastide.base.errors import InvalidParameter
from bastide.cli import output
from bastide.cli.session import Session

app = typer.Typer(
    help="Records of the state that cannot be read: list, show, repair, remove.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Key = Annotated[str, typer.Argument(metavar="KEY", help="As `record list` prints it: `guest/100`.", show_default=False)]
_PATH = "/bastide/records"


@app.command("list")
def list_records(ctx: typer.Context) -> None:
    """List what is set aside, with the reason. Everything else of the host works."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get(_PATH)
    if session.json:
        output.emit_json(rows)
        return
    columns = [output.Column("record"), output.Column("why it cannot be read", wrap=True)]
    output.table(columns, [(row["key"], row["reason"]) for row in rows], empty="all records can be read")


@app.command()
def show(ctx: typer.Context, key: Key) -> None:
    """Print a record's text: keep it, mend the copy, and give that to `repair`."""
    session: Session = ctx.obj
    found: dict[str, Any] = session.client().get(f"{_PATH}/record", key=key)
    if session.json:
        output.emit_json(found)
    else:
        output.line(found["value"])


@app.command()
def repair(
    ctx: typer.Context,
    key: Key,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The whole new text; `-` is standard input.")] = "-",
) -> None:
    """Write a record anew. A text that cannot be read either is refused, and the old one stays."""
    session: Session = ctx.obj
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except UnicodeDecodeError:
        raise InvalidParameter({"FILE": "is not text in UTF-8"}) from None
    session.client().put(f"{_PATH}/record", {"key": key, "value": text.strip()})
    output.emit_json({"key": key}, only_if=session.json)


@app.command()
def remove(
    ctx: typer.Context,
    key: Key,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a record. What it was about is forgotten; a guest's volumes stay on their storages."""
    session: Session = ctx.obj
    if not yes:
        typer.confirm(f"Forget {key}, which cannot be read?", abort=True)
    session.client().delete(f"{_PATH}/record", key=key)
    output.emit_json({"key": key}, only_if=session.json)
