"""`storage`: where disks, images and backups are."""

from typing import Annotated, Any

import typer

from bastide.base.errors import BastideError, HostFailure, InvalidParameter, WrongState
from bastide.cli import completing, output, progress
from bastide.cli.host import confirm
from bastide.cli.rescan import rescan
from bastide.cli.session import Session
from bastide.cli.storage_options import check_type, explained, read, secret
from bastide.client.http import segment

app = typer.Typer(help="List, add and remove storages.", no_args_is_help=True, rich_markup_mode="rich")
app.command()(rescan)

StorageId = Annotated[
    str, typer.Argument(metavar="STORAGE", autocompletion=completing.storages, show_default=False, help="Its id.")
]


Options = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="path=/srv/data content=rootdir,vztmpl ...", show_default=False),
]
PasswordFile = Annotated[
    str | None,
    typer.Option("--password-file", metavar="FILE", help="Of cifs: the password's file; - is standard input."),
]
KeyringFile = Annotated[
    str | None,
    typer.Option("--keyring-file", metavar="FILE", help="Of rbd and cephfs: the key's file; - is standard input."),
]
PassphraseFile = Annotated[
    str | None,
    typer.Option("--passphrase-file", metavar="FILE", help="Of borg: the passphrase's file; - is standard input."),
]

_EVERYWHERE = frozenset({"content", "nodes", "disable", "shared", "bwlimit"})


