"""Storages and volumes.

`StorageConfig` has the keys of every storage type, as Proxmox VE names them; `TYPES` says which type has
which of them. Sources: the reference of `/storage`; nfs(5), mount.cifs(8), mount.ceph(8), lvm(8), zfsprops(7), rbd(8).
"""

import ipaddress
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bastide.base.errors import InvalidParameter
from bastide.model.record import PropertyString, Record, Scalar
from bastide.model.types import StorageId, VolumeIdText, is_dns_name, split_list

Content = Literal["images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"]
VolumeFormat = Literal[
    "raw", "qcow2", "subvol", "vmdk", "vdi", "vhdx", "iso", "txz", "tgz", "tzst", "tbz", "snippet",
    "tar", "tar.gz", "tar.lzo", "tar.zst", "vma", "vma.gz", "vma.lzo", "vma.zst", "borg",
]  # fmt: skip
DiskFormat = Literal["raw", "qcow2", "vmdk"]
"""What a VM's disk can be."""

StorageType = Literal["borg", "btrfs", "cephfs", "cifs", "dir", "iscsi", "lvm", "lvmthin", "nfs", "rbd", "zfspool"]
"""The types that are built; Proxmox VE knows esxi, iscsidirect, pbs and zfs besides, and has no `borg`."""

_ALL_FILES = frozenset({"vztmpl", "iso", "backup", "snippets", "import"})
_GUESTS = frozenset({"images", "rootdir"})
_FOLDER_KEYS = frozenset(
    {"format", "mkdir", "create-base-path", "create-subdirs", "preallocation", "content-dirs", "prune-backups"}
) | {"max-protected-backups", "snapshot-as-volume-chain"}
_COMMON = frozenset({"content", "nodes", "disable", "shared", "bwlimit"})


@dataclass(frozen=True, slots=True)
class TypeKeys:
    """What a storage type needs, what it may have besides, and what it can hold.

    `needed` and `fixed` cannot change once the storage is there; `default` is its content when nobody says. Two
    storages with the same `place` would write over each other. `secrets` are kept apart from the record.
    """

    needed: frozenset[str]
    contents: frozenset[str]
    default: str
    optional: frozenset[str] = frozenset()
    fixed: frozenset[str] = frozenset()
    shared: bool = False
    place: tuple[str, ...] = ("path",)
    secrets: frozenset[str] = frozenset()

    @property
    def keys(self) -> frozenset[str]:
        """Every key that a storage of the type may have in its record."""
        return self.needed | self.optional | self.fixed | _COMMON

    @property
    def unchangeable(self) -> frozenset[str]:
        """What stays as it was when the storage was added."""
        return self.needed | self.fixed | {"storage", "type"}


TYPES: Mapping[StorageType, TypeKeys] = MappingProxyType(
    {
        "dir": TypeKeys(
            frozenset({"path"}), _ALL_FILES | _GUESTS, "images,rootdir", _FOLDER_KEYS | {"is_mountpoint"}
        ),
        "btrfs": TypeKeys(
            frozenset({"path"}), _ALL_FILES | _GUESTS, "images,rootdir", _FOLDER_KEYS | {"is_mountpoint", "nocow"}
        ),
        "nfs": TypeKeys(
            frozenset({"server", "export"}), _ALL_FILES | _GUESTS, "images",
            _FOLDER_KEYS | {"options"}, frozenset({"path"}), shared=True, place=("server", "export"),
        ),
        "cifs": TypeKeys(
            frozenset({"server", "share"}), _ALL_FILES | _GUESTS, "images",
            _FOLDER_KEYS | {"username", "domain", "smbversion", "options"},
            frozenset({"path", "subdir"}), shared=True, place=("server", "share", "subdir"),
            secrets=frozenset({"password"}),
        ),
        "cephfs": TypeKeys(
            frozenset(), _ALL_FILES, "backup",
            _FOLDER_KEYS | {"monhost", "username", "fuse", "options"},
            frozenset({"path", "subdir", "fs-name"}), shared=True, place=("monhost", "fs-name", "subdir"),
            secrets=frozenset({"keyring"}),
        ),
        "lvm": TypeKeys(
            frozenset({"vgname"}), _GUESTS, "images,rootdir",
            frozenset({"saferemove", "saferemove-stepsize", "saferemove_throughput", "tagged_only"}),
            frozenset({"base"}), place=("vgname",),
        ),
        "lvmthin": TypeKeys(
            frozenset({"vgname", "thinpool"}), _GUESTS, "images,rootdir", place=("vgname", "thinpool")
        ),
        "zfspool": TypeKeys(
            frozenset({"pool"}), _GUESTS, "images,rootdir", frozenset({"blocksize", "sparse", "mountpoint"}),
            place=("pool",),
        ),
        "rbd": TypeKeys(
            frozenset({"pool"}), _GUESTS, "images",
            frozenset({"username", "krbd", "data-pool"}), frozenset({"monhost", "namespace"}), shared=True,
            place=("monhost", "pool", "namespace"), secrets=frozenset({"keyring"}),
        ),
        "borg": TypeKeys(
            frozenset({"path"}), frozenset({"backup"}), "backup",
            frozenset({"compression", "is_mountpoint", "mkdir", "create-base-path", "prune-backups"})
            | {"max-protected-backups"},
            frozenset({"encryption"}), secrets=frozenset({"passphrase"}),
        ),
        "iscsi": TypeKeys(
            frozenset({"portal", "target"}), frozenset({"images"}), "images", shared=True, place=("portal", "target")
        ),
    }
)  # fmt: skip
"""The keys of each type."""


