"""`/storage`: which storages are configured.

The parameters are those of `model/storage.py`; keys of types that are not built are known, so that a client learns by
name what is missing (501).
"""

from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from bastide.api.lists import storages_seen
from bastide.api.routing import Branch, Call, NotBuilt
from bastide.api.shape import Options
from bastide.base.errors import MethodNotImplemented
from bastide.model.audit import Secret
from bastide.model.record import Multiline, Record
from bastide.model.storage import TYPES, StorageConfig
from bastide.model.types import ConfigKeys, StorageId, split_list
from bastide.operations import storages
from bastide.storage.secrets import Given

StorageType = Literal[
    "borg", "btrfs", "cephfs", "cifs", "dir", "esxi", "iscsi", "iscsidirect", "lvm", "lvmthin", "nfs", "pbs", "rbd",
    "zfs", "zfspool",
]  # fmt: skip

_Text = Annotated[str, Field(max_length=4096)]
_Port = Annotated[int, Field(ge=1, le=65535)]
_Fingerprint = Annotated[str, Field(pattern=r"^([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}$")]

_UNBUILT: dict[str, Any] = {
    **dict.fromkeys(("comstar_hg", "comstar_tg", "lio_tpg", "master-pubkey", "zfs-base-path"), _Text),
    "encryption-key": Annotated[str, Field(max_length=4096), Secret()],
    **dict.fromkeys(("nowritecache", "skip-cert-verification"), bool),
    "fingerprint": _Fingerprint,
    "port": _Port,
}
_UNBUILT_FIXED: dict[str, Any] = dict.fromkeys(("authsupported", "datastore", "iscsiprovider"), _Text)
_FIXED = frozenset({"storage", "type", "path", "export", "share", "vgname", "thinpool", "portal", "target", "base"})
"""What the reference gives to a new storage alone."""

_ALLOCATE = ("perm", "/storage", ("Datastore.Allocate",))

branch = Branch("/storage")


def _unbuilt(keys: dict[str, Any]) -> dict[str, Any]:
    return {
        key.replace("-", "_"): (Annotated[kind | None, Field(alias=key), NotBuilt()], None)
        for key, kind in keys.items()
    }


def _known(fixed: bool) -> dict[str, Any]:
    """The record's own keys, none of which must be there."""
    fields: dict[str, Any] = {}
    for name, info in StorageConfig.model_fields.items():
        key = info.alias or name
        if key not in ("storage", "type") and (key in _FIXED) == fixed:
            annotation: Any = info.annotation
            for mark in info.metadata:
                annotation = Annotated[annotation, mark]
            fields[name] = (Annotated[annotation | None, Field(alias=info.alias)], None)
    return fields


class _Secrets(Record):
    """What is kept apart from the record and shown to nobody."""

    password: Annotated[str | None, Field(max_length=256), Secret()] = None
    keyring: Annotated[str | None, Field(max_length=65536), Multiline(), Secret()] = None
    passphrase: Annotated[str | None, Field(min_length=1, max_length=1024), Secret()] = None

    def given(self) -> dict[Given, str]:
        """The secrets that were sent."""
        found: dict[Given, str | None] = {
            "password": self.password,
            "keyring": self.keyring,
            "passphrase": self.passphrase,
        }
        return {key: value for key, value in found.items() if value is not None}


_Options = create_model("_Options", __base__=_Secrets, **_known(fixed=False), **_unbuilt(_UNBUILT))
_New = create_model("_New", __base__=_Options, **_known(fixed=True), **_unbuilt(_UNBUILT_FIXED))


class StorageCreate(_New):
    """A new storage."""

    storage: StorageId
    type: StorageType


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


@branch.get("", StoragesQuery, user="all", answer=list[Options])
async def list_storages(call: Call, p: StoragesQuery) -> list[dict[str, Any]]:
    """The storages that the caller may see."""
    return [
        await _shown(call, storage.config)
        for storage in await storages_seen(call)
        if p.type in (None, storage.config.type)
    ]


@branch.post("", StorageCreate, check=_ALLOCATE)
async def create_storage(call: Call, p: StorageCreate) -> dict[str, Any]:
    """Add a storage. `config` holds what is shown this once: an `encryption-key`, and a `passphrase` that was made."""
    if p.type not in TYPES:
        raise MethodNotImplemented(f"storage type '{p.type}' not implemented")
    config, shown = await storages.add(call.rooms, StorageConfig.parse(_record_keys(p)), p.given())
    return {"storage": config.storage, "type": config.type, **({"config": shown} if shown else {})}


@branch.get("/{storage}", StorageName, check=("perm", "/storage/{storage}", ("Datastore.Allocate",)), answer=Options)
async def read_storage(call: Call, p: StorageName) -> dict[str, Any]:
    """A storage's configuration."""
    return await _shown(call, (await call.rooms.storages.get(p.storage)).config)


@branch.put("/{storage}", StorageChange, check=_ALLOCATE)
async def change_storage(call: Call, p: StorageChange) -> dict[str, str]:
    """Change a storage's options."""
    changes = {key: value for key, value in _record_keys(p).items() if key != "storage"}
    config = await call.rooms.storages.update(p.storage, changes, split_list(p.delete or ""), p.digest, p.given())
    return {"storage": config.storage, "type": config.type}


@branch.delete("/{storage}", StorageName, check=_ALLOCATE)
async def delete_storage(call: Call, p: StorageName) -> None:
    """Forget a storage that no guest uses; its files stay."""
    await storages.remove(call.rooms, p.storage)


def _record_keys(params: Record) -> dict[str, Any]:
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
