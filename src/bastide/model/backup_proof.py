"""What proves backups: restore tests and verifications, asked for once or as jobs with a schedule."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from bastide.model.audit import Bulk
from bastide.model.backup_options import VmidList
from bastide.model.record import Multiline, Record
from bastide.model.types import StorageId

JobId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]+$", max_length=50)]
_Schedule = Annotated[str, Field(min_length=1, max_length=128)]


class RestoreTestOptions(Record):
    """Which guests' newest backups are restored on trial, where to, and what must succeed in them.

    Guests are named by `vmid`, or `all` but those in `exclude`: all of which there are backups, also guests that are no
    more. The restored volumes go to `storage`; backups are looked for on `backup-storage`, else everywhere. `command`
    is for `/bin/sh -c` as root of the restored guest and must end with 0. `timeout` in seconds is what booting may
    take, and the command once more.
    """

    vmid: VmidList | None = None
    all: bool = False
    exclude: VmidList | None = None
    storage: StorageId = "local"
    backup_storage: Annotated[StorageId | None, Field(alias="backup-storage")] = None
    command: Annotated[str | None, Field(min_length=1, max_length=8192), Multiline(), Bulk()] = None
    timeout: Annotated[int, Field(ge=10, le=86_400)] = 600

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.vmid and not self.all:
            raise ValueError("vmid: property is missing: name guests, or say all=1")
        if self.vmid is not None and (self.all or self.exclude is not None):
            raise ValueError("vmid: option conflicts with 'all' and 'exclude'")
        return self


class Timetable(Record):
    """A job that runs by itself: `schedule` is a calendar event (`sat 04:00`)."""

    id: JobId
    schedule: _Schedule
    enabled: bool = True
    comment: Annotated[str | None, Field(max_length=512)] = None
    repeat_missed: Annotated[bool, Field(alias="repeat-missed")] = False


class RestoreTestJob(RestoreTestOptions, Timetable):
    """A restore test with a schedule."""


class VerifyJob(Timetable):
    """A verification with a schedule: of a storage's backups, without those that were fine less than `outdated-after`
    days ago; 0 reads all of them every time."""

    storage: StorageId
    outdated_after: Annotated[int, Field(alias="outdated-after", ge=0, le=36_500)] = 30