@app.command("ls")
def list_storages(ctx: typer.Context) -> None:
    """List the storages: what they are, what they may hold, where, and how full they are."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get("/storage")
    if session.json:
        output.emit_json(rows)
        return
    seen = {row["storage"]: row for row in session.client().get(f"/nodes/{session.node()}/storage")}
    columns = [
        output.Column("storage"),
        output.Column("type"),
        output.Column("status"),
        output.Column("size", "right"),
        output.Column("used", "right"),
        output.Column("where", wrap=True),
        output.Column("content", wrap=True),
    ]
    output.table(columns, [_listed(row, seen.get(row["storage"], {})) for row in rows], empty="no storages")


def _listed(row: dict[str, Any], seen: dict[str, Any]) -> list[Any]:
    content = str(row.get("content") or "").replace(",", " ")
    return [row["storage"], row.get("type"), _state(seen, row), _size(seen, "total"), _full(seen), _where(row), content]


def _state(seen: dict[str, Any], row: dict[str, Any] | None = None) -> str:
    """`ok`, `fail` when it cannot be reached, `disabled`, or `not here` when it is for other nodes."""
    if seen.get("enabled") == 0:
        return "not here" if row is not None and not row.get("disable") else "disabled"
    return "ok" if seen.get("active", 1) else "fail"


def _size(seen: dict[str, Any], key: str) -> str:
    """A figure of a storage that answers."""
    return output.size(seen.get(key)) if seen.get("active", 1) else ""


def _full(seen: dict[str, Any]) -> str:
    used, total = seen.get("used"), seen.get("total")
    return f"{used / total:.0%}" if used is not None and total else ""


def _share(seen: dict[str, Any]) -> str:
    """What all volumes may grow to, of what there is."""
    return f"{seen['promised']:.0%}" if "promised" in seen else ""


def _where(row: dict[str, Any]) -> str:
    """The place, in the words of the type: a folder, a share, a group, a pool, a target."""
    if row.get("server"):
        return f"{row['server']}:{row.get('export') or row.get('share') or ''}"
    if row.get("vgname"):
        return "/".join(str(row[key]) for key in ("vgname", "thinpool") if row.get(key))
    if row.get("target"):
        return f"{row.get('portal')} {row['target']}"
    return str(row.get("path") or row.get("pool") or row.get("monhost") or "")


@app.command()
def status(ctx: typer.Context) -> None:
    """Tell how full the storages are, and how much more their volumes may grow to.

    What is allocated is what all volumes may grow to; above 100 % of the size they cannot all do so. See also capacity,
    which tells when they are full.
    """
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get(f"/nodes/{session.node()}/storage")
    if session.json:
        output.emit_json(rows)
        return
    right = [output.Column(title, "right") for title in ("size", "free", "used", "", "allocated", "promised")]
    columns = [output.Column("storage"), output.Column("status"), *right]
    output.table(columns, [_fullness(row) for row in rows], empty="no storages")


def _fullness(row: dict[str, Any]) -> list[Any]:
    sizes = [_size(row, key) for key in ("total", "avail", "used")]
    return [row["storage"], _state(row), *sizes, _full(row), _size(row, "allocated"), _share(row)]


@app.command()
def show(ctx: typer.Context, storage: StorageId) -> None:
    """Tell all about a storage: its options, how full it is and when it will be, what guests on it share."""
    session: Session = ctx.obj
    options: dict[str, Any] = session.client().get(f"/storage/{segment(storage)}")
    seen = _seen(session, storage)
    means = {row["storage"]: row.get("copy-on-write") for row in session.client().get("/bastide/storage")}
    if session.json:
        output.emit_json({**options, "status": seen, "copy-on-write": means.get(storage)})
        return
    shared = means.get(storage) or "nothing: every guest gets a copy"
    guests = {"images", "rootdir"} & set(str(options.get("content")).split(","))
    output.pairs(
        {
            **{key: value for key, value in options.items() if key != "digest"},
            "": "",
            "status": _state(seen, options),
            **{title: text for title, text in _space(seen).items() if text},
            **({"full": full} if (full := _outlook(session, storage)) else {}),
            **({"guests share": shared} if guests else {}),
        }
    )


def _outlook(session: Session, storage: str) -> str:
    """When it is full, from how it has been filling up; empty for whom the architect tells nothing."""
    try:
        found = session.client().get("/architect/capacity")["storages"]
    except BastideError:
        return ""
    return next((str(row["outlook"]["sentence"]) for row in found if row["storage"] == storage), "")


def _space(seen: dict[str, Any]) -> dict[str, str]:
    figures = {title: _size(seen, key) for title, key in (("size", "total"), ("free", "avail"), ("used", "used"))}
    allocated = _size(seen, "allocated")
    promised = f"{allocated}, {_share(seen)} of the size" if allocated and _share(seen) else allocated
    return {**figures, "allocated": promised}


def _seen(session: Session, storage: str) -> dict[str, Any]:
    """Its state and space on the node that answers. Raises NotFound."""
    rows: list[dict[str, Any]] = session.client().get(f"/nodes/{session.node()}/storage", storage=storage)
    return next((row for row in rows if row["storage"] == storage), {"enabled": 0, "active": 0})


@app.command()
def types(ctx: typer.Context) -> None:
    """List the types of storages, and what each needs and may be told."""
    from bastide.model.storage import TYPES  # noqa: PLC0415 - pydantic, which no other command loads

    session: Session = ctx.obj
    rows = [
        {
            "type": name,
            "needed": sorted(keys.needed),
            "optional": sorted(keys.keys - keys.needed - _EVERYWHERE),
            "content": sorted(keys.contents),
        }
        for name, keys in TYPES.items()
    ]
    if session.json:
        output.emit_json(rows)
        return
    columns = [
        output.Column("type"),
        output.Column("needs", wrap=True),
        output.Column("may have", wrap=True),
        output.Column("can hold", wrap=True),
    ]
    cells = [(row["type"], *(" ".join(row[key]) for key in ("needed", "optional", "content"))) for row in rows]
    output.table(columns, cells)
    output.note(f"each also: {' '.join(sorted(_EVERYWHERE))}")
    output.note("a password, a key or a passphrase: --password-file, --keyring-file, --passphrase-file")


@app.command()
def scan(
    ctx: typer.Context,
    kind: Annotated[
        str, typer.Argument(metavar="TYPE", help="nfs, cifs, iscsi, lvm, lvmthin or zfs.", show_default=False)
    ],
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="SERVER",
            help="The server; iscsi: the portal; lvmthin: the volume group; lvm and zfs: nothing.",
            show_default=False,
        ),
    ] = None,
    username: Annotated[str | None, typer.Option("--username", metavar="NAME", help="At an SMB server.")] = None,
    password_file: Annotated[
        str | None, typer.Option("--password-file", metavar="FILE", help="Its password; - is standard input.")
    ] = None,
) -> None:
    """Tell what a server or this machine has that could be a storage."""
    session: Session = ctx.obj
    keys = {"nfs": "server", "cifs": "server", "iscsi": "portal", "lvmthin": "vg", "lvm": None, "zfs": None}
    if kind not in keys:
        raise InvalidParameter({"type": f"'{kind[:40]}' cannot be scanned: {', '.join(keys)} can"})
    key = keys[kind]
    if (key is None) != (where is None):
        raise InvalidParameter(
            {key or "server": f"{kind} {'needs one' if key else 'is on this machine: leave it out'}"}
        )
    params = {**({key: where} if key else {}), "username": username}
    params["password"] = secret(password_file) if password_file else None
    if kind == "cifs" and username and not password_file and session.interactive:
        params["password"] = typer.prompt(f"password of {username}", hide_input=True, err=True)
    rows: list[dict[str, Any]] = session.client().get(f"/nodes/{session.node()}/scan/{kind}", **params)
    if session.json:
        output.emit_json(rows)
        return
    titles = list(dict.fromkeys(title for row in rows for title in row))
    columns = [output.Column(title) for title in titles]
    output.table(columns, [[row.get(title) for title in titles] for row in rows], empty="nothing found")


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
    if not rows:
        _check_seen(session, storage)
    columns = [
        output.Column("volume"),
        output.Column("content"),
        output.Column("size", "right"),
        output.Column("guest", "right"),
    ]
    cells = [(row["volid"], row.get("content"), output.size(row.get("size")), row.get("vmid")) for row in rows]
    output.table(columns, cells, empty="no volumes")


def _check_seen(session: Session, storage: str) -> None:
    """Raise WrongState for a storage that is not used here, HostFailure for one that cannot be reached."""
    seen = _seen(session, storage)
    if seen.get("enabled") == 0:
        options = session.client().get(f"/storage/{segment(storage)}")
        change = f"bastide storage set{session.root_option} {storage} --delete"
        if options.get("disable"):
            raise WrongState(f"storage '{storage}' is disabled")
        raise WrongState(
            f"storage '{storage}' is for other nodes: {options.get('nodes')}; for all with: {change} nodes"
        )
    if not seen.get("active", 1):
        raise HostFailure(f"storage '{storage}' cannot be reached: bastide storage show{session.root_option} {storage}")


@app.command()
def add(
    ctx: typer.Context,
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="Its new id.", show_default=False)],
    kind: Annotated[
        str,
        typer.Argument(
            metavar="TYPE",
            help="dir, btrfs, nfs, cifs, cephfs, lvm, lvmthin, zfspool, rbd, iscsi or borg; see types.",
            autocompletion=completing.storage_types,
            show_default=False,
        ),
    ],
    options: Options = None,
    *,
    password_file: PasswordFile = None,
    keyring_file: KeyringFile = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Add a storage.

    For example: add archive dir path=/srv/archive content=iso,backup; or: add nas nfs server=nas.lan export=/vms.
    """
    session: Session = ctx.obj
    check_type(kind)
    values = {"storage": storage, "type": kind, **read(options, password_file, keyring_file, passphrase_file)}
    if kind == "cifs" and values.get("username") and "password" not in values and session.interactive:
        values["password"] = typer.prompt(f"password of {values['username']}", hide_input=True, err=True)
    with explained(lambda: kind):
        answer = session.client().post("/storage", values)
    output.emit_json(answer, only_if=session.json)
    if not session.json:
        _tell_secrets(session, storage, answer.get("config") or {})
        _tell(session, storage)


