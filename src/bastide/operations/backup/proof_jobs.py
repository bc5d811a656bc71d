"""Jobs that prove backups: their records under `verifyjob/<id>` and `restoretestjob/<id>`, and when they run."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from bastide.base.errors import AlreadyExists, Conflict, InvalidParameter, NotFound
from bastide.base.ids import Upid
from bastide.model.access import ROOT
from bastide.model.backup_proof import RestoreTestJob, Timetable, VerifyJob
from bastide.operations.backup import schedule, trial, verify
from bastide.operations.rooms import Rooms
from bastide.state.store import ABSENT

J = TypeVar("J", bound=Timetable)
Start = Callable[[Rooms, J], Awaitable[Upid]]
Check = Callable[[Rooms, J], Awaitable[None]]

_STORAGES = frozenset({"storage", "backup-storage"})


class Jobs(Generic[J]):
    """The jobs of a kind; `name` is the beginning of their keys in the store, `start` begins a run as a task.

    `check` raises InvalidParameter unless the storages that a job names are there.
    """

    def __init__(self, name: str, record: type[J], start: Start[J], check: Check[J]) -> None:
        self._name, self._record, self._start, self._check = name, record, start, check

    async def list(self, rooms: Rooms) -> Sequence[J]:
        """All jobs in the order of their ids."""
        return [self._record.parse(json.loads(entry.value)) for entry in await rooms.store.list(f"{self._name}/")]

    async def get(self, rooms: Rooms, job_id: str) -> J:
        """One job. Raises NotFound."""
        return (await self._stored(rooms, job_id))[0]

    async def create(self, rooms: Rooms, job: J) -> None:
        """Keep a new job. Raises AlreadyExists, InvalidParameter."""
        schedule.check(job.schedule)
        await self._check(rooms, job)
        try:
            await rooms.store.put(f"{self._name}/{job.id}", _to_json(job), ABSENT)
        except Conflict:
            raise AlreadyExists(f"job '{job.id}' already exists") from None
        await schedule.settle(rooms, self._key(job.id))

    async def update(self, rooms: Rooms, job_id: str, changes: Mapping[str, Any], delete: Iterable[str] = ()) -> None:
        """Change a job, in the API's keys. Raises NotFound, InvalidParameter, Conflict."""
        before, revision = await self._stored(rooms, job_id)
        after = self.changed(before, changes, delete)
        if _STORAGES & changes.keys():
            await self._check(rooms, after)
        await rooms.store.put(f"{self._name}/{job_id}", _to_json(after), revision)
        if (after.schedule, after.enabled) != (before.schedule, before.enabled):
            await schedule.settle(rooms, self._key(job_id))

    def changed(self, job: J, changes: Mapping[str, Any], delete: Iterable[str] = ()) -> J:
        """What a change makes of a job. Raises InvalidParameter."""
        removed = set(delete)
        if wrong := sorted(key for key in removed if not self._record.knows(key) or key == "id"):
            raise InvalidParameter({"delete": f"the job has no property '{wrong[0][:60]}'"})
        values = {key: value for key, value in job.to_text().items() if key not in removed}
        after = self._record.parse({**values, **changes, "id": job.id})
        schedule.check(after.schedule)
        return after

    async def delete(self, rooms: Rooms, job_id: str) -> None:
        """Remove a job; a run of it goes on. Raises NotFound."""
        await self._stored(rooms, job_id)
        await rooms.store.delete(f"{self._name}/{job_id}")
        await schedule.forget(rooms, self._key(job_id))

    async def row(self, rooms: Rooms, job: J) -> dict[str, Any]:
        """A job as it is shown, with `next-run` (seconds since the epoch) and the task of its `last-run`."""
        row: dict[str, Any] = {**job.to_text()}
        ran = await schedule.last(rooms, self._key(job.id))
        if ran is not None and ran.upid is not None:
            row["last-run"] = {"upid": ran.upid, "started": ran.started}
        following = await schedule.next_run(rooms, self._key(job.id), job.schedule) if job.enabled else None
        return row if following is None else {**row, "next-run": following}

    async def run(self, rooms: Rooms, job_id: str) -> Upid:
        """Begin a job now. Raises NotFound, and what its work does."""
        return await self._start(rooms, await self.get(rooms, job_id))

    async def timed(self, rooms: Rooms) -> Sequence[schedule.Timed]:
        """The enabled jobs, for the scheduler."""
        return [
            schedule.Timed(self._key(job.id), job.schedule, partial(self._start, rooms, job), job.repeat_missed)
            for job in await self.list(rooms)
            if job.enabled
        ]

    async def _stored(self, rooms: Rooms, job_id: str) -> tuple[J, int]:
        entry = await rooms.store.get(f"{self._name}/{job_id}")
        if entry is None:
            raise NotFound(f"no such job '{job_id[:60]}': it does not exist")
        return self._record.parse(json.loads(entry.value)), entry.revision

    def _key(self, job_id: str) -> str:
        return f"{self._name}/{job_id}"


async def _verify(rooms: Rooms, job: VerifyJob) -> Upid:
    return await verify.start_verify(rooms, ROOT, verify.Wanted(job.storage, outdated_after=job.outdated_after))


async def _check_storage(rooms: Rooms, job: VerifyJob) -> None:
    await verify.check_storage(rooms, job.storage)


async def _try(rooms: Rooms, job: RestoreTestJob) -> Upid:
    return await trial.start_tests(rooms, ROOT, job)


def _to_json(job: Timetable) -> str:
    return json.dumps(job.to_text(), sort_keys=True)


VERIFY = Jobs("verifyjob", VerifyJob, _verify, _check_storage)
"""Verifications."""

RESTORE_TESTS = Jobs("restoretestjob", RestoreTestJob, _try, trial.check_places)
"""Restore tests."""
