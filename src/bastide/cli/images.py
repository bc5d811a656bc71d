"""`image`: what guests are made from. An image is a container's template or a VM's disk image on a storage."""

from typing import Annotated, Any

import typer

from bastide.base.errors import InvalidParameter, NotFound, NotSupported
from bastide.cli import completing, image_servers, output, progress
from bastide.cli.output import image_name
from bastide.cli.session import Session

app = typer.Typer(help="List, build, pull and remove images.", no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(image_servers.app, name="server")

Storage = Annotated[str, typer.Option(metavar="STORAGE", help="Where to keep it.", autocompletion=completing.storages)]
Vm = Annotated[bool, typer.Option("--vm", help="For a VM instead of a container.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the task's UPID and return.")]


@app.command("ls")
def list_images(ctx: typer.Context) -> None:
    """List the images."""
    session: Session = ctx.obj
    rows = known(session)
    if session.json:
        output.emit_json(rows)
        return
    columns = [
        output.Column("image"),
        output.Column("kind"),
        output.Column("size", "right"),
        output.Column("made"),
        output.Column("volume"),
    ]
    cells = [
        (
            image_name(row),
            "VM" if row.get("type") == "qemu" else "CT",
            output.size(row.get("size")),
            output.moment(_made(row)),
            row["volid"],
        )
        for row in rows
    ]
    output.table(columns, cells, empty=f"no images; make one with: bastide image build{session.root_option} debian-12")


def _made(row: dict[str, Any]) -> float | None:
    value = row.get("built") or row.get("ctime")
    return value if isinstance(value, (int, float)) else None


@app.command()
def build(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="debian-12 ...", show_default=False)],
    *,
    vm: Vm = False,
    storage: Storage = "local",
    force: Annotated[bool, typer.Option("--force", help="Even when there is one of the last days.")] = False,
    no_wait: NoWait = False,
) -> None:
    """Build an image from this host's own package sources.

    With --vm a disk image with cloud-init, otherwise a container's template; debian-12-cloud is a template with it.
    """
    session: Session = ctx.obj
    params = {"name": name, "storage": storage, "kind": _kind(vm), "force": force or None}
    upid = session.client().post("/bastide/images/build", params)
    _finish(session, upid, name, f"building {name}", vm=vm, no_wait=no_wait)


@app.command()
def pull(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="URL|ALIAS", help="https://... or a name such as alpine/3.20.", show_default=False)
    ],
    *,
    vm: Vm = False,
    storage: Storage = "local",
    checksum: Annotated[str | None, typer.Option(metavar="HEX", help="What it must have.")] = None,
    algorithm: Annotated[str | None, typer.Option("--checksum-algorithm", metavar="NAME", help="sha256 ...")] = None,
    no_wait: NoWait = False,
) -> None:
    """Download an image, from a URL or by its name on an image server.

    A disk image may be qcow2, raw, vmdk, vdi or vhdx and compressed; the name in a URL tells it from a template.
    """
    session: Session = ctx.obj
    params = {
        "source": source,
        "kind": _kind(vm),
        "storage": storage,
        "checksum": checksum,
        "checksum-algorithm": algorithm or ("sha256" if checksum else None),
    }
    upid = session.client().post("/bastide/images/pull", params)
    _finish(session, upid, source, f"pulling {source}", vm=vm, no_wait=no_wait)


@app.command("rm")
def remove(
    ctx: typer.Context,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", autocompletion=completing.images, show_default=False)],
    vm: Vm = False,
) -> None:
    """Delete images. Guests made from them stay.

    A name that means a container's template and a VM's disk image is the template's, unless --vm is given.
    """
    from bastide.cli.storage import delete_volume  # noqa: PLC0415 - only this command needs it

    session: Session = ctx.obj
    done = []
    for image in images:
        volume = find(session, image, _kind(vm))
        if volume is None:
            raise NotFound(f"image '{image}' does not exist: bastide image ls{session.root_option} shows those that do")
        delete_volume(session, volume)
        done.append(volume)
    output.emit_json(done, only_if=session.json)


def _kind(vm: bool) -> str | None:
    return "qemu" if vm else None


def _finish(session: Session, upid: Any, name: str, title: str, *, vm: bool, no_wait: bool) -> None:
    progress.finish(session, upid, title, no_wait=no_wait)
    volume = None if no_wait else find(session, name, _kind(vm))
    if session.json:
        output.emit_json({"upid": upid, "volid": volume})
    elif no_wait or volume:
        output.line(str(volume or upid))


def known(session: Session) -> list[dict[str, Any]]:
    """The images there are."""
    rows: list[dict[str, Any]] = session.client().get("/bastide/images")
    return rows


def find(session: Session, image: str, kind: str | None = None) -> str | None:
    """The newest volume that a name means (`debian-12`, a file's name, a volume id, a URL); None when there is none.

    `kind` is `lxc` or `qemu`, the kind of guest that it is for; without one, a container's comes first.
    """
    if "://" in image:
        plain = image.partition("?")[0].partition("#")[0]
        rows = [
            row
            for row in known(session)
            if (row.get("source") in (image, plain) or row.get("name") == plain.rpartition("/")[2])
            and kind in (None, row.get("type", kind))
        ]
    else:
        rows = session.client().get("/bastide/images", name=image, type=kind)
    return str(rows[0]["volid"]) if rows else None


def obtain(session: Session, image: str, storage: str, *, vm: bool = False) -> str:
    """The volume of an image, which is built or pulled when it is not there yet; a VM's disk image with `vm`."""
    kind = "qemu" if vm else "lxc"
    volume = find(session, image, kind)
    if volume is not None:
        return volume
    if ":vztmpl/" in image or ":import/" in image:
        raise NotFound(f"volume '{image}' does not exist: bastide image ls{session.root_option} shows those that do")
    upid, title = _begin(session, image, storage, _kind(vm))
    try:
        progress.follow(session, upid, title, leave=False)
    except KeyboardInterrupt:
        progress.cancel(session, upid)
        raise
    volume = find(session, image, kind)
    if volume is None:
        raise NotFound(f"image '{image}' does not exist after its task; bastide task log '{upid}' tells what it did")
    return volume


def _begin(session: Session, image: str, storage: str, kind: str | None) -> tuple[str, str]:
    """Start to build or to pull an image: its task and what to call that."""
    client, buildable = session.client(), ""
    wanted = {"storage": storage, "kind": kind}
    if "://" not in image:
        try:
            return str(client.post("/bastide/images/build", {"name": image, **wanted})), f"building {image}"
        except NotSupported as error:
            buildable = str(error)
        except InvalidParameter as error:
            buildable = error.errors.get("name", "")
            if not buildable:
                raise
    try:
        return str(client.post("/bastide/images/pull", {"source": image, **wanted})), f"pulling {image}"
    except NotFound as error:
        raise NotFound(f"{error}\n{buildable}".strip()) from None
