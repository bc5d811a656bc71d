"""`push` and `pull`: files into a guest and out of it, streamed. Single files; a folder goes through `exec` and tar."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from bastide.base.errors import AlreadyExists, HostFailure, InvalidParameter
from bastide.cli import completing, output
from bastide.cli.progress import ProgressLine, counted
from bastide.cli.session import GuestRef, Session
from bastide.client.http import read_chunks

_FOLDER = "only single files are copied; for a folder: tar -C {0} -c . | bastide exec GUEST -- tar -C /PATH -x"


def push(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="On this machine; - is standard input.", show_default=False)
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="GUEST:/PATH",
            help="A path that ends with / keeps the file's name.",
            autocompletion=completing.guests,
            show_default=False,
        ),
    ],
    *,
    mode: Annotated[str | None, typer.Option(metavar="OCTAL", help="Permissions. Default: the file's.")] = None,
    uid: Annotated[int | None, typer.Option(metavar="N", help="Owner in the guest. Default: 0.")] = None,
    gid: Annotated[int | None, typer.Option(metavar="N", help="Group in the guest. Default: 0.")] = None,
) -> None:
    """Copy a file into a guest."""
    session: Session = ctx.obj
    guest, path = _place(session, target)
    with _opened(source) as (file, size, own_mode):
        if path.endswith("/"):
            path += Path(source).name
        params = {"path": path, "mode": mode or own_mode, "uid": uid, "gid": gid}
        with ProgressLine(f"push {path}") as progress:
            chunks = counted(read_chunks(file, size), size, progress)
            session.client().upload(f"/bastide/guests/{guest.vmid}/file", params, chunks, size)
    if session.json:
        output.emit_json({"guest": guest.vmid, "path": path})


def pull(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="GUEST:/PATH", help="In the guest.", autocompletion=completing.guests, show_default=False
        ),
    ],
    target: Annotated[str, typer.Argument(metavar="FILE", help="Or a folder; - is standard output.")] = ".",
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")] = False,
) -> None:
    """Copy a file out of a guest."""
    session: Session = ctx.obj
    guest, path = _place(session, source)
    place = Path(target)
    if target != "-" and place.is_dir():
        place /= Path(path).name
    if target != "-" and place.exists() and not force:
        raise AlreadyExists(f"{place} already exists: add --force to replace it")
    with (
        session.client().download(f"/bastide/guests/{guest.vmid}/file", {"path": path}) as body,
        ProgressLine(f"pull {path}") as progress,
    ):
        passing = counted(body.chunks, body.size, progress)
        if target == "-":
            for chunk in passing:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        else:
            save(place, passing)
    if session.json and target != "-":
        output.emit_json({"guest": guest.vmid, "file": str(place)})


def _place(session: Session, text: str) -> tuple[GuestRef, str]:
    """The guest and the path that `GUEST:/PATH` names."""
    name, colon, path = text.partition(":")
    if not colon or not name or not path.startswith("/"):
        raise InvalidParameter({text[:60]: "write it as GUEST:/PATH"})
    return session.guest(name), path


@contextmanager
def _opened(source: str) -> Iterator[tuple[BinaryIO, int | None, str | None]]:
    """The file to read, its size and its permissions when it has them."""
    if source == "-":
        yield sys.stdin.buffer, None, None
        return
    try:
        with open(source, "rb") as file:
            found = os.fstat(file.fileno())
            mode = f"0{stat.S_IMODE(found.st_mode) & 0o777:03o}"
            yield file, found.st_size if stat.S_ISREG(found.st_mode) else None, mode
    except IsADirectoryError:
        raise InvalidParameter({source: _FOLDER.format(source)}) from None
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise InvalidParameter({source: (error.strerror or "cannot be read").lower()}) from None


def save(place: Path, chunks: Iterator[bytes]) -> None:
    """Write a file whole or not at all: beside its place first."""
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
        part.replace(place)
    except OSError as error:
        raise HostFailure(f"{place}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