def _server(text: str) -> str:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        if not is_dns_name(text):
            raise ValueError(f"'{text[:80]}' is neither an IP address nor a DNS name") from None
    return text


def _portal(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if colon and port.isascii() and port.isdigit() and (":" not in host or host.endswith("]")):
        if not 0 < int(port) < 65536:
            raise ValueError(f"'{port[:20]}' is not a port")
        _server(host)
    else:
        _server(text)
    return text


def _portals(text: str) -> str:
    return " ".join(_portal(part) for part in split_list(text))


def _plain_path(text: str) -> str:
    if any(part in (".", "..") for part in text.split("/")):
        raise ValueError("the path has to be plain and absolute")
    return text


def _relative_path(text: str) -> str:
    if any(part in (".", "..", "") for part in text.strip("/").split("/")):
        raise ValueError("the folder has to be plain: no '.' or '..'")
    return text


def _content_dirs(text: str) -> str:
    folders: dict[str, str] = {}
    for entry in split_list(text):
        content, equals, folder = entry.partition("=")
        if not equals or content not in _ALL_FILES | {"images"}:
            raise ValueError(f"'{entry[:80]}' is not CONTENT=FOLDER of {', '.join(sorted(_ALL_FILES | {'images'}))}")
        parts = folder.strip("/").split("/")
        if content in folders or any(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", part) is None for part in parts):
            raise ValueError(f"'{entry[:80]}' has to name one plain folder below the storage's")
        folders[content] = "/".join(parts)
    return ",".join(f"{content}={folder}" for content, folder in folders.items())


def _mount_options(text: str) -> str:
    for option in text.split(","):
        if option.partition("=")[0].lower() in _REFUSED_OPTIONS:
            raise ValueError(f"'{option.partition('=')[0]}' can't be set here")
    return text


_REFUSED_OPTIONS = frozenset(
    {"suid", "dev", "exec", "remount", "bind", "rbind", "loop", "user", "users", "username", "name", "id", "keyring"}
) | {"pass", "password", "password2", "cred", "credentials", "secret", "secretfile", "uid", "cruid", "prefixpath"}
"""Mount options that would undo ours, or put a secret where everybody reads it."""

_Path = Annotated[str, Field(pattern=r"^/[^,\x00-\x1f\x7f]*$", max_length=4096), AfterValidator(_plain_path)]
_Folder = Annotated[str, Field(pattern=r"^[^,:\x00-\x1f\x7f]+$", max_length=1024), AfterValidator(_relative_path)]
Server = Annotated[str, Field(max_length=255), AfterValidator(_server)]
Portal = Annotated[str, Field(max_length=300), AfterValidator(_portal)]
_Portals = Annotated[str, Field(max_length=2048), AfterValidator(_portals)]
_Lvm = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+.][A-Za-z0-9_+.-]*$", max_length=127)]
_Pool = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:-]*(/[A-Za-z0-9_][A-Za-z0-9_.:-]*)*$", max_length=255)]
_Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=255)]
_User = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\\@ -]*$", max_length=255)]
_Options = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_]+(=[A-Za-z0-9_./:@-]+)?(,[A-Za-z0-9_]+(=[A-Za-z0-9_./:@-]+)?)*$"),
    AfterValidator(_mount_options),
]
_ContentDirs = Annotated[str, AfterValidator(_content_dirs)]
_Rate = Annotated[int | float | None, Field(ge=0)]
_Keep = Annotated[int | None, Field(ge=0, le=1_000_000)]
_MiB = Annotated[
    Literal[1, 2, 4, 8, 16, 32], BeforeValidator(lambda value: int(value) if str(value).isdigit() else value)
]
Work = Literal["clone", "migration", "move", "restore"]
"""The kinds of work whose bandwidth a storage can limit."""