def _tell_secrets(session: Session, storage: str, shown: dict[str, Any]) -> None:
    """Show what has to be kept elsewhere, and why."""
    if "passphrase" in shown:
        output.note(f"The passphrase of {storage}, which is shown this once:")
        typer.echo(shown["passphrase"])
    if "encryption-key" in shown:
        output.note(
            f"Without its key and its passphrase nobody can read what is backed up on {storage}. Keep both where this"
            " host is not: on paper, in a password manager. The key again:"
            f" bastide storage key{session.root_option} {storage}"
        )
        typer.echo(shown["encryption-key"])


@app.command()
def key(ctx: typer.Context, storage: StorageId) -> None:
    """Print the key of a storage's backups, for safekeeping. It is of use with the passphrase alone.

    Keep it where this host is not. With a repository whose own copy is damaged: borg key import REPOSITORY FILE.
    """
    session: Session = ctx.obj
    answer: dict[str, Any] = session.client().get(f"/bastide/storage/{segment(storage)}/key")
    output.emit_json(answer, only_if=session.json)
    if not session.json:
        typer.echo(answer["encryption-key"], nl=False)


@app.command("set")
def change(
    ctx: typer.Context,
    storage: StorageId,
    options: Options = None,
    *,
    delete: Annotated[
        list[str] | None, typer.Option("--delete", metavar="KEY", help="Go back to the default. May be repeated.")
    ] = None,
    password_file: PasswordFile = None,
    keyring_file: KeyringFile = None,
    passphrase_file: PassphraseFile = None,
    digest: Annotated[
        str | None, typer.Option(metavar="SHA1", help="Only if its configuration is still this one.")
    ] = None,
) -> None:
    """Change a storage's options: content=iso,images nodes=a,b disable=1 ..."""
    session: Session = ctx.obj
    values = read(options, password_file, keyring_file, passphrase_file)
    if not values and not delete:
        raise typer.BadParameter("nothing to change: give KEY=VALUE or --delete KEY")
    params = {**values, "delete": ",".join(delete) if delete else None, "digest": digest}
    with explained(lambda: str(session.client().get(f"/storage/{segment(storage)}").get("type"))):
        answer = session.client().put(f"/storage/{segment(storage)}", params)
    output.emit_json(answer, only_if=session.json)


