"""`backup`, `backups` and `restore`: guests saved, and brought back."""

import re
from enum import StrEnum
from typing import Annotated, Any

import typer

from bastide.base.errors import BastideError, InvalidParameter, NotSupported, WrongState
from bastide.cli import completing, output, progress
from bastide.cli.backup_names import guest_names, kind_and_vmid, known, resolve, rules, vmid_of
from bastide.cli.host import confirm
from bastide.cli.session import GuestRef, Session
from bastide.cli.snapshots import NoWait

Storage = Annotated[
    str | None, typer.Option(metavar="STORAGE", help="Default: local.", autocompletion=completing.storages)
]

_BEGUN = re.compile(r"Starting Backup of VM (\d+) \((lxc|qemu)\)")
_FINISHED = re.compile(r"Finished Backup of VM (\d+) \((\d+):(\d\d):(\d\d)\)")
_ARCHIVE = re.compile(r"creating (?:vzdump )?archive '(.+)'$")
_SIZE = re.compile(r"(?:archive file|backup) size: (.+)$")
_FROZEN = re.compile(r"(?:frozen for|paused for|stood still for|online again after) ([\d.]+ ?(?:ms|seconds|s)\b)")


class Mode(StrEnum):
    """What becomes of a guest that runs while it is saved."""

    SNAPSHOT = "snapshot"
    SUSPEND = "suspend"
    STOP = "stop"


class Compression(StrEnum):
    """How an archive is compressed."""

    ZSTD = "zstd"
    GZIP = "gzip"
    LZO = "lzo"
    NONE = "none"


_Guests = Annotated[
    list[str] | None,
    typer.Argument(metavar="GUEST...", help="Names or ids.", autocompletion=completing.guests, show_default=False),
]
_Every = Annotated[bool, typer.Option("--all", help="Every guest.")]
_Pool = Annotated[str | None, typer.Option(metavar="POOL", help="Every guest of a pool.")]
_Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="GUEST", help="But not this one. May be repeated.", autocompletion=completing.guests),
]
_Mode = Annotated[Mode, typer.Option(help="snapshot: it goes on; suspend: it waits; stop: it is shut down.")]
_StopWait = Annotated[
    int | None,
    typer.Option(
        "--stopwait", metavar="MINUTES", help="How long it may take to shut down (mode stop). Default: 10.", min=0
    ),
]
_Compress = Annotated[Compression, typer.Option(help="Of archives; a Borg storage has its own.")]
_Threads = Annotated[int, typer.Option(metavar="N", help="Of zstd; 0: half of the processors.", min=0)]
_Limit = Annotated[float | None, typer.Option(metavar="MIB", help="At most so many MiB a second.", min=0)]
_ExcludePath = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Of containers: leave out /srv/cache, '*.tmp'. May be repeated."),
]
_Notes = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What for; {{guestname}}, {{vmid}}, {{node}} are filled in.")
]
_Protected = Annotated[bool, typer.Option("--protected", help="It cannot be removed, nor pruned.")]
_Keep = Annotated[
    str | None, typer.Option(metavar="RULES", help="Then remove older ones: 3, or keep-daily=7,keep-weekly=4.")
]
_Prune = Annotated[bool, typer.Option("--prune/--no-prune", help="Remove what the storage's rules do not keep.")]
_Fleecing = Annotated[
    str | None,
    typer.Option(metavar="STORAGE", help="Where what a VM overwrites waits.", autocompletion=completing.storages),
]


def backup(
    ctx: typer.Context,
    guests: _Guests = None,
    *,
    every: _Every = False,
    pool: _Pool = None,
    exclude: _Exclude = None,
    storage: Storage = None,
    mode: _Mode = Mode.SNAPSHOT,
    stopwait: _StopWait = None,
    compress: _Compress = Compression.ZSTD,
    threads: _Threads = 0,
    limit: _Limit = None,
    exclude_path: _ExcludePath = None,
    notes: _Notes = None,
    protected: _Protected = False,
    keep: _Keep = None,
    prune: _Prune = True,
    fleecing: _Fleecing = None,
    no_wait: NoWait = False,
) -> None:
    """Back up guests. They keep running, and are held for less than a second.

    See also backups and restore.
    """
    session: Session = ctx.obj
    if sum((bool(guests), every, pool is not None)) != 1:
        raise typer.BadParameter("which guests? name them, or give --all or --pool")
    if exclude and guests:
        raise typer.BadParameter("--exclude goes with --all or --pool")
    named = [session.guest(name) for name in guests or []]
    path = f"/nodes/{session.node()}/vzdump"
    params = {
        "vmid": ",".join(str(guest.vmid) for guest in named) or None,
        "all": every or None,
        "pool": pool,
        "exclude": ",".join(str(session.guest(name).vmid) for name in exclude or []) or None,
        "storage": storage or session.client().get(f"{path}/defaults")["storage"],
        "mode": mode,
        "stopwait": stopwait,
        "compress": "0" if compress is Compression.NONE else compress,
        "zstd": threads if compress is Compression.ZSTD else None,
        "bwlimit": None if limit is None else round(limit * 1024),
        "exclude-path": exclude_path or None,
        "notes-template": None if notes is None else notes.replace("\\", "\\\\").replace("\n", "\\n"),
        "protected": protected or None,
        "prune-backups": rules(keep),
        "remove": None if prune else False,
        "fleecing": f"enabled=1,storage={fleecing}" if fleecing is not None else None,
    }
    upid = str(session.client().post(path, params))
    if not no_wait:
        what = ", ".join(guest.shown for guest in named) or (f"the guests of pool {pool}" if pool else "all guests")
        names = {guest.vmid: guest.shown for guest in named} or {
            vmid: f"{name} ({vmid})" for vmid, name in guest_names(session).items()
        }
        _follow(session, upid, f"saving {what}", str(params["storage"]), names)
    elif session.json:
        output.emit_json({"upid": upid})
    else:
        output.line(upid)


