"""Backup jobs: their records under `backupjob/<id>`, what they save, and when they run."""

import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from bastide.backup.calendar import from_start_time
from bastide.base.errors import AlreadyExists, BastideError, Conflict, InvalidParameter, NotFound
from bastide.base.ids import Upid
from bastide.model.access import ROOT
from bastide.model.backup_options import BackupJob
from bastide.model.container import ContainerConfig
from bastide.model.guest import Guest
from bastide.model.vm import VmConfig
from bastide.operations.backup import schedule, selection, vzdump
from bastide.operations.rooms import Rooms
from bastide.operations.temporary import temporary
from bastide.state.store import ABSENT

Start = Callable[[Rooms, BackupJob], Awaitable[Upid]]
"""Begins a job's run as a task."""

_PREFIX = "backupjob/"
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,49}", re.ASCII)
_EXCLUDING = {
    "vmid": ("all", "exclude", "pool"),
    "all": ("vmid", "pool"),
    "pool": ("vmid", "all", "exclude"),
    "storage": ("dumpdir",),
    "dumpdir": ("storage",),
    "starttime": ("schedule",),
}
"""What a change to one way of saying which guests, where to, or when, takes out of the job."""


@dataclass(frozen=True, slots=True)
class Included:
    """A volume of a guest, by its option's key, and whether a backup holds it, with the reason."""

    key: str
    volume: str
    included: bool
    reason: str


async def list_jobs(rooms: Rooms) -> list[BackupJob]:
    """All jobs in the order of their ids."""
    return [BackupJob.parse(json.loads(entry.value)) for entry in await rooms.store.list(_PREFIX)]


async def get_job(rooms: Rooms, job_id: str) -> BackupJob:
    """One job. Raises NotFound."""
    return (await _stored(rooms, job_id))[0]


async def create_job(rooms: Rooms, job: BackupJob) -> str:
    """Keep a new job and return its id, which is made up where it has none. Raises AlreadyExists, InvalidParameter."""
    job_id = job.id or f"backup-{secrets.token_hex(4)}-{secrets.token_hex(2)}"
    job = _whole({**job.to_stored(), "id": job_id})
    await _check_named(rooms, job, {"storage", *job.given})
    try:
        await rooms.store.put(_PREFIX + job_id, _to_json(job), ABSENT)
    except Conflict:
        raise AlreadyExists(f"backup job '{job_id}' already exists") from None
    await schedule.settle(rooms, _key(job_id))
    return job_id


async def update_job(rooms: Rooms, job_id: str, changes: Mapping[str, Any], delete: Iterable[str] = ()) -> None:
    """Change a job, in the API's keys. Raises NotFound, InvalidParameter, Conflict."""
    before, revision = await _stored(rooms, job_id)
    values: dict[str, Any] = dict(before.to_stored())
    known = {field.alias or name for name, field in BackupJob.model_fields.items()} - {"id"}
    if wrong := sorted(set(delete) - known):
        raise InvalidParameter({"delete": f"a backup job has no property '{wrong[0][:60]}'"})
    if both := sorted(set(delete) & set(changes)):
        raise InvalidParameter({both[0]: "set and deleted at the same time"})
    gone = taken_out(changes, delete)
    values = {key: value for key, value in values.items() if key not in gone} | dict(changes)
    after = _whole({**values, "id": job_id})
    await _check_named(rooms, after, {*changes, *delete})
    await rooms.store.put(_PREFIX + job_id, _to_json(after), revision)
    if (after.schedule, after.enabled) != (before.schedule, before.enabled):
        await schedule.settle(rooms, _key(job_id))


def taken_out(changes: Mapping[str, Any], delete: Iterable[str] = ()) -> frozenset[str]:
    """The keys that a change takes out of a job: those to delete, and what does not go together with what is set."""
    gone = set(delete)
    for key, others in _EXCLUDING.items():
        if changes.get(key):
            gone |= set(others) - set(changes)
    if "prune-backups" in changes:
        gone |= {"maxfiles"} - set(changes)
    return frozenset(gone)


async def delete_job(rooms: Rooms, job_id: str) -> None:
    """Remove a job; a run of it goes on. Raises NotFound."""
    await _stored(rooms, job_id)
    await rooms.store.delete(_PREFIX + job_id)
    await schedule.forget(rooms, _key(job_id))


async def forget_guest(rooms: Rooms, vmid: int) -> list[str]:
    """Take a guest that is gone out of the jobs that name it; a job that names no other is removed.

    Returns why it could not be, for each job that names it still.
    """
    problems = []
    for job in await list_jobs(rooms):
        if vmid not in job.vmids or job.id is None:
            continue
        left = ",".join(str(one) for one in job.vmids if one != vmid)
        try:
            await (update_job(rooms, job.id, {"vmid": left}) if left else delete_job(rooms, job.id))
        except BastideError as error:
            problems.append(f"backup job '{job.id}' still names {vmid}: {error}")
    return problems


