"""`/storage`: which storages are configured.

Only directories are built. The keys of other types are known, so that a client learns by name what is missing (501).
"""

from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from bastide.api.lists import storages_seen
from bastide.api.routing import Branch, Call, NotBuilt
from bastide.base.errors import InvalidParameter, MethodNotImplemented, WrongState
from bastide.model.record import Record
from bastide.model.storage import StorageConfig
from bastide.model.types import ConfigKeys, StorageId, split_list

StorageType = Literal[
    "btrfs", "cephfs", "cifs", "dir", "esxi", "iscsi", "iscsidirect", "lvm", "lvmthin", "nfs", "pbs", "rbd", "zfs",
    "zfspool",
]  # fmt: skip

_CHANGEABLE_ELSEWHERE = """
    blocksize comstar_hg comstar_tg content-dirs data-pool domain encryption-key fingerprint fs-name keyring
    lio_tpg master-pubkey max-protected-backups monhost mountpoint namespace options password pool port
    saferemove_throughput server subdir username zfs-base-path
""".split()  # noqa: SIM905 - a table of words
_FIXED_ELSEWHERE = """
    authsupported base datastore export iscsiprovider portal share target thinpool vgname
""".split()  # noqa: SIM905 - a table of words
_FLAGS_ELSEWHERE = """
    fuse krbd nocow nowritecache saferemove skip-cert-verification snapshot-as-volume-chain sparse tagged_only
""".split()  # noqa: SIM905 - a table of words

_ALLOCATE = ("perm", "/storage", ("Datastore.Allocate",))

branch = Branch("/storage")


def _unbuilt(name: str, *groups: tuple[list[str], Any]) -> type[Record]:
    """A record of known parameters that are not built."""
    fields: dict[str, Any] = {}
    for keys, kind in groups:
        for key in keys:
            fields[key.replace("-", "_")] = (Annotated[kind | None, Field(alias=key), NotBuilt()], None)
    return create_model(name, __base__=Record, **fields)


_Text = Annotated[str, Field(max_length=4096)]
_Elsewhere = _unbuilt("_Elsewhere", (_CHANGEABLE_ELSEWHERE, _Text), (_FLAGS_ELSEWHERE, bool))
_FixedElsewhere = _unbuilt("_FixedElsewhere", (_FIXED_ELSEWHERE, _Text))


class _Options(_Elsewhere):  # type: ignore[valid-type,misc]
    """What a directory has, all optional."""

    content: Annotated[str | None, Field(pattern=r"^[a-z]+([,; ][a-z]+)*$")] = None
    nodes: Annotated[str | None, Field(max_length=4096)] = None
    disable: bool | None = None
    shared: bool | None = None
    format: Literal["raw", "qcow2", "subvol", "vmdk"] | None = None
    mkdir: bool | None = None
    create_base_path: Annotated[bool | None, Field(alias="create-base-path")] = None
    create_subdirs: Annotated[bool | None, Field(alias="create-subdirs")] = None
    is_mountpoint: Annotated[str | None, Field(max_length=4096)] = None
    preallocation: Literal["off", "metadata", "falloc", "full"] | None = None
    prune_backups: Annotated[str | None, Field(alias="prune-backups", max_length=512)] = None
    bwlimit: Annotated[str | None, Field(max_length=512)] = None
    saferemove_stepsize: Annotated[
        Literal["1", "2", "4", "8", "16", "32"] | None, Field(alias="saferemove-stepsize"), NotBuilt()
    ] = None
    smbversion: Annotated[Literal["default", "2.0", "2.1", "3", "3.0", "3.11"] | None, NotBuilt()] = None


class StorageCreate(_FixedElsewhere, _Options):  # type: ignore[valid-type,misc]
    """A new storage."""

    storage: StorageId
    type: StorageType
    path: Annotated[str | None, Field(max_length=4096)] = None


class StorageChange(_Options):
    """Options of a storage to set or to delete."""

    storage: StorageId
    delete: Annotated[ConfigKeys | None, Field(max_length=4096)] = None
    digest: Annotated[str | None, Field(max_length=64)] = None


class StorageName(Record):
    """A storage."""

    storage: StorageId


class StoragesQuery(Record):
    """Which type of storage."""

    type: StorageType | None = None


@branch.get("", StoragesQuery, user="all")
async def list_storages(call: Call, p: StoragesQuery) -> list[dict[str, Any]]:
    """The storages that the caller may see."""
    return [
        await _shown(call, storage.config)
        for storage in await storages_seen(call)
        if p.type in (None, storage.config.type)
    ]


@branch.post("", StorageCreate, check=_ALLOCATE)
async def create_storage(call: Call, p: StorageCreate) -> dict[str, str]:
    """Add a storage."""
    if p.type != "dir":
        raise MethodNotImplemented(f"storage type '{p.type}' not implemented")
    if p.path is None:
        raise InvalidParameter({"path": "property is missing and it is not optional"})
    config = StorageConfig.parse(_directory_keys(p))
    await call.rooms.storages.add(config)
    return {"storage": config.storage, "type": config.type}


@branch.get("/{storage}", StorageName, check=("perm", "/storage/{storage}", ("Datastore.Allocate",)))
async def read_storage(call: Call, p: StorageName) -> dict[str, Any]:
    """A storage's configuration."""
    return await _shown(call, (await call.rooms.storages.get(p.storage)).config)


@branch.put("/{storage}", StorageChange, check=_ALLOCATE)
async def change_storage(call: Call, p: StorageChange) -> dict[str, str]:
    """Change a storage's options."""
    changes = {key: value for key, value in _directory_keys(p).items() if key not in ("storage", "type")}
    config = await call.rooms.storages.update(p.storage, changes, split_list(p.delete or ""), p.digest)
    return {"storage": config.storage, "type": config.type}


@branch.delete("/{storage}", StorageName, check=_ALLOCATE)
async def delete_storage(call: Call, p: StorageName) -> None:
    """Forget a storage; its files stay."""
    for guest in await call.rooms.guests.list():
        if any(str(value).startswith(f"{p.storage}:") for value in guest.config.values()):
            raise WrongState(f"can't remove storage - used by CT {guest.vmid}")
    await call.rooms.storages.remove(p.storage)


def _directory_keys(params: Record) -> dict[str, Any]:
    return {key: value for key, value in params.to_text().items() if StorageConfig.knows(key)}


async def _shown(call: Call, config: StorageConfig) -> dict[str, Any]:
    shown = {key: value for key, value in config.to_text().items() if value not in (0, 1) or _differs(key, value)}
    return {
        **shown,
        "content": ",".join(sorted(config.contents)) or "none",
        "digest": await call.rooms.storages.digest(config.storage),
    }


def _differs(key: str, value: Any) -> bool:
    """Whether a flag is not at its default, which answers leave out."""
    field = next(info for name, info in StorageConfig.model_fields.items() if (info.alias or name) == key)
    return bool(field.default) != bool(value)