def _tell(session: Session, storage: str) -> None:
    """Say so when a storage that was just added cannot be reached."""
    found = session.client().get(f"/nodes/{session.node()}/storage/{segment(storage)}/status")
    if found.get("enabled") and not found.get("active"):
        output.note(f"warning: {storage} does not answer yet: bastide storage show{session.root_option} {storage}")


@app.command("rm")
def remove(
    ctx: typer.Context,
    storage: StorageId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget a storage. What lies on it stays there."""
    session: Session = ctx.obj
    path = f"/storage/{segment(storage)}"
    if not yes and session.client().get(path)["type"] == "borg":
        confirm(session, f"Forget the storage {storage} and its passphrase, without which nobody reads its backups?")
    elif session.interactive and not yes:
        confirm(session, f"Forget the storage {storage}?")
    session.client().delete(path)
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
    if not all(volume.partition(":")[::2]):
        raise InvalidParameter({"volume": f"'{volume[:60]}' is no volume: STORAGE:NAME"})
    if session.interactive and not yes:
        confirm(session, f"Delete {volume}?")
    delete_volume(session, volume)
    output.emit_json([volume], only_if=session.json)


def delete_volume(session: Session, volume: str) -> None:
    """Delete a volume and wait until it is gone."""
    storage = volume.partition(":")[0]
    path = f"/nodes/{session.node()}/storage/{segment(storage)}/content/{segment(volume)}"
    progress.finish(session, session.client().delete(path), f"deleting {volume}")
