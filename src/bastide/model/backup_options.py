"""What a backup can be asked to be: the parameters of Proxmox VE's `vzdump`, and of jobs that run it.

Source: the reference of `POST /nodes/{node}/vzdump` and `/cluster/backup`.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from bastide.base.errors import InvalidParameter
from bastide.base.ids import VMID_MAX, VMID_MIN
from bastide.model.backup import BackupMode, Compression
from bastide.model.record import PropertyString, Record, Scalar
from bastide.model.storage import PruneBackups
from bastide.model.types import NodeName, PoolId, StorageId, split_list

STANDARD_EXCLUDES = ("/tmp/?*", "/var/tmp/?*", "/var/run/?*.pid")  # noqa: S108 - places in guests
"""What `stdexcludes` leaves out of a container's backup."""

_ADDRESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(@[A-Za-z0-9][A-Za-z0-9.-]*)?", re.ASCII)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_KEYS = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_NOTES: frozenset[str] = frozenset({"cluster", "guestname", "node", "vmid"})


def _vmids(text: str) -> str:
    found = split_list(text)
    for part in found:
        if not (part.isascii() and part.isdigit() and VMID_MIN <= int(part) <= VMID_MAX):
            raise ValueError(f"'{part[:40]}' is not the id of a guest: {VMID_MIN} to {VMID_MAX}")
    return ",".join(str(int(part)) for part in dict.fromkeys(found))


def _addresses(text: str) -> str:
    for part in split_list(text):
        if len(part) > 254 or _ADDRESS.fullmatch(part) is None:
            raise ValueError(f"'{part[:80]}' is neither an email address nor a user")
    return ",".join(split_list(text))


def _folder(text: str) -> str:
    if any(part in (".", "..") for part in text.split("/")):
        raise ValueError("the path has to be plain and absolute")
    return text.rstrip("/") or "/"


def _webhook(text: str) -> str:
    try:
        parts = urlsplit(text)
        sound = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("expected the address of an HTTPS server: https://HOST/PATH")
    return text


def _template(text: str) -> str:
    for key in _KEYS.findall(text):
        if key not in _NOTES:
            known = ", ".join(f"{{{{{name}}}}}" for name in sorted(_NOTES))
            raise ValueError(f"'{{{{{key[:40]}}}}}' is not known: use {known}")
    return text


def _days(text: str) -> str:
    for part in split_list(text):
        if part not in _DAYS:
            raise ValueError(f"'{part[:20]}' is not a day: {', '.join(_DAYS)}")
    return ",".join(dict.fromkeys(split_list(text)))


VmidList = Annotated[str, Field(max_length=65536), AfterValidator(_vmids)]
_Path = Annotated[str, Field(pattern=r"^/[^\x00-\x1f\x7f]*$", max_length=4096), AfterValidator(_folder)]
_Pattern = Annotated[str, Field(min_length=1, max_length=4096)]
_Webhook = Annotated[str, Field(pattern=r"^https://[!-~]+$", max_length=4096), AfterValidator(_webhook)]
_Script = Annotated[str, Field(pattern=r"^/[^\x00-\x1f\x7f]*$", max_length=4096)]
_JobId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]+$", max_length=50)]


class Fleecing(PropertyString):
    """Whether what a running VM overwrites is kept on a storage of its own until the backup has read it, and where."""

    default_key: ClassVar[str | None] = "enabled"
    schema_format: ClassVar[str] = "backup-fleecing"
    enabled: bool = False
    storage: StorageId | None = None


class Performance(PropertyString):
    """Proxmox VE's tuning of its own QEMU and backup server; accepted, and without effect here."""

    schema_format: ClassVar[str] = "backup-performance"
    max_workers: Annotated[int | None, Field(alias="max-workers", ge=1, le=256)] = None
    pbs_entries_max: Annotated[int | None, Field(alias="pbs-entries-max", ge=1)] = None


