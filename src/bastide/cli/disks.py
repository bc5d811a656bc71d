"""`disks`: the machine's own disks: what they are, how they do, and making them storages."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from bastide.base.errors import InvalidParameter, NotFound, NotSupported
from bastide.cli import completing, output, progress
from bastide.cli.host import confirm
from bastide.cli.session import Session
from bastide.client.http import segment

app = typer.Typer(
    help="List the machine's disks, look at their health, make them storages.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Disk = Annotated[
    str,
    typer.Argument(metavar="DISK", help="/dev/sdb, or sdb.", autocompletion=completing.host_disks, show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the task's UPID and return.")]


class Kind(StrEnum):
    """What disks are made."""

    DIR = "dir"
    LVM = "lvm"
    LVMTHIN = "lvmthin"
    ZFS = "zfs"


_BRANCH = {Kind.DIR: "directory", Kind.LVM: "lvm", Kind.LVMTHIN: "lvmthin", Kind.ZFS: "zfs"}


@app.command("ls")
def list_disks(
    ctx: typer.Context,
    *,
    partitions: Annotated[bool, typer.Option("--partitions", help="Also their partitions.")] = False,
    unused: Annotated[bool, typer.Option("--unused", help="Only those that nothing is on.")] = False,
    health: Annotated[bool, typer.Option("--health/--no-health", help="Ask them how they do.")] = True,
) -> None:
    """List the machine's disks and what is on them."""
    session: Session = ctx.obj
    rows = _rows(session, partitions=partitions, unused=unused, health=health)
    if session.json:
        output.emit_json(rows)
        return
    columns = [
        output.Column("disk"),
        output.Column("type"),
        output.Column("size", "right"),
        output.Column("used as"),
        output.Column("health"),
        output.Column("model"),
        output.Column("serial"),
    ]
    empty = "no disk is unused" if unused else "this machine shows no disks of its own"
    output.table(columns, [_cells(row) for row in rows], empty=empty)


def _rows(session: Session, *, partitions: bool, unused: bool = False, health: bool = False) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = session.client().get(
        f"/nodes/{session.node()}/disks/list",
        **{"include-partitions": partitions or None, "type": "unused" if unused else None},
        skipsmart=not health or None,
    )
    return rows


def _cells(row: dict[str, Any]) -> list[Any]:
    used = str(row.get("used") or "")
    if row.get("mounted") and used != "mounted":
        used = f"{used} (mounted)"
    told = [str(row.get(key) or "") for key in ("health", "model", "serial")]
    name = f"  {row['devpath']}" if row.get("parent") else row["devpath"]
    return [
        name,
        row.get("type"),
        output.size(row.get("size")),
        used or "-",
        *(t if t.lower() != "unknown" else "" for t in told),
    ]


@app.command()
def smart(ctx: typer.Context, disk: Disk) -> None:
    """Tell what a disk says of its own health."""
    session: Session = ctx.obj
    found: dict[str, Any] = session.client().get(f"/nodes/{session.node()}/disks/smart", disk=_path(disk))
    if session.json:
        output.emit_json(found)
        return
    output.line(f"health  {found.get('health')}")
    if found.get("attributes") is None:
        for text in str(found.get("text") or "").splitlines():
            output.line(text)
        return
    numbers = [output.Column(title, "right") for title in ("value", "worst", "threshold")]
    columns = [output.Column("id", "right"), output.Column("attribute"), *numbers, output.Column("raw", "right")]
    keys = ("id", "name", "value", "worst", "threshold", "raw", "fail")
    output.table(
        [*columns, output.Column("fails")],
        [[str(row.get(key, "")).strip() for key in keys] for row in found["attributes"]],
    )


@app.command()
def init(ctx: typer.Context, disk: Disk, no_wait: NoWait = False) -> None:
    """Give an unused disk an empty partition table (GPT)."""
    session: Session = ctx.obj
    path = _path(disk)
    answer = session.client().post(f"/nodes/{session.node()}/disks/initgpt", {"disk": path})
    _finish(session, answer, {"disk": path}, f"writing a partition table to {path}", no_wait=no_wait)