def _follow(session: Session, upid: str, title: str, storage: str, names: dict[int, str]) -> None:
    """Wait for the task, and print a line for each guest: what was made, how large it is and how long it took."""
    failure: BastideError | None = None
    try:
        progress.follow(session, upid, title)
    except BastideError as error:
        failure = error
    lines: list[str] = []
    progress.read_log(session, upid, lines.append)
    found = summary(lines)
    for row in found:
        row["backup"] = f"{storage}:backup/{row['backup'].rpartition('/')[2]}"
    if session.json:
        output.emit_json({"upid": upid, "backups": found})
    for row in found if not session.json else ():
        shown = names.get(row["vmid"], str(row["vmid"]))
        frozen = f", held for {row['frozen']}" if row["frozen"] else ""
        took = output.duration(row["seconds"]) or "0s"
        output.line(f"{shown}: {row['backup']}  {row['size'] or ''} in {took}{frozen}")
    if failure is not None:
        for line in lines:
            if line.startswith("ERROR: "):
                output.note(line.removeprefix("ERROR: "))
        raise failure


def summary(lines: list[str]) -> list[dict[str, Any]]:
    """What a task's log tells of the backups that it made: vmid, backup, size, seconds, and how long it was held."""
    found: list[dict[str, Any]] = []
    row: dict[str, Any] = {}
    for line in lines:
        if match := _BEGUN.search(line):
            row = {"vmid": int(match[1]), "type": match[2], "backup": "", "size": "", "seconds": 0, "frozen": ""}
        for key, pattern in (("backup", _ARCHIVE), ("size", _SIZE), ("frozen", _FROZEN)):
            if row and (match := pattern.search(line)):
                row[key] = match[1]
        if row and (match := _FINISHED.search(line)) and int(match[1]) == row["vmid"]:
            row["seconds"] = int(match[2]) * 3600 + int(match[3]) * 60 + int(match[4])
            found.append(row)
            row = {}
    return found


def backups(
    ctx: typer.Context,
    guest: Annotated[
        str | None,
        typer.Argument(
            metavar="GUEST", help="Name or id: only its own.", autocompletion=completing.guests, show_default=False
        ),
    ] = None,
    *,
    storage: Annotated[
        str | None,
        typer.Option(metavar="STORAGE", help="Only those on it.", autocompletion=completing.storages),
    ] = None,
) -> None:
    """List backups, the newest of each guest first."""
    session: Session = ctx.obj
    vmid = vmid_of(session, guest) if guest is not None else None
    rows = known(session, vmid, storage)
    if session.json:
        output.emit_json(rows)
        return
    names = guest_names(session)
    columns = [
        output.Column("guest"),
        output.Column("made"),
        output.Column("size", "right"),
        output.Column("protected"),
        output.Column("verified"),
        output.Column("tried"),
        output.Column("notes", wrap=True),
        output.Column("backup"),
    ]
    hint = f"no backups; make one with: bastide backup{session.root_option} {guest or 'GUEST'}"
    output.table(columns, [_cells(row, names) for row in rows], empty=hint)


def _cells(row: dict[str, Any], names: dict[int, str]) -> list[str]:
    vmid = row.get("vmid")
    name = names.get(int(vmid), "") if vmid is not None else ""
    verified = row.get("verification") or {}
    return [
        (f"{name} ({vmid})" if name else str(vmid)) if vmid is not None else "",
        output.moment(row.get("ctime")),
        output.size(row.get("size")),
        "yes" if row.get("protected") else "",
        str(verified.get("state", "")) if isinstance(verified, dict) else "",
        "" if "restore-test" not in row else "ok" if row["restore-test"]["ok"] else "failed",
        str(row.get("notes") or "").strip().partition("\n")[0],
        row["volid"],
    ]


