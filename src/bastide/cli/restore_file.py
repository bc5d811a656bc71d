"""`restore-file`: one file or folder out of a backup."""

import base64
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bastide.base.errors import AlreadyExists
from bastide.cli import completing, output
from bastide.cli.backup_names import stored
from bastide.cli.files import save
from bastide.cli.progress import ProgressLine, counted
from bastide.cli.session import Session
from bastide.client.http import segment

_SUFFIXES = {"application/x-tar": ".tar", "application/zip": ".zip"}


def restore_file(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="BACKUP",
            help="As backups lists it, or latest:GUEST.",
            autocompletion=completing.backups,
            show_default=False,
        ),
    ],
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="In the guest; one that ends with / is listed: /etc/")
    ] = "/",
    target: Annotated[str, typer.Argument(metavar="FILE", help="Or a folder; - is standard output.")] = ".",
    *,
    zipped: Annotated[bool, typer.Option("--zip", help="A folder comes as ZIP, and not as tar.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")] = False,
) -> None:
    """Fetch a file or a folder out of a backup, or look into it. The guest is left alone.

    A container's paths begin at its root; a VM's with the file system, which / lists: /scsi0-part1/etc/hostname.
    """
    session: Session = ctx.obj
    volid = stored(session, source)
    branch = f"/nodes/{session.node()}/storage/{segment(volid.partition(':')[0])}/file-restore"
    params: dict[str, Any] = {"volume": volid, "filepath": base64.b64encode(path.encode()).decode()}
    if path.endswith("/"):
        bare = "no file system that can be read" if path == "/" else "an empty folder"
        _list(session, session.client().get(f"{branch}/list", **params), bare)
        return
    with session.client().download(f"{branch}/download", {**params, "tar": not zipped}) as body:
        suffix = _SUFFIXES.get(body.media_type.partition(";")[0], "")
        place = Path(target)
        if target != "-" and place.is_dir():
            place /= path.rpartition("/")[2] + suffix
        if target != "-" and place.exists() and not force:
            raise AlreadyExists(f"{place} already exists: add --force to replace it")
        with ProgressLine(f"restore-file {path}") as progress:
            passing = counted(body.chunks, body.size, progress)
            if target == "-":
                for chunk in passing:
                    sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            else:
                save(place, passing)
    if target == "-":
        return
    if session.json:
        output.emit_json({"backup": volid, "path": path, "file": str(place)})
    else:
        output.line(str(place))


def _list(session: Session, rows: list[dict[str, Any]], bare: str) -> None:
    if session.json:
        output.emit_json([row | {"filepath": base64.b64decode(row["filepath"]).decode()} for row in rows])
        return
    columns = [output.Column("name"), output.Column("type"), output.Column("size", "right"), output.Column("changed")]
    cells = [
        (
            row["text"] + ("" if row["leaf"] else "/"),
            _KINDS.get(row["type"], row["type"]),
            output.size(row["size"]) if row["type"] == "f" and "size" in row else "",
            output.moment(row.get("mtime")),
        )
        for row in rows
    ]
    output.table(columns, cells, empty=bare)


_KINDS = {"d": "folder", "f": "file", "l": "link", "h": "hard link", "v": "file system", "p": "pipe"} | {
    "b": "block device",
    "c": "character device",
}