@app.command()
def wipe(ctx: typer.Context, disk: Disk, yes: Yes = False, no_wait: NoWait = False) -> None:
    """Make a disk or a partition empty. What is on it is lost.

    One that is in use is refused: mounted, swapped to, of a volume group, a pool or a guest.
    """
    session: Session = ctx.obj
    path = _path(disk)
    if not yes:
        confirm(session, f"Wipe {_described(session, path)}? Everything on it is lost.")
    answer = session.client().put(f"/nodes/{session.node()}/disks/wipedisk", {"disk": path})
    _finish(session, answer, {"disk": path}, f"wiping {path}", no_wait=no_wait)


@app.command()
def make(
    ctx: typer.Context,
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="dir, lvm, lvmthin or zfs.", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, and the storage's.", show_default=False)],
    disks: Annotated[
        list[str],
        typer.Argument(
            metavar="DISK...",
            help="/dev/sdb; a pool may have several.",
            autocompletion=completing.host_disks,
            show_default=False,
        ),
    ],
    *,
    filesystem: Annotated[
        str | None, typer.Option("--filesystem", metavar="NAME", help="Of a dir: ext4 or xfs. Default: ext4.")
    ] = None,
    raid: Annotated[
        str | None, typer.Option("--raid", metavar="LEVEL", help="Of a pool: single, mirror, raid10, raidz, raidz2 ...")
    ] = None,
    compression: Annotated[
        str | None, typer.Option("--compression", metavar="NAME", help="Of a pool: on, off, lz4, zstd ...")
    ] = None,
    no_storage: Annotated[bool, typer.Option("--no-storage", help="Do not add it as a storage.")] = False,
    yes: Yes = False,
    no_wait: NoWait = False,
) -> None:
    """Make a storage of empty disks: a folder, an LVM volume group, a thin pool or a ZFS pool."""
    session: Session = ctx.obj
    paths = [_path(disk) for disk in disks]
    params = {"name": name, "add_storage": not no_storage, **_shape(kind, paths, filesystem, raid, compression)}
    if session.interactive and not yes:
        described = ", ".join(_described(session, path) for path in paths)
        confirm(session, f"Make {described} the storage {name}?")
    answer = session.client().post(f"/nodes/{session.node()}/disks/{_BRANCH[kind]}", params)
    _finish(session, answer, {"storage": name}, f"making {name} of {', '.join(paths)}", no_wait=no_wait)


def _shape(
    kind: Kind, paths: list[str], filesystem: str | None, raid: str | None, compression: str | None
) -> dict[str, Any]:
    """The parameters of one kind. Raises InvalidParameter for those of another."""
    if filesystem is not None and kind is not Kind.DIR:
        raise InvalidParameter({"filesystem": f"{kind.value} has none; only dir does"})
    if (raid is not None or compression is not None) and kind is not Kind.ZFS:
        raise InvalidParameter({"raid" if raid else "compression": f"{kind.value} has none; only zfs does"})
    if kind is Kind.ZFS:
        level = raid or ("single" if len(paths) == 1 else None)
        if level is None:
            raise InvalidParameter({"raid": f"how shall {len(paths)} disks work together? --raid mirror, raidz ..."})
        return {"devices": ",".join(paths), "raidlevel": level, "compression": compression}
    if len(paths) != 1:
        raise InvalidParameter({"device": f"{kind.value} is made of one disk"})
    return {"device": paths[0], "filesystem": filesystem}


@app.command("storages")
def list_storages(ctx: typer.Context) -> None:
    """List what the machine's disks were made: folders, volume groups, thin pools, ZFS pools."""
    session: Session = ctx.obj
    found = _made(session)
    if session.json:
        output.emit_json(found)
        return
    columns = [
        output.Column("name"),
        output.Column("kind"),
        output.Column("size", "right"),
        output.Column("free", "right"),
        output.Column("of", wrap=True),
    ]
    cells = [
        (row["name"], row["kind"], output.size(row.get("size")), output.size(row.get("free")), row["of"])
        for row in found
    ]
    hint = f"none; make one with: bastide disks make{session.root_option} dir NAME DISK"
    output.table(columns, cells, empty=hint)