class BandwidthLimits(PropertyString):
    """Bytes that a storage is read or written with, in KiB a second, by what is done; 0 is no limit."""

    default: _Rate = None
    clone: _Rate = None
    migration: _Rate = None
    move: _Rate = None
    restore: _Rate = None

    def of(self, work: Work) -> float | None:
        """The limit for a kind of work in KiB a second; None where nothing is said of it."""
        limit: float | None = getattr(self, work)
        return self.default if limit is None else limit


class PruneBackups(PropertyString):
    """Which backups of a guest stay: the last ones, and the last of each hour, day ... that has one; else all."""

    keep_all: Annotated[bool | None, Field(alias="keep-all")] = None
    keep_last: Annotated[_Keep, Field(alias="keep-last")] = None
    keep_hourly: Annotated[_Keep, Field(alias="keep-hourly")] = None
    keep_daily: Annotated[_Keep, Field(alias="keep-daily")] = None
    keep_weekly: Annotated[_Keep, Field(alias="keep-weekly")] = None
    keep_monthly: Annotated[_Keep, Field(alias="keep-monthly")] = None
    keep_yearly: Annotated[_Keep, Field(alias="keep-yearly")] = None

    @model_validator(mode="after")
    def _all_or_some(self) -> Self:
        counted = [value for key, value in self.to_text().items() if key != "keep-all"]
        if self.keep_all and any(counted):
            raise ValueError("keep-all cannot be set together with other options")
        return self


