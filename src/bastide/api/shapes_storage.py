"""What is answered of storages, volumes, images and backup jobs."""

from typing import Literal, TypeAlias

from bastide.api.shape import Flag, NotRequired, TypedDict, shape

Parts: TypeAlias = dict[str, str | int]
"""A property string by its parts."""


@shape
class Formats(TypedDict):
    """What volumes of guests can be, and what they are when nobody says."""

    default: str
    supported: list[str]


@shape
class StorageStatus(TypedDict):
    """A storage's space in bytes, missing while it is disabled; `promised` is the share that volumes may grow to."""

    type: str
    content: str
    shared: Flag
    enabled: Flag
    active: Flag
    total: NotRequired[int]
    used: NotRequired[int]
    avail: NotRequired[int]
    used_fraction: NotRequired[float]
    allocated: NotRequired[int]
    promised: NotRequired[float]


@shape
class StorageRow(StorageStatus):
    """A storage and its space."""

    storage: str
    formats: NotRequired[Formats]


@shape
class Verification(TypedDict):
    """How the last reading of a backup went."""

    state: str
    upid: str


@shape
class TestResult(TypedDict):
    """How the last restore test of a backup went; `started` in seconds since the epoch."""

    ok: Flag
    started: int
    upid: str


class _Volume(TypedDict):
    format: str
    size: int
    used: NotRequired[int]
    ctime: NotRequired[int]
    vmid: NotRequired[int]
    parent: NotRequired[str]
    subtype: NotRequired[str]
    notes: NotRequired[str]
    protected: NotRequired[Flag]


_Proofs = TypedDict("_Proofs", {"restore-test": NotRequired[TestResult]})


@shape
class VolumeRow(_Volume, _Proofs):
    """A volume on a storage; sizes in bytes, `ctime` in seconds since the epoch."""

    volid: str
    content: str
    verification: NotRequired[Verification]


@shape
class VolumeInfo(_Volume):
    """A volume and where it lies."""

    path: str


_Means = TypedDict("_Means", {"copy-on-write": NotRequired[str]})


@shape
class StorageMeans(_Means):
    """What a storage does for guests; `lacks` names programs that the host has not."""

    storage: str
    type: str
    lacks: NotRequired[str]


@shape
class ImageRow(TypedDict):
    """An image, and what its manifest says; `packages` is how many are in it."""

    type: Literal["lxc", "qemu"]
    volid: str
    storage: str
    name: str
    format: str
    size: int
    ctime: int
    alias: NotRequired[str]
    distribution: NotRequired[str]
    release: NotRequired[str]
    codename: NotRequired[str]
    architecture: NotRequired[str]
    variant: NotRequired[str]
    sha256: NotRequired[str]
    built: NotRequired[str | int]
    source: NotRequired[str]
    packages: NotRequired[int]
    cloudinit: NotRequired[Flag]


@shape
class BuildableRow(TypedDict):
    """An image that this host can build."""

    name: str
    type: Literal["lxc", "qemu"]


@shape
class UrlMetadata(TypedDict):
    """A file elsewhere."""

    filename: NotRequired[str]
    mimetype: NotRequired[str]
    size: NotRequired[int]


_JobNames = TypedDict(
    "_JobNames",
    {
        "next-run": NotRequired[int],
        "prune-backups": NotRequired[Parts],
        "notes-template": NotRequired[str],
        "repeat-missed": NotRequired[Flag],
        "exclude-path": NotRequired[list[str]],
        "notification-mode": NotRequired[str],
        "pbs-change-detection-mode": NotRequired[str],
    },
)


@shape
class BackupJobRow(_JobNames):
    """A backup job: what was set of it, and when it runs next (seconds since the epoch)."""

    id: str
    type: Literal["vzdump"]
    mode: str
    enabled: Flag
    schedule: NotRequired[str]
    starttime: NotRequired[str]
    dow: NotRequired[str]
    comment: NotRequired[str]
    node: NotRequired[str]
    vmid: NotRequired[str]
    all: NotRequired[Flag]
    exclude: NotRequired[str]
    pool: NotRequired[str]
    storage: NotRequired[str]
    dumpdir: NotRequired[str]
    tmpdir: NotRequired[str]
    compress: NotRequired[str]
    zstd: NotRequired[int]
    pigz: NotRequired[int]
    bwlimit: NotRequired[int]
    ionice: NotRequired[int]
    lockwait: NotRequired[int]
    stopwait: NotRequired[int]
    stdexcludes: NotRequired[Flag]
    fleecing: NotRequired[Parts]
    performance: NotRequired[Parts]
    script: NotRequired[str]
    stop: NotRequired[Flag]
    quiet: NotRequired[Flag]
    protected: NotRequired[Flag]
    maxfiles: NotRequired[int]
    remove: NotRequired[Flag]
    mailto: NotRequired[str]
    mailnotification: NotRequired[str]
    webhook: NotRequired[str]


@shape
class UnsavedGuest(TypedDict):
    """A guest that no job saves."""

    vmid: int
    type: Literal["lxc", "qemu"]
    name: str


@shape
class NextRun(TypedDict):
    """A moment of a schedule, in seconds since the epoch and as text."""

    timestamp: int
    utc: str


@shape
class RestoreTestRow(TypedDict):
    """A restore that was tried; `started` in seconds since the epoch, `duration` in seconds."""

    backup: str
    vmid: int
    kind: Literal["lxc", "qemu"]
    started: int
    duration: float
    ok: bool
    step: str
    upid: str
    reason: NotRequired[str]
    output: NotRequired[str]


@shape
class LastRun(TypedDict):
    """The task of a job's last run."""

    upid: str
    started: int


_ProofNames = TypedDict(
    "_ProofNames",
    {"next-run": NotRequired[int], "last-run": NotRequired[LastRun], "repeat-missed": NotRequired[Flag]},
)
_VerifyNames = TypedDict("_VerifyNames", {"outdated-after": int})
_TestNames = TypedDict("_TestNames", {"backup-storage": NotRequired[str]})


class _ProofJob(_ProofNames):
    id: str
    schedule: str
    enabled: Flag
    storage: str
    comment: NotRequired[str]


@shape
class VerifyJobRow(_ProofJob, _VerifyNames):
    """A verification that runs by itself."""


@shape
class TestJobRow(_ProofJob, _TestNames):
    """A restore test that runs by itself."""

    timeout: int
    all: Flag
    vmid: NotRequired[str]
    exclude: NotRequired[str]
    command: NotRequired[str]


@shape
class PruneRow(TypedDict):
    """What pruning would do with a backup, and by which rule."""

    volid: str
    ctime: int
    mark: Literal["keep", "remove", "protected", "renamed"]
    type: Literal["lxc", "qemu", "unknown"]
    vmid: NotRequired[int]
    rule: NotRequired[str]


@shape
class FileRow(TypedDict):
    """A file in a backup: `filepath` is its path in base64, `mtime` in seconds since the epoch."""

    filepath: str
    text: str
    type: str
    leaf: bool
    size: NotRequired[int]
    mtime: NotRequired[float]


@shape
class TemplateRow(TypedDict):
    """A container template that can be had."""

    template: str
    package: str
    version: str
    os: str
    section: str
    type: Literal["lxc", "qemu"]
    architecture: str
    headline: str
    description: str
    source: str
    location: str
    sha256: NotRequired[str]


@shape
class ImageServerRow(TypedDict):
    """An image server."""

    server: str
    url: str
