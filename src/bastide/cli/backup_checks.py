"""`backups`: the list, and what keeps backups trustworthy: verification, restore tests, retention, jobs."""

from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bastide.base.errors import BastideError, NotFound
from bastide.cli import completing, output, progress
from bastide.cli.backup_changes import change, remove
from bastide.cli.backup_names import backup_storages, rules, stored, vmid_of
from bastide.cli.backups import backups
from bastide.cli.session import Session
from bastide.cli.snapshots import NoWait
from bastide.client.http import segment

_OWN = "/bastide/backup"
_HELP = frozenset({"-h", "--help"})


class _Listing(TyperGroup):
    """Without a command of its own in front, the list is meant: `backups`, `backups web`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `ls` in front of what is no command."""
        if not args or (args[0] not in self.commands and args[0] not in _HELP):
            args = ["ls", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Listing,
    help="List backups; make, verify and try them at times of your own, remove old ones. Without a command: ls.",
    rich_markup_mode="rich",
)
app.command("ls")(backups)
app.command("rm")(remove)
app.command("set")(change)

_Guest = Annotated[
    str | None,
    typer.Argument(metavar="GUEST", help="Name or id.", autocompletion=completing.guests, show_default=False),
]
_Guests = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="GUEST...", help="Names or ids; without, all.", autocompletion=completing.guests, show_default=False
    ),
]
_OnStorage = Annotated[
    str | None, typer.Option(metavar="STORAGE", help="Those on it.", autocompletion=completing.storages)
]


@app.command("verify")
def verify(
    ctx: typer.Context,
    backup: Annotated[
        str | None,
        typer.Argument(
            metavar="BACKUP",
            help="One, as ls shows it, or latest:GUEST. Without: all.",
            autocompletion=completing.backups,
            show_default=False,
        ),
    ] = None,
    *,
    storage: _OnStorage = None,
    outdated_after: Annotated[
        int | None, typer.Option(metavar="DAYS", help="Leave out what was whole less than so many days ago.", min=0)
    ] = None,
) -> None:
    """Read backups to their ends and compare their checksums."""
    session: Session = ctx.obj
    wanted: list[dict[str, Any]]
    if backup is not None:
        volid = stored(session, backup)
        wanted = [{"storage": volid.partition(":")[0], "volume": volid}]
    else:
        # One that does not answer is asked as well: what could not be read is not verified.
        names = [storage] if storage is not None else sorted(backup_storages(session))
        wanted = [{"storage": name, "outdated-after": outdated_after} for name in names]
    failure: BastideError | None = None
    upids = []
    for params in wanted:
        upid = str(session.client().post(f"{_OWN}/verify", params))
        upids.append(upid)
        try:
            progress.follow(session, upid, f"verifying what is on {params['storage']}")
        except BastideError as error:
            failure = error
        lines: list[str] = []
        progress.read_log(session, upid, lines.append)
        for line in lines if not session.json else ():
            if line.startswith("ERROR: ") or line.endswith("backups are whole"):
                output.line(f"{params['storage']}: {line.removeprefix('ERROR: ')}")
    output.emit_json({"upids": upids}, only_if=session.json)
    if not wanted:
        output.note("no backups")
    if failure is not None:
        raise failure


@app.command("test")
def try_restore(
    ctx: typer.Context,
    guests: _Guests = None,
    *,
    storage: Annotated[
        str, typer.Option(metavar="STORAGE", help="Where the copies go.", autocompletion=completing.storages)
    ] = "local",
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="STORAGE", help="Backups on it alone.", autocompletion=completing.storages),
    ] = None,
    command: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="For sh -c in the copy, which must end with 0.")
    ] = None,
    timeout: Annotated[
        int, typer.Option(metavar="SECONDS", help="How long booting may take, and the command.", min=10)
    ] = 600,
    no_wait: NoWait = False,
) -> None:
    """Restore the newest backups on trial: boot each copy, unplugged, ask what came up, and remove it.

    See tests for how it went.
    """
    session: Session = ctx.obj
    params = {
        "vmid": ",".join(str(vmid_of(session, name)) for name in guests or []) or None,
        "all": None if guests else True,
        "storage": storage,
        "backup-storage": source,
        "command": command,
        "timeout": timeout,
    }
    upid = str(session.client().post(f"{_OWN}/tests", params))
    if no_wait:
        output.emit_json({"upid": upid}) if session.json else output.line(upid)
        return
    failure: BastideError | None = None
    try:
        progress.follow(session, upid, "trying to restore")
    except BastideError as error:
        failure = error
    _show(session, [row for row in session.client().get(f"{_OWN}/tests", limit=500) if row["upid"] == upid])
    if failure is not None:
        raise failure


@app.command("tests")
def list_tests(ctx: typer.Context, guest: _Guest = None) -> None:
    """List how restore tests went, the newest first."""
    session: Session = ctx.obj
    vmid = None if guest is None else vmid_of(session, guest)
    _show(session, session.client().get(f"{_OWN}/tests", vmid=vmid))


