"""`/bastide/backup`: verification of backups and restore tests, by hand and as jobs."""

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field

from bastide.api.fields import volume_on
from bastide.api.lists import index
from bastide.api.routing import Branch, Call, NoParameters
from bastide.api.shapes_storage import RestoreTestRow, TestJobRow, VerifyJobRow
from bastide.model.audit import Bulk
from bastide.model.backup_proof import JobId, RestoreTestJob, RestoreTestOptions, VerifyJob
from bastide.model.record import Multiline, Record
from bastide.model.types import ConfigKeys, StorageId, Vmid, VolumeIdText, split_list
from bastide.operations.backup import proof_jobs, proofs, trial, verify

branch = Branch("/bastide/backup")

_AUDIT = ("perm", "/", ("Sys.Audit",))
_MODIFY = ("perm", "/", ("Sys.Modify",))
_TRY = (
    "and",
    _MODIFY,
    # A test makes a guest, and its command sees what is in a guest.
    ("perm", "/vms", ("VM.Allocate", "VM.Backup", "VM.Console")),
    ("perm", "/storage/{storage}", ("Datastore.AllocateSpace",)),
)
_READ = ("perm", "/storage/{storage}", ("Datastore.Allocate",))


class Verify(Record):
    """A storage, and which of its backups: one by its volume id, a guest's, or all.

    With `outdated-after` those are left out that were fine less than as many days ago.
    """

    storage: StorageId
    volume: VolumeIdText | None = None
    vmid: Vmid | None = None
    outdated_after: Annotated[int | None, Field(alias="outdated-after", ge=0, le=36_500)] = None


class JobPath(Record):
    """A job."""

    id: JobId


class VerifyJobChange(JobPath):
    """What to change in a verification's job."""

    storage: StorageId | None = None
    schedule: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    enabled: bool | None = None
    comment: Annotated[str | None, Field(max_length=512)] = None
    repeat_missed: Annotated[bool | None, Field(alias="repeat-missed")] = None
    outdated_after: Annotated[int | None, Field(alias="outdated-after", ge=0, le=36_500)] = None
    delete: ConfigKeys | None = None


class TestJobChange(JobPath):
    """What to change in a restore test's job."""

    storage: StorageId | None = None
    schedule: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    enabled: bool | None = None
    comment: Annotated[str | None, Field(max_length=512)] = None
    repeat_missed: Annotated[bool | None, Field(alias="repeat-missed")] = None
    vmid: Annotated[str | None, Field(max_length=65_536)] = None
    all: bool | None = None
    exclude: Annotated[str | None, Field(max_length=65_536)] = None
    backup_storage: Annotated[StorageId | None, Field(alias="backup-storage")] = None
    command: Annotated[str | None, Field(min_length=1, max_length=8192), Multiline(), Bulk()] = None
    timeout: Annotated[int | None, Field(ge=10, le=86_400)] = None
    delete: ConfigKeys | None = None


class TestsQuery(Record):
    """Tests of one guest, and of backups on one storage; `limit` is how many."""

    vmid: Vmid | None = None
    storage: StorageId | None = None
    limit: Annotated[int, Field(ge=1, le=proofs.KEPT)] = 50


@branch.get("", NoParameters, user="all")
async def read_index(_call: Call, _p: NoParameters) -> list[dict[str, str]]:
    """Index."""
    return index("name", "test-jobs", "tests", "verify", "verify-jobs")


@branch.post("/verify", Verify, check=_READ)
async def start_verify(call: Call, p: Verify) -> str:
    """Read backups to their ends and compare checksums, as a task."""
    volid = None if p.volume is None else volume_on(p.storage, p.volume)
    wanted = verify.Wanted(p.storage, volid, p.vmid, p.outdated_after)
    return str(await verify.start_verify(call.rooms, call.identity, wanted))


@branch.get("/tests", TestsQuery, check=_AUDIT, answer=list[RestoreTestRow])
async def list_tests(call: Call, p: TestsQuery) -> list[dict[str, Any]]:
    """How restore tests went, newest first."""
    found = await proofs.restore_tests(call.rooms, p.storage)
    wanted = [test for test in found if p.vmid in (None, test.vmid)][: p.limit]
    return [{key: value for key, value in asdict(test).items() if value is not None} for test in wanted]


@branch.post("/tests", RestoreTestOptions, check=_TRY)
async def start_tests(call: Call, p: RestoreTestOptions) -> str:
    """Restore the newest backup of guests on trial, boot and ask what came of it, and remove it, as a task."""
    return str(await trial.start_tests(call.rooms, call.identity, p))


@branch.get("/verify-jobs", NoParameters, check=_AUDIT, answer=list[VerifyJobRow])
async def list_verify_jobs(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The verifications that run by themselves."""
    known = proof_jobs.VERIFY
    return [await known.row(call.rooms, job) for job in await known.list(call.rooms)]


@branch.post("/verify-jobs", VerifyJob, check=("and", _MODIFY, _READ))
async def create_verify_job(call: Call, p: VerifyJob) -> None:
    """Verify a storage's backups at times."""
    await proof_jobs.VERIFY.create(call.rooms, p)


@branch.put("/verify-jobs/{id}", VerifyJobChange, check=_MODIFY)
async def update_verify_job(call: Call, p: VerifyJobChange) -> None:
    """Change when a storage's backups are verified."""
    if p.storage is not None:
        await call.require(f"/storage/{p.storage}", "Datastore.Allocate")
    await proof_jobs.VERIFY.update(call.rooms, p.id, _changes(p), split_list(p.delete or ""))


@branch.delete("/verify-jobs/{id}", JobPath, check=_MODIFY)
async def delete_verify_job(call: Call, p: JobPath) -> None:
    """Verify them at times no more; a run goes on."""
    await proof_jobs.VERIFY.delete(call.rooms, p.id)


@branch.get("/test-jobs", NoParameters, check=_AUDIT, answer=list[TestJobRow])
async def list_test_jobs(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The restore tests that run by themselves."""
    known = proof_jobs.RESTORE_TESTS
    return [await known.row(call.rooms, job) for job in await known.list(call.rooms)]


@branch.post("/test-jobs", RestoreTestJob, check=_TRY)
async def create_test_job(call: Call, p: RestoreTestJob) -> None:
    """Try backups at times."""
    await proof_jobs.RESTORE_TESTS.create(call.rooms, p)


@branch.put("/test-jobs/{id}", TestJobChange, check=_MODIFY)
async def update_test_job(call: Call, p: TestJobChange) -> None:
    """Change when and how backups are tried."""
    await call.require("/vms", "VM.Allocate", "VM.Backup", "VM.Console")
    known, changes, delete = proof_jobs.RESTORE_TESTS, _changes(p), split_list(p.delete or "")
    after = known.changed(await known.get(call.rooms, p.id), changes, delete)
    await call.require(f"/storage/{after.storage}", "Datastore.AllocateSpace")
    await known.update(call.rooms, p.id, changes, delete)


@branch.delete("/test-jobs/{id}", JobPath, check=_MODIFY)
async def delete_test_job(call: Call, p: JobPath) -> None:
    """Try them at times no more; a run goes on."""
    await proof_jobs.RESTORE_TESTS.delete(call.rooms, p.id)


def _changes(p: Record) -> dict[str, Any]:
    return {key: value for key, value in p.to_text().items() if key not in ("id", "delete")}