class StorageConfig(Record):
    """One configured storage, in Proxmox VE's keys (`storage.cfg`). A key that its type does not have is refused."""

    storage: StorageId
    type: StorageType
    content: Annotated[str, Field(pattern=r"^[a-z]+([,; ][a-z]+)*$")] = "images,rootdir"
    nodes: Annotated[str, Field(max_length=4096)] | None = None
    disable: bool = False
    shared: bool = False
    bwlimit: BandwidthLimits | None = None
    # Folders.
    path: _Path | None = None
    format: Literal["raw", "subvol", "qcow2", "vmdk"] | None = None
    mkdir: bool = True
    create_base_path: Annotated[bool, Field(alias="create-base-path")] = True
    create_subdirs: Annotated[bool, Field(alias="create-subdirs")] = True
    is_mountpoint: Annotated[str, Field(max_length=4096)] | None = None
    content_dirs: Annotated[_ContentDirs | None, Field(alias="content-dirs", max_length=4096)] = None
    preallocation: Literal["off", "metadata", "falloc", "full"] | None = None
    prune_backups: Annotated[PruneBackups | None, Field(alias="prune-backups")] = None
    max_protected_backups: Annotated[int | None, Field(alias="max-protected-backups", ge=-1)] = None
    snapshot_as_volume_chain: Annotated[bool, Field(alias="snapshot-as-volume-chain")] = False
    nocow: bool = False
    # A repository of borg's. `passphrase` never stands in the record.
    encryption: Literal["repokey-blake2", "none"] | None = None
    compression: Annotated[str, Field(pattern=r"^(none|lz4|zstd(,([1-9]|1\d|2[0-2]))?)$")] | None = None
    # Network shares and clusters. `password` and `keyring` never stand in the record: see `storage/secrets.py`.
    server: Server | None = None
    export: _Path | None = None
    share: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.$ -]*$", max_length=80)] | None = None
    subdir: _Folder | None = None
    options: Annotated[_Options, Field(max_length=1024)] | None = None
    username: _User | None = None
    domain: _Word | None = None
    smbversion: Literal["default", "2.0", "2.1", "3", "3.0", "3.11"] | None = None
    monhost: _Portals | None = None
    fs_name: Annotated[_Word | None, Field(alias="fs-name")] = None
    fuse: bool = False
    # Block devices.
    vgname: _Lvm | None = None
    thinpool: _Lvm | None = None
    base: VolumeIdText | None = None
    saferemove: bool = False
    saferemove_stepsize: Annotated[_MiB | None, Field(alias="saferemove-stepsize")] = None
    saferemove_throughput: Annotated[str, Field(pattern=r"^-?\d+[kKMG]?$", max_length=20)] | None = None
    tagged_only: bool = False
    pool: _Pool | None = None
    blocksize: Annotated[str, Field(pattern=r"^\d+[kKM]?$", max_length=10)] | None = None
    sparse: bool = False
    mountpoint: _Path | None = None
    krbd: bool = False
    namespace: _Word | None = None
    data_pool: Annotated[_Word | None, Field(alias="data-pool")] = None
    portal: Portal | None = None
    target: Annotated[str, Field(pattern=r"^(iqn|eui|naa)\.[A-Za-z0-9.:_-]+$", max_length=223)] | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build the record with its type's default content. Raises InvalidParameter that names every faulty key."""
        known = TYPES.get(cast(StorageType, values.get("type")))
        if known is not None:
            values = {"content": known.default, **{key: value for key, value in values.items() if value is not None}}
            values |= {"shared": 1} if known.shared else {}
        config = super().parse(values)
        keys = TYPES[config.type]
        set_keys = {key for key, value in values.items() if value is not None} - {"storage", "type"}
        wrong = dict.fromkeys(set_keys - keys.keys, f"storage type '{config.type}' has no such property")
        wrong |= dict.fromkeys(keys.needed - set_keys, "property is missing and it is not optional")
        strange = config.contents - keys.contents
        if strange:
            wrong["content"] = f"storage type '{config.type}' can't hold '{min(strange)}'"
        if wrong:
            raise InvalidParameter(wrong)
        return config

    def to_text(self) -> dict[str, Scalar]:
        """The record as Proxmox shows it, without what its type does not have."""
        keys = TYPES[self.type].keys | {"storage", "type"}
        return {key: value for key, value in super().to_text().items() if key in keys}

    @property
    def contents(self) -> frozenset[str]:
        """The content types as a set."""
        return frozenset(split_list(self.content)) - {"none"}

    @property
    def folders(self) -> Mapping[str, str]:
        """Where it keeps what does not lie where Proxmox VE puts it: {content type: folder below its own}."""
        entries = (entry.partition("=") for entry in split_list(self.content_dirs or ""))
        return {content: folder for content, _, folder in entries}

    @property
    def place(self) -> tuple[str, ...]:
        """What must not be another storage's as well."""
        text = self.to_text()
        where = (posixpath.normpath(str(text.get(key, ""))).strip("/") for key in TYPES[self.type].place)
        kind = "folder" if TYPES[self.type].place == ("path",) else self.type
        return (kind, *where)


@dataclass(frozen=True, slots=True)
class StorageUsage:
    """Space of a storage in bytes. `active` is false when it cannot be reached; then the figures are 0.

    `allocated` is what all its volumes may grow to, None where only a look at every volume would tell.
    """

    active: bool
    total: int
    used: int
    available: int
    allocated: int | None = None


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume on a storage, in bytes and seconds since the epoch. `parent` is the base of a linked clone.

    `subtype` is the kind of guest that a backup is of, where its name tells.
    """

    volid: str
    content: Content
    format: VolumeFormat
    size: int
    used: int | None = None
    ctime: int | None = None
    vmid: int | None = None
    notes: str | None = None
    protected: bool = False
    parent: str | None = None
    subtype: Literal["lxc", "qemu"] | None = None


@dataclass(frozen=True, slots=True)
class DiskImage:
    """A disk to open: the file or device, its format, and what it builds on, the nearest base first.

    `device` is a block device. `inside` is a snapshot's name within the file itself (qcow2), for copies of it.
    """

    path: Path
    format: DiskFormat
    device: bool = False
    backing: "DiskImage | None" = None
    inside: str | None = None