@app.command("prune")
def prune(
    ctx: typer.Context,
    guest: _Guest = None,
    *,
    storage: Annotated[
        str, typer.Option(metavar="STORAGE", help="Those on it.", autocompletion=completing.storages)
    ] = "local",
    keep: Annotated[
        str | None,
        typer.Option(metavar="RULES", help="3, or keep-daily=7,keep-weekly=4. Default: the storage's own."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
) -> None:
    """Remove the backups that the rules do not keep."""
    session: Session = ctx.obj
    path = f"/nodes/{session.node()}/storage/{segment(storage)}/prunebackups"
    params = {
        "prune-backups": rules(keep),
        "vmid": None if guest is None else vmid_of(session, guest),
    }
    rows = session.client().get(path, **params)
    if not dry_run:
        progress.finish(session, session.client().delete(path, **params), "removing old backups")
    if session.json:
        output.emit_json(rows)
        return
    done = {"remove": "would go" if dry_run else "removed", "keep": "stays"}
    columns = [output.Column("backup"), output.Column("made"), output.Column("what")]
    cells = [[row["volid"], output.moment(row["ctime"]), done.get(row["mark"], row["mark"])] for row in rows]
    output.table(columns, cells, empty=f"no backups on {storage}")


class JobKind(StrEnum):
    """What a job does."""

    BACKUP = "backup"
    VERIFY = "verify"
    TEST = "test"


_JOBS = {
    JobKind.BACKUP: "/cluster/backup",
    JobKind.VERIFY: f"{_OWN}/verify-jobs",
    JobKind.TEST: f"{_OWN}/test-jobs",
}
_JobId = Annotated[str, typer.Argument(metavar="JOB", help="Its name, such as nightly.", show_default=False)]


@app.command("schedule")
def schedule(
    ctx: typer.Context,
    job: _JobId,
    when: Annotated[
        str, typer.Argument(metavar="WHEN", help="'mon..fri 02:30', '*:0/15', daily ...", show_default=False)
    ],
    guests: _Guests = None,
    *,
    kind: Annotated[JobKind, typer.Option(help="backup, verify or test.")] = JobKind.BACKUP,
    storage: Annotated[
        str,
        typer.Option(
            metavar="STORAGE",
            help="Where backups or a test's copies go; which to verify.",
            autocompletion=completing.storages,
        ),
    ] = "local",
    keep: Annotated[
        str | None, typer.Option(metavar="RULES", help="Of a backup: 3, or keep-daily=7,keep-weekly=4.")
    ] = None,
    command: Annotated[str | None, typer.Option(metavar="COMMAND", help="Of a test: for sh -c in the copy.")] = None,
    missed: Annotated[
        bool, typer.Option("--repeat-missed", help="Make up for what was due while the host was down.")
    ] = False,
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="What for.")] = None,
) -> None:
    """Let backups, verifications or restore tests run by themselves: of the guests that are named, or of all.

    For everything that a job can say: api create /cluster/backup.
    """  # fmt: skip
    session: Session = ctx.obj
    if (kind is not JobKind.BACKUP and keep) or (kind is not JobKind.TEST and command):
        raise typer.BadParameter("--keep is for --kind backup, --command for --kind test")
    if kind is JobKind.VERIFY and guests:
        raise typer.BadParameter("a verification is of a storage: give --storage and no GUEST")
    params: dict[str, Any] = {
        "id": job, "schedule": when, "storage": storage, "comment": comment, "command": command,
        "repeat-missed": missed or None,
        "prune-backups": rules(keep),
        "compress": "zstd" if kind is JobKind.BACKUP else None,
    }  # fmt: skip
    if kind is not JobKind.VERIFY:
        params["vmid"] = ",".join(str(vmid_of(session, name)) for name in guests or []) or None
        params["all"] = None if guests else True
    session.client().post(_JOBS[kind], params)
    row = next(row for row in session.client().get(_JOBS[kind]) if row["id"] == job)
    if session.json:
        output.emit_json(row)
    else:
        output.line(f"{job}: next on {output.moment(row.get('next-run')) or 'no day any more'}")


@app.command("unschedule")
def unschedule(ctx: typer.Context, job: _JobId) -> None:
    """Remove a job; a run of it that goes on goes on."""
    session: Session = ctx.obj
    found = [path for path in _JOBS.values() if any(row["id"] == job for row in session.client().get(path))]
    if not found:
        raise NotFound(f"a job '{job}' does not exist: see backups jobs")
    for path in found:
        session.client().delete(f"{path}/{segment(job)}")


@app.command("jobs")
def jobs(ctx: typer.Context) -> None:
    """List what runs by itself: backups, verifications, restore tests."""
    session: Session = ctx.obj
    found = [{"kind": kind.value, **row} for kind, path in _JOBS.items() for row in session.client().get(path)]
    if session.json:
        output.emit_json(found)
        return
    columns = [output.Column(name) for name in ("job", "kind", "schedule", "next", "of", "storage", "comment")]
    cells = [
        [
            row["id"], row["kind"], row.get("schedule"), _next(row),
            _whom(row), row.get("storage"), row.get("comment"),
        ]
        for row in found
    ]  # fmt: skip
    output.table(columns, cells, empty="no jobs; make one with: bastide backups schedule nightly 02:30")


def _whom(row: dict[str, Any]) -> str:
    every = f"pool {row['pool']}" if row.get("pool") else "all"
    return str(row.get("vmid") or (f"{every} but {row['exclude']}" if row.get("exclude") else every))


def _next(row: dict[str, Any]) -> str:
    return output.moment(row.get("next-run")) or ("never" if row.get("enabled", True) else "disabled")


def _show(session: Session, rows: list[dict[str, Any]]) -> None:
    if session.json:
        output.emit_json(rows)
        return
    columns = [
        output.Column("guest"),
        output.Column("tried"),
        output.Column("took"),
        output.Column("result"),
        output.Column("backup"),
        output.Column("what", wrap=True),
    ]
    cells = [
        [
            row["vmid"],
            output.moment(row["started"]),
            output.duration(row["duration"]) or "0s",
            "ok" if row["ok"] else f"failed: {row['step']}",
            row["backup"],
            row.get("reason") or (str(row.get("output") or "").strip().splitlines() or [""])[0],
        ]
        for row in rows
    ]
    output.table(columns, cells, empty="no restore tests yet; try one with: bastide backups test")
