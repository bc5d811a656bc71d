"""`storage`: where disks, images and backups are."""

from typing import Annotated, Any

import typer

from bastide.cli import completing, output, progress
from bastide.cli.configure import key_values
from bastide.cli.host import confirm
from bastide.cli.session import Session
from bastide.client.http import segment

app = typer.Typer(help="List, add and remove storages.", no_args_is_help=True, rich_markup_mode="rich")

StorageId = Annotated[
    str, typer.Argument(metavar="STORAGE", autocompletion=completing.storages, show_default=False, help="Its id.")
]


@app.command("ls")
def list_storages(ctx: typer.Context) -> None:
    """List the storages as they are configured."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get("/storage")
    if session.json:
        output.emit_json(rows)
        return
    columns = [
        output.Column("storage"),
        output.Column("type"),
        output.Column("content", wrap=True),
        output.Column("where"),
    ]
    output.table(
        columns,
        [(row["storage"], row.get("type"), row.get("content"), _where(row)) for row in rows],
        empty="no storages",
    )


def _where(row: dict[str, Any]) -> str:
    return str(row.get("path") or row.get("server") or row.get("vgname") or row.get("pool") or "")


@app.command()
def status(ctx: typer.Context) -> None:
    """Tell how full the storages are."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get(f"/nodes/{session.node()}/storage")
    if session.json:
        output.emit_json(rows)
        return
    right = [output.Column(title, "right") for title in ("used", "free", "size", "%")]
    columns = [output.Column("storage"), output.Column("type"), output.Column("status"), *right]
    output.table(columns, [_fullness(row) for row in rows], empty="no storages")


def _fullness(row: dict[str, Any]) -> list[Any]:
    used, total = row.get("used"), row.get("total")
    state = "disabled" if row.get("enabled") == 0 else "ok" if row.get("active", 1) else "fail"
    share = f"{used / total:.0%}" if used is not None and total else ""
    sizes = [output.size(value) for value in (used, row.get("avail"), total)]
    return [row["storage"], row.get("type"), state, *sizes, share]


@app.command()
def content(
    ctx: typer.Context,
    storage: StorageId,
    kind: Annotated[
        str | None, typer.Option("--content", metavar="TYPE", help="vztmpl, iso, rootdir, images, backup ...")
    ] = None,
) -> None:
    """List the volumes of a storage."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get(
        f"/nodes/{session.node()}/storage/{segment(storage)}/content", content=kind
    )
    if session.json:
        output.emit_json(rows)
        return
    columns = [
        output.Column("volume"),
        output.Column("content"),
        output.Column("size", "right"),
        output.Column("guest", "right"),
    ]
    cells = [(row["volid"], row.get("content"), output.size(row.get("size")), row.get("vmid")) for row in rows]
    output.table(columns, cells, empty="no volumes")


@app.command()
def add(
    ctx: typer.Context,
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="Its new id.", show_default=False)],
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="dir ...", show_default=False)],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="path=/srv/data content=rootdir,vztmpl ...")
    ] = None,
) -> None:
    """Add a storage."""
    session: Session = ctx.obj
    answer = session.client().post("/storage", {"storage": storage, "type": kind, **key_values(options or [])})
    output.emit_json(answer, only_if=session.json)


@app.command("rm")
def remove(
    ctx: typer.Context,
    storage: StorageId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget a storage. What lies on it stays there."""
    session: Session = ctx.obj
    if session.interactive and not yes:
        confirm(session, f"Forget the storage {storage}?")
    session.client().delete(f"/storage/{segment(storage)}")
    output.emit_json({"storage": storage}, only_if=session.json)


@app.command("rm-volume")
def remove_volume(
    ctx: typer.Context,
    volume: Annotated[
        str, typer.Argument(metavar="VOLUME", help="As `storage content` prints it.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a volume."""
    session: Session = ctx.obj
    if session.interactive and not yes:
        confirm(session, f"Delete {volume}?")
    delete_volume(session, volume)
    output.emit_json([volume], only_if=session.json)


def delete_volume(session: Session, volume: str) -> None:
    """Delete a volume and wait until it is gone."""
    storage = volume.partition(":")[0]
    path = f"/nodes/{session.node()}/storage/{segment(storage)}/content/{segment(volume)}"
    progress.finish(session, session.client().delete(path), f"deleting {volume}")
