"""`task`: what was done and what is being done."""

import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from bastide.base.ids import Upid
from bastide.cli import output, progress
from bastide.cli.session import Session

app = typer.Typer(help="List, follow and stop tasks.", no_args_is_help=True, rich_markup_mode="rich")

UpidArgument = Annotated[str, typer.Argument(metavar="UPID", help="As `task ls` prints it.", show_default=False)]


class Source(StrEnum):
    """Which tasks."""

    ALL = "all"
    ACTIVE = "active"
    ARCHIVE = "archive"


@app.command("ls")
def list_tasks(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(metavar="N", help="At most so many, newest first.")] = 20,
    guest: Annotated[str | None, typer.Option(metavar="GUEST", help="Only those on a guest.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only those that failed.")] = False,
    source: Annotated[Source, typer.Option(help="Running, ended or all.")] = Source.ALL,
) -> None:
    """List tasks, newest first."""
    session: Session = ctx.obj
    vmid = session.guest(guest).vmid if guest else None
    rows: list[dict[str, Any]] = session.client().get(
        f"/nodes/{session.node()}/tasks", limit=limit, vmid=vmid, errors=errors or None, source=source.value
    )
    if session.json:
        output.emit_json(rows)
        return
    columns = [output.Column(title) for title in ("began", "took", "what", "on", "by", "end")]
    output.table([*columns, output.Column("upid")], [_cells(row) for row in rows], empty="no tasks")


def _cells(row: dict[str, Any]) -> list[Any]:
    end = row.get("endtime")
    took = output.duration((end or time.time()) - row["starttime"]) or "0s"
    status = row.get("status") or "running"
    return [
        output.moment(row["starttime"]), took, row.get("type"), row.get("id"), row.get("user"),
        "ok" if status == "OK" else status[:40], row["upid"],
    ]  # fmt: skip


@app.command()
def log(
    ctx: typer.Context,
    upid: UpidArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the task ends; its failure is ours.")] = False,
) -> None:
    """Print a task's log."""
    session: Session = ctx.obj
    lines: list[str] = []

    def seen(text: str) -> None:
        lines.append(text)
        if not session.json:
            output.line(text)

    if follow:
        status = progress.watch(session, upid, seen, lambda: None)
        if session.json:
            output.emit_json(lines)
        progress.raise_for(status, [])
        return
    progress.read_log(session, upid, seen)
    if session.json:
        output.emit_json(lines)


@app.command()
def stop(ctx: typer.Context, upid: UpidArgument) -> None:
    """Stop a running task; it undoes what it made."""
    session: Session = ctx.obj
    Upid.parse(upid)
    progress.cancel(session, upid)
    output.emit_json({"upid": upid}, only_if=session.json)


@app.command()
def status(ctx: typer.Context, upid: UpidArgument) -> None:
    """Print how a task stands. Ends with 0 whatever its end was."""
    session: Session = ctx.obj
    row: dict[str, Any] = session.client().get(f"{progress.task_path(upid)}/status")
    if session.json:
        output.emit_json(row)
        return
    shown: dict[str, Any] = {key: row[key] for key in ("upid", "type", "id", "user", "node", "pid") if key in row}
    shown["began"] = output.moment(row.get("starttime"))
    shown["status"] = row.get("status")
    if "exitstatus" in row:
        shown["end"] = row["exitstatus"]
    output.pairs(shown)