def _made(session: Session) -> list[dict[str, Any]]:
    """One row each. A kind whose tools are not installed has none."""
    client, base = session.client(), f"/nodes/{session.node()}/disks"
    rows = [
        {"name": row["path"].rpartition("/")[2], "kind": "dir", "of": f"{row['device']} at {row['path']}"}
        for row in client.get(f"{base}/directory")
    ]
    for kind, read in ((Kind.LVM, _groups), (Kind.LVMTHIN, _pools), (Kind.ZFS, _zpools)):
        try:
            rows += read(client.get(f"{base}/{kind.value}"))
        except NotSupported:
            continue
    return rows


def _groups(tree: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": row["name"],
            "kind": "lvm",
            "size": row["size"],
            "free": row["free"],
            "of": ", ".join(member["name"] for member in row.get("children", [])),
        }
        for row in tree["children"]
    ]


def _pools(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{row['vg']}/{row['lv']}",
            "kind": "lvmthin",
            "size": row["lv_size"],
            "free": row["lv_size"] - row["used"],
            "of": row["vg"],
        }
        for row in rows
    ]


def _zpools(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"name": row["name"], "kind": "zfs", "size": row["size"], "free": row["free"], "of": row["health"]}
        for row in rows
    ]


@app.command("rm")
def remove(
    ctx: typer.Context,
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="dir, lvm, lvmthin or zfs.", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `disks storages` prints it.", show_default=False)],
    *,
    wipe_disks: Annotated[bool, typer.Option("--wipe", help="Also make its disks empty.")] = False,
    keep_storage: Annotated[bool, typer.Option("--keep-storage", help="Leave its storages configured.")] = False,
    yes: Yes = False,
    no_wait: NoWait = False,
) -> None:
    """Take such a storage apart. What is on a volume group or a pool is lost; a dir's stays on its disk without --wipe.

    One with guests' volumes on it is refused.
    """
    session: Session = ctx.obj
    lost = kind is not Kind.DIR or wipe_disks
    if not yes:
        confirm(session, f"Remove the {kind.value} {name}?" + (" Everything on it is lost." if lost else ""))
    params: dict[str, Any] = {"cleanup-config": not keep_storage, "cleanup-disks": wipe_disks}
    if kind is Kind.LVMTHIN:
        group, _, name = name.rpartition("/")
        params["volume-group"] = group or name
    path = f"/nodes/{session.node()}/disks/{_BRANCH[kind]}/{segment(name)}"
    answer = session.client().delete(path, **params)
    _finish(session, answer, {"name": name}, f"removing {name}", no_wait=no_wait)


def _path(disk: str) -> str:
    """The path of a disk, of which its bare name is enough. Raises InvalidParameter."""
    if disk.startswith("/") and not disk.startswith("/dev/"):
        raise InvalidParameter({"disk": f"'{disk[:80]}' is no disk: /dev/sdb, or sdb"})
    return disk if disk.startswith("/") else f"/dev/{disk}"


def _described(session: Session, path: str) -> str:
    """A disk with what tells it from others. Raises NotFound."""
    rows = _rows(session, partitions=True)
    row = next((row for row in rows if path in (row["devpath"], row.get("by_id_link"))), None)
    if row is None:
        if path.count("/") > 2:  # another name of it, which the daemon follows
            return path
        raise NotFound(f"disk '{path}' does not exist: bastide disks ls{session.root_option} shows those that do")
    told = [output.size(row.get("size")), *(str(row.get(key) or "") for key in ("model", "used"))]
    return f"{path} ({', '.join(text for text in told if text not in ('', 'unknown'))})"


def _finish(session: Session, answer: Any, done: dict[str, Any], title: str, *, no_wait: bool) -> None:
    upid = progress.finish(session, answer, title, no_wait=no_wait)
    if session.json:
        output.emit_json({**done, "upid": upid})
    elif no_wait and upid is not None:
        output.line(upid)
