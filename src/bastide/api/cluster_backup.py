"""`/cluster/backup`, `/cluster/backup-info` and `/cluster/jobs`: backup jobs, what they save, and when."""

import time
from collections.abc import Set
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from bastide.api.backup_permissions import check_options
from bastide.api.lists import guests_seen, index
from bastide.api.routing import Branch, Call, NoParameters
from bastide.api.shapes_storage import BackupJobRow, NextRun, UnsavedGuest
from bastide.backup.calendar import CalendarEvent, next_after
from bastide.base.errors import InvalidParameter
from bastide.host import facts
from bastide.model.backup_options import BackupJob, BackupOptions
from bastide.model.guest import Guest
from bastide.model.record import PropertyString, Record
from bastide.model.types import ConfigKeys, split_list
from bastide.operations.backup import jobs, vzdump

_AUDIT = ("perm", "/", ("Sys.Audit",))
_MODIFY = ("perm", "/", ("Sys.Modify",))

branch = Branch("/cluster")


class JobPath(Record):
    """A backup job."""

    id: Annotated[str, Field(pattern=r"^\S+$", max_length=50)]


class JobChange(BackupJob):
    """What to change in a job, and options to forget."""

    delete: ConfigKeys | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        return self  # it has to agree with what the job says already, which is looked at there

    @model_validator(mode="after")
    def _timed(self) -> Self:
        return self


class AnalyzeQuery(Record):
    """A calendar event, and how many of its moments to tell from when on."""

    schedule: Annotated[str, Field(max_length=128)]
    iterations: Annotated[int, Field(ge=1, le=100)] = 10
    starttime: int | None = None


@branch.get("/backup", NoParameters, check=_AUDIT, answer=list[BackupJobRow])
async def list_jobs(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """All backup jobs."""
    return [await _row(call, job) for job in await jobs.list_jobs(call.rooms)]


@branch.post("/backup", BackupJob, check=_MODIFY)
async def create_job(call: Call, p: BackupJob) -> None:
    """Make a backup job."""
    await _check(call, p, p.given | {"storage"})
    await jobs.create_job(call.rooms, p)


@branch.get("/backup/{id}", JobPath, check=_AUDIT, answer=BackupJobRow)
async def read_job(call: Call, p: JobPath) -> dict[str, Any]:
    """A backup job."""
    return await _row(call, await jobs.get_job(call.rooms, p.id))


@branch.put("/backup/{id}", JobChange, check=_MODIFY)
async def update_job(call: Call, p: JobChange) -> None:
    """Change a backup job."""
    job = await jobs.get_job(call.rooms, p.id or "")
    delete = split_list(p.delete or "")
    changes = {key: value for key, value in p.to_stored().items() if key not in ("id", "delete")}
    await _check(call, p, changes.keys() | (jobs.taken_out(changes, delete) & job.given))
    await jobs.update_job(call.rooms, p.id or "", changes, delete)


@branch.delete("/backup/{id}", JobPath, check=_MODIFY)
async def delete_job(call: Call, p: JobPath) -> None:
    """Remove a backup job; a run of it goes on."""
    job = await jobs.get_job(call.rooms, p.id)
    await check_options(call, BackupOptions(), job.given)
    await jobs.delete_job(call.rooms, p.id)


@branch.get("/backup/{id}/included_volumes", JobPath, check=_AUDIT)
async def read_included_volumes(call: Call, p: JobPath) -> dict[str, Any]:
    """The guests of a job, and which of their volumes are saved."""
    job = await jobs.get_job(call.rooms, p.id)
    seen = {guest.vmid for guest in await guests_seen(call)}
    guests = await jobs.saved(call.rooms, job)
    rows = [_included(guest) for guest in guests if guest.vmid in seen]
    lost = [{"id": vmid, "type": "unknown"} for vmid in set(job.vmids) - {guest.vmid for guest in guests}]
    return {"children": sorted(rows + lost, key=lambda row: int(row["id"]))}


@branch.get("/backup-info", NoParameters)
async def read_info_index(_call: Call, _p: NoParameters) -> list[dict[str, str]]:
    """Directory index."""
    return index("subdir", "not-backed-up")


@branch.get("/backup-info/not-backed-up", NoParameters, check=_AUDIT, answer=list[UnsavedGuest])
async def read_not_backed_up(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The guests that no enabled job saves."""
    seen = {guest.vmid for guest in await guests_seen(call)}
    return [
        {"vmid": guest.vmid, "type": guest.kind, "name": guest.name}
        for guest in await jobs.not_backed_up(call.rooms)
        if guest.vmid in seen
    ]


@branch.get("/jobs", NoParameters, user="all")
async def read_jobs_index(_call: Call, _p: NoParameters) -> list[dict[str, str]]:
    """Directory index."""
    return index("subdir", "schedule-analyze")


@branch.get("/jobs/schedule-analyze", AnalyzeQuery, user="all", answer=list[NextRun])
async def analyze_schedule(_call: Call, p: AnalyzeQuery) -> list[dict[str, Any]]:
    """The next moments of a calendar event."""
    event, zone = CalendarEvent.parse(p.schedule), facts.zone()
    now: int | None = int(time.time()) if p.starttime is None else p.starttime
    if now is not None and not 0 <= now < 2**33:
        raise InvalidParameter({"starttime": "seconds since 1970, up to the year 2242"})
    rows: list[dict[str, Any]] = []
    while now is not None and len(rows) < p.iterations:
        now = next_after(event, now, zone)
        if now is not None:
            rows.append({"timestamp": now, "utc": datetime.fromtimestamp(now, UTC).strftime("%a %b %e %H:%M:%S %Y")})
    return rows


async def _check(call: Call, p: BackupJob, given: Set[str]) -> None:
    """Raise unless the caller may give a job these options. Raises InvalidParameter, PermissionDenied."""
    await check_options(call, p, given)
    if "storage" in given:
        await call.require(f"/storage/{p.storage or vzdump.DEFAULT}", "Datastore.Allocate")
    if p.pool is not None:
        await call.require(f"/pool/{p.pool}", "VM.Backup")


async def _row(call: Call, job: BackupJob) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "vzdump", "mode": job.mode, "enabled": int(job.enabled), **job.to_stored()}
    for key, value in (("prune-backups", job.prune_backups), ("fleecing", job.fleecing)):
        if isinstance(value, PropertyString):
            row[key] = value.to_text()
    if job.performance is not None:
        row["performance"] = job.performance.to_text()
    following = await jobs.next_run(call.rooms, job)
    return row if following is None else {**row, "next-run": following}


def _included(guest: Guest) -> dict[str, Any]:
    return {
        "id": guest.vmid,
        "type": guest.kind,
        "name": guest.name,
        "children": [
            {"id": one.key, "name": one.volume, "included": int(one.included), "reason": one.reason}
            for one in jobs.included_volumes(guest)
        ],
    }