async def next_run(rooms: Rooms, job: BackupJob) -> int | None:
    """When it runs next, in seconds since the epoch; None for a disabled one, or when its times are over."""
    if not job.enabled or job.schedule is None or job.id is None:
        return None
    return await schedule.next_run(rooms, _key(job.id), job.schedule)


async def last_run(rooms: Rooms, job: BackupJob) -> schedule.Ran | None:
    """Its last run."""
    return await schedule.last(rooms, _key(job.id or ""))


async def run(rooms: Rooms, job: BackupJob) -> Upid:
    """Begin a job's run as root@pam. Raises what `vzdump` does."""
    return await vzdump.start(rooms, ROOT, job.options(), job=job.id)


def source(start: Start = run) -> schedule.Source:
    """The enabled jobs of this node, for the scheduler; each is begun by `start`."""

    async def timed(rooms: Rooms) -> Sequence[schedule.Timed]:
        return [
            schedule.Timed(_key(job.id), job.schedule, partial(start, rooms, job), job.repeat_missed)
            for job in await list_jobs(rooms)
            if job.enabled and job.schedule is not None and job.node in (None, rooms.node)
        ]

    return timed


def included_volumes(guest: Guest) -> list[Included]:
    """The volumes of a guest, and which of them its backup holds; media are none."""
    if guest.kind == "qemu":
        return _of_vm(VmConfig.parse(guest.config))
    return _of_container(ContainerConfig.parse(guest.config))


async def saved(rooms: Rooms, job: BackupJob) -> list[Guest]:
    """The guests that a job saves; none when its pool is gone."""
    try:
        return await selection.chosen(rooms, job)
    except NotFound:
        return []


async def not_backed_up(rooms: Rooms) -> list[Guest]:
    """The guests that no enabled job saves."""
    safe = set(await temporary(rooms))
    for job in await list_jobs(rooms):
        if job.enabled:
            safe |= {guest.vmid for guest in await saved(rooms, job)}
    return [guest for guest in await rooms.guests.list() if guest.vmid not in safe]


def _of_vm(config: VmConfig) -> list[Included]:
    cdroms = {key for key, drive in config.drives() if drive.is_cdrom}
    found = []
    for key, volume in config.volumes():
        if key in cdroms:
            continue
        wanted = getattr(volume, "backup", None) is not False
        found.append(Included(key, volume.file, wanted, f"backup={'yes' if wanted else 'no'}"))
    return found


def _of_container(config: ContainerConfig) -> list[Included]:
    found = [Included("rootfs", config.rootfs.volume, True, "rootfs")] if config.rootfs is not None else []
    for index, mount in sorted(config.mp.items()):
        own = not mount.volume.startswith("/")
        reason = "not a volume" if not own else "enabled" if mount.backup else "disabled"
        found.append(Included(f"mp{index}", mount.volume, own and bool(mount.backup), reason))
    return found


def _whole(values: Mapping[str, Any]) -> BackupJob:
    """A whole job with its schedule in one form. Raises InvalidParameter."""
    job = BackupJob.parse({key: value for key, value in values.items() if value is not None})
    if job.starttime is not None:
        event = from_start_time(job.starttime, job.dow)
        rest = {key: value for key, value in job.to_stored().items() if key not in ("starttime", "dow")}
        job = BackupJob.parse({**rest, "schedule": event})
    if job.schedule is None:
        raise InvalidParameter({"schedule": "property is missing and it is not optional: say when, such as '02:30'"})
    schedule.check(job.schedule)
    job.check_selection()
    return job


async def _check_named(rooms: Rooms, job: BackupJob, keys: Set[str]) -> None:
    """Raise InvalidParameter unless what these keys name is there; what others name may be gone meanwhile."""
    if "node" in keys and job.node not in (None, rooms.node):
        raise InvalidParameter({"node": f"there is no node '{job.node}'"})
    if keys & {"storage", "dumpdir", "fleecing"}:
        await vzdump.place(rooms, job)
    if "pool" in keys:
        await selection.check_pool(rooms, job)


async def _stored(rooms: Rooms, job_id: str) -> tuple[BackupJob, int]:
    entry = await rooms.store.get(_PREFIX + job_id) if _ID.fullmatch(job_id) else None
    if entry is None:
        raise NotFound(f"no such job '{job_id[:60]}': the backup job does not exist")
    return BackupJob.parse(json.loads(entry.value)), entry.revision


def _to_json(job: BackupJob) -> str:
    return json.dumps(job.to_stored(), sort_keys=True)


def _key(job_id: str | None) -> str:
    return f"backupjob/{job_id}"