_Source = Annotated[
    str,
    typer.Argument(
        metavar="BACKUP",
        help="As backups lists it, or latest:GUEST.",
        autocompletion=completing.backups,
        show_default=False,
    ),
]
_As = Annotated[
    str | None, typer.Option("--as", metavar="ID", help="Its id; new: the next free one. Default: the one it had.")
]
_Target = Annotated[
    str | None, typer.Option(metavar="STORAGE", help="Where its volumes go.", autocompletion=completing.storages)
]
_Force = Annotated[bool, typer.Option("--force", help="Replace the guest of that id, which has to be stopped.")]
_Unique = Annotated[bool, typer.Option("--unique", help="With hardware addresses of its own, for a copy.")]
_Live = Annotated[bool, typer.Option("--live", help="Of a VM: start it at once, and copy while it runs.")]
_Unprivileged = Annotated[
    bool | None, typer.Option("--unprivileged/--privileged", help="Of a container: other than it was.")
]


def restore(
    ctx: typer.Context,
    source: _Source,
    *,
    newid: _As = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name. Default: the one it had.")
    ] = None,
    storage: _Target = None,
    force: _Force = False,
    unique: _Unique = False,
    live: _Live = False,
    unprivileged: _Unprivileged = None,
    limit: _Limit = None,
    pool: Annotated[str | None, typer.Option(metavar="POOL", help="The pool that it is put in.")] = None,
    start: Annotated[bool, typer.Option("--start", help="Start it then.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a guest is replaced.")] = False,
    no_wait: NoWait = False,
) -> None:
    """Make a guest of a backup, or with --force give one the state that it had.

    A guest that is replaced stays as it was until the restore is whole.
    """
    session: Session = ctx.obj
    volid = resolve(session, source)
    kind, own = kind_and_vmid(volid)
    vmid = _target(session, newid, own)
    _check_kind(kind, live=live, unprivileged=unprivileged)
    there = next((row for row in _resources(session) if row["vmid"] == vmid), None)
    if there is not None:
        _replace(session, there, force=force, yes=yes)
    params: dict[str, Any] = {
        "vmid": vmid,
        "storage": storage,
        "force": force or None,
        "unique": unique or None,
        "bwlimit": None if limit is None else round(limit * 1024),
        "pool": pool,
        "start": start or None,
    }
    if kind == "lxc":
        params |= {"ostemplate": volid, "restore": True, "unprivileged": unprivileged, "hostname": name}
    else:
        params |= {"archive": volid, "live-restore": live or None, "name": name}
    node = session.node()
    made = GuestRef(vmid, node, kind, str((there or {}).get("name") or ""), "stopped")
    answer = session.client().post(f"/nodes/{node}/{kind}", params)
    upid = progress.finish(session, answer, f"restoring {made.shown}", no_wait=no_wait)
    if session.json:
        output.emit_json({"vmid": vmid, "type": kind, "backup": volid, "upid": upid})
    elif no_wait:
        output.line(str(upid))
    else:
        output.line(session.guest(str(vmid)).shown)


def _replace(session: Session, there: dict[str, Any], *, force: bool, yes: bool) -> None:
    """Have it said that a guest is to be replaced. Raises WrongState."""
    vmid, name = there["vmid"], there.get("name") or there["vmid"]
    if not force:
        raise WrongState(
            f"guest {vmid} ({name}) is there: restore to another id with --as ID, or replace it with --force"
        )
    if there.get("status") == "running":
        raise WrongState(f"guest {vmid} ({name}) is running: stop it with: bastide stop{session.root_option} {vmid}")
    if not yes:
        confirm(session, f"Replace {name} ({vmid}) by its backup? What it is now is lost.")


def _check_kind(kind: str, *, live: bool, unprivileged: bool | None) -> None:
    if live and kind == "lxc":
        raise NotSupported("this is a container's backup, which cannot run while it is restored: leave --live out")
    if unprivileged is not None and kind == "qemu":
        raise NotSupported("this is a VM's backup: --unprivileged and --privileged are for containers")


def _target(session: Session, newid: str | None, own: int) -> int:
    if newid is None:
        return own
    if newid == "new":
        return int(session.client().get("/cluster/nextid"))
    if not (newid.isascii() and newid.isdigit()):
        raise InvalidParameter({"as": f"'{newid[:40]}' is not an id: a number, or new"})
    return int(newid)


def _resources(session: Session) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = session.client().get("/cluster/resources", type="vm")
    return rows
