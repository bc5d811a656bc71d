"""`image`: what containers are made from. An image is a container template on a storage."""

from typing import Annotated, Any

import typer

from bastide.base.errors import InvalidParameter, NotFound, NotSupported
from bastide.cli import completing, image_servers, output, progress
from bastide.cli.output import image_name
from bastide.cli.session import Session

app = typer.Typer(help="List, build, pull and remove images.", no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(image_servers.app, name="server")

Storage = Annotated[str, typer.Option(metavar="STORAGE", help="Where to keep it.", autocompletion=completing.storages)]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the task's UPID and return.")]


@app.command("ls")
def list_images(ctx: typer.Context) -> None:
    """List the images."""
    session: Session = ctx.obj
    rows = known(session)
    if session.json:
        output.emit_json(rows)
        return
    columns = [output.Column("image"), output.Column("size", "right"), output.Column("made"), output.Column("volume")]
    cells = [(image_name(row), output.size(row.get("size")), output.moment(_made(row)), row["volid"]) for row in rows]
    output.table(columns, cells, empty=f"no images; make one with: bastide image build{session.root_option} debian-12")


def _made(row: dict[str, Any]) -> float | None:
    value = row.get("built") or row.get("ctime")
    return value if isinstance(value, (int, float)) else None


@app.command()
def build(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="debian-12 ...", show_default=False)],
    storage: Storage = "local",
    no_wait: NoWait = False,
) -> None:
    """Build an image from this host's own package sources."""
    session: Session = ctx.obj
    upid = session.client().post("/bastide/images/build", {"name": name, "storage": storage})
    _finish(session, upid, name, f"building {name}", no_wait=no_wait)


@app.command()
def pull(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="URL|ALIAS", help="https://... or a name such as alpine/3.20.", show_default=False)
    ],
    *,
    storage: Storage = "local",
    checksum: Annotated[str | None, typer.Option(metavar="HEX", help="What it must have.")] = None,
    algorithm: Annotated[str | None, typer.Option("--checksum-algorithm", metavar="NAME", help="sha256 ...")] = None,
    no_wait: NoWait = False,
) -> None:
    """Download an image, from a URL or by its name on an image server."""
    session: Session = ctx.obj
    params = {
        "source": source,
        "storage": storage,
        "checksum": checksum,
        "checksum-algorithm": algorithm or ("sha256" if checksum else None),
    }
    _finish(
        session, session.client().post("/bastide/images/pull", params), source, f"pulling {source}", no_wait=no_wait
    )


@app.command("rm")
def remove(
    ctx: typer.Context,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", autocompletion=completing.images, show_default=False)],
) -> None:
    """Delete images. Guests made from them stay."""
    from bastide.cli.storage import delete_volume  # noqa: PLC0415 - only this command needs it

    session: Session = ctx.obj
    done = []
    for image in images:
        volume = find(session, image)
        if volume is None:
            raise NotFound(f"image '{image}' does not exist: bastide image ls{session.root_option} shows those that do")
        delete_volume(session, volume)
        done.append(volume)
    output.emit_json(done, only_if=session.json)


def _finish(session: Session, upid: Any, name: str, title: str, *, no_wait: bool) -> None:
    progress.finish(session, upid, title, no_wait=no_wait)
    volume = None if no_wait else find(session, name)
    if session.json:
        output.emit_json({"upid": upid, "volid": volume})
    elif no_wait or volume:
        output.line(str(volume or upid))


def known(session: Session) -> list[dict[str, Any]]:
    """The images there are."""
    rows: list[dict[str, Any]] = session.client().get("/bastide/images")
    return rows


def find(session: Session, image: str) -> str | None:
    """The newest volume that a name means (`debian-12`, a file's name, a volume id, a URL); None when there is none."""
    if "://" in image:
        rows = [row for row in known(session) if image == row.get("source") or _file_of(image) == row.get("name")]
    else:
        rows = session.client().get("/bastide/images", name=image)
    return str(rows[0]["volid"]) if rows else None


def _file_of(url: str) -> str:
    return url.partition("?")[0].partition("#")[0].rpartition("/")[2]


def obtain(session: Session, image: str, storage: str) -> str:
    """The volume of an image, which is built or pulled when it is not there yet."""
    volume = find(session, image)
    if volume is not None:
        return volume
    if ":vztmpl/" in image:
        raise NotFound(f"volume '{image}' does not exist: bastide image ls{session.root_option} shows those that do")
    upid, title = _begin(session, image, storage)
    try:
        progress.follow(session, upid, title, leave=False)
    except KeyboardInterrupt:
        progress.cancel(session, upid)
        raise
    volume = find(session, image)
    if volume is None:
        raise NotFound(f"image '{image}' does not exist after its task; bastide task log '{upid}' tells what it did")
    return volume


def _begin(session: Session, image: str, storage: str) -> tuple[str, str]:
    """Start to build or to pull an image: its task and what to call that."""
    client, buildable = session.client(), ""
    if "://" not in image:
        try:
            return str(client.post("/bastide/images/build", {"name": image, "storage": storage})), f"building {image}"
        except NotSupported as error:
            buildable = str(error)
        except InvalidParameter as error:
            buildable = error.errors.get("name", "")
            if not buildable:
                raise
    try:
        return str(client.post("/bastide/images/pull", {"source": image, "storage": storage})), f"pulling {image}"
    except NotFound as error:
        raise NotFound(f"{error}\n{buildable}".strip()) from None