class BackupOptions(Record):
    """One run of `vzdump`, in Proxmox VE's keys, ranges and defaults.

    `bwlimit` is in KiB a second, `lockwait` and `stopwait` in minutes. A `webhook` is ours: an HTTPS server that gets
    the result as JSON. Accepted and without effect: `quiet`, `performance`, `pbs-change-detection-mode`, and
    `notification-mode`, as there is one way to notify. `maxfiles` is the old word for `prune-backups=keep-last=N`.
    """

    vmid: VmidList | None = None
    all: bool = False
    exclude: VmidList | None = None
    pool: PoolId | None = None
    # Where to.
    storage: StorageId | None = None
    dumpdir: _Path | None = None
    tmpdir: _Path | None = None
    # How.
    mode: BackupMode = "snapshot"
    compress: Literal["0", "1", "gzip", "lzo", "zstd"] = "0"
    zstd: Annotated[int, Field(ge=0, le=1024)] = 1
    pigz: Annotated[int, Field(ge=0, le=1024)] = 0
    bwlimit: Annotated[int, Field(ge=0)] = 0
    ionice: Annotated[int, Field(ge=0, le=8)] = 7
    lockwait: Annotated[int, Field(ge=0)] = 180
    stopwait: Annotated[int, Field(ge=0)] = 10
    exclude_path: Annotated[list[_Pattern] | None, Field(alias="exclude-path", max_length=1024)] = None
    stdexcludes: bool = True
    fleecing: Fleecing | None = None
    performance: Performance | None = None
    script: _Script | None = None
    stop: bool = False
    quiet: bool = False
    pbs_change_detection_mode: Annotated[
        Literal["legacy", "data", "metadata"] | None, Field(alias="pbs-change-detection-mode")
    ] = None
    # What becomes of it.
    notes_template: Annotated[
        Annotated[str, AfterValidator(_template)] | None, Field(alias="notes-template", max_length=1024)
    ] = None
    protected: bool | None = None
    prune_backups: Annotated[PruneBackups | None, Field(alias="prune-backups")] = None
    maxfiles: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    remove: bool = True
    # Who is told.
    mailto: Annotated[str, Field(max_length=4096), AfterValidator(_addresses)] | None = None
    mailnotification: Literal["always", "failure"] = "always"
    notification_mode: Annotated[
        Literal["auto", "legacy-sendmail", "notification-system"], Field(alias="notification-mode")
    ] = "auto"
    webhook: _Webhook | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        given = self.given
        for key in ("all", "exclude", "pool"):
            if self.vmid is not None and getattr(self, key):
                raise ValueError(f"{key}: option conflicts with option 'vmid'")
        if self.all and self.pool is not None:
            raise ValueError("pool: option conflicts with option 'all'")
        if self.maxfiles is not None and self.prune_backups is not None:
            raise ValueError("prune-backups: option conflicts with option 'maxfiles'")
        if self.storage is not None and self.dumpdir is not None:
            raise ValueError("dumpdir: option conflicts with option 'storage'")
        for key in ("notes-template", "protected"):
            if key in given and self.storage is None:
                raise ValueError(f"{key}: missing property 'storage': it is kept there")
        if self.dumpdir is not None and self.keep is not None:
            raise ValueError("prune-backups: backups are pruned on storages alone: make one of 'dumpdir'")
        return self

    @property
    def given(self) -> frozenset[str]:
        """The keys that somebody set."""
        fields = type(self).model_fields
        return frozenset(fields[name].alias or name for name in self.model_fields_set)

    @property
    def vmids(self) -> tuple[int, ...]:
        """The guests that are named."""
        return tuple(map(int, split_list(self.vmid or "")))

    @property
    def excluded(self) -> frozenset[int]:
        """The guests that are left out."""
        return frozenset(map(int, split_list(self.exclude or "")))

    @property
    def every(self) -> bool:
        """Whether all guests are meant but the excluded ones."""
        return self.all or (self.exclude is not None and self.pool is None)

    @property
    def compression(self) -> Compression:
        """How the archive is compressed."""
        return "lzo" if self.compress == "1" else self.compress

    @property
    def keep(self) -> PruneBackups | None:
        """Which backups stay where the call says it."""
        if self.maxfiles is not None:
            return PruneBackups.parse({"keep-last": self.maxfiles})
        return self.prune_backups

    @property
    def excludes(self) -> tuple[str, ...]:
        """The patterns of what is left out of a container's backup."""
        return (*(self.exclude_path or ()), *(STANDARD_EXCLUDES if self.stdexcludes else ()))

    def check_selection(self) -> None:
        """Raise InvalidParameter naming `vmid` unless it says which guests are meant."""
        if not (self.vmids or self.every or self.pool is not None or self.stop):
            raise InvalidParameter({"vmid": "property is missing: name guests, a pool, or all of them"})

    def options(self) -> "BackupOptions":
        """What one run is asked for, without what a job or a call says besides."""
        return BackupOptions.parse({key: value for key, value in self.to_stored().items() if BackupOptions.knows(key)})

    def to_stored(self) -> dict[str, Scalar | list[str]]:
        """What was set, in the keys of the API, as `parse` reads it and jobs are shown."""
        shown: dict[str, Scalar | list[str]] = {
            key: value for key, value in self.to_text().items() if key in self.given
        }
        if self.exclude_path is not None:
            shown["exclude-path"] = list(self.exclude_path)
        return shown


class BackupJob(BackupOptions):
    """A backup that runs by itself: when, and what about it. `schedule` is a calendar event (`sat 02:30`).

    `starttime` and `dow` are the old form of a schedule. With `repeat_missed` what was due while the host was down is
    made up for once.
    """

    id: _JobId | None = None
    schedule: Annotated[str | None, Field(max_length=128)] = None
    starttime: Annotated[str | None, Field(pattern=r"^\d{1,2}:\d{1,2}$")] = None
    dow: Annotated[str, Field(max_length=64), AfterValidator(_days)] = ",".join(_DAYS)
    enabled: bool = True
    comment: Annotated[str | None, Field(max_length=512)] = None
    repeat_missed: Annotated[bool, Field(alias="repeat-missed")] = False
    node: NodeName | None = None

    @model_validator(mode="after")
    def _timed(self) -> Self:
        if self.starttime is not None and self.schedule is not None:
            raise ValueError("starttime: option conflicts with option 'schedule'")
        if "dow" in self.given and self.starttime is None:
            raise ValueError("dow: missing property 'starttime'")
        return self


def notes(template: str, values: Mapping[str, str] = MappingProxyType({})) -> str:
    """The notes of a template: `{{guestname}}` becomes `values["guestname"]`, `\\n` a new line, `\\\\` one `\\`."""
    unescaped = re.sub(r"\\(n|\\)", lambda found: "\n" if found[1] == "n" else "\\", template)
    return _KEYS.sub(lambda found: values.get(found[1], found[0]), unescaped)
