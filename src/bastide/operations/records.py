"""The records of the state: how each family of them is read, and what becomes of one that cannot be.

A record that cannot be read is set aside (`state/checked.py`): all others are as they were, what it was about is not
free for anybody else, and nothing that its text names is removed.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from bastide.access.records import from_entry
from bastide.base.errors import NotFound
from bastide.base.ids import Upid
from bastide.model.access import Grant, Token, User
from bastide.model.backup_options import BackupJob
from bastide.model.backup_proof import RestoreTestJob, VerifyJob
from bastide.model.comparison import Comparison
from bastide.model.container import ContainerConfig
from bastide.model.factors import Factors
from bastide.model.guest import Guest
from bastide.model.homelab import PlanRecord
from bastide.model.realm import Realm
from bastide.model.record import Record
from bastide.model.storage import StorageConfig
from bastide.model.vm import VmConfig
from bastide.operations.backup.proofs import RestoreTest, Verification
from bastide.operations.backup.schedule import Ran
from bastide.operations.bases import Origin
from bastide.operations.rooms import Rooms
from bastide.operations.vm.cloudinit import CloudInit
from bastide.state.checked import Aside, CheckedStore, Reader, aside
from bastide.state.store import Entry
from bastide.tasks.locks import GuestLock

Scalar = str | int | float
R = TypeVar("R", bound=Record)


@with_config(ConfigDict(extra="forbid", strict=True))
class _GuestShape(TypedDict):
    kind: Literal["lxc", "qemu"]
    node: str
    config: dict[str, Scalar]
    pending: dict[str, Scalar]
    removed: list[str]
    first_id: int | None
    snapshots: list[dict[str, Any]]


@with_config(ConfigDict(strict=True))
class _PoolShape(TypedDict):
    comment: str | None
    guests: list[int]
    storages: list[str]


@with_config(ConfigDict(strict=True))
class _MountShape(TypedDict):
    what: str
    where: str
    type: str
    options: str


@dataclass(frozen=True, slots=True)
class _Ended:
    endtime: int | None
    exitstatus: str | None


def _guest(entry: Entry) -> object:
    vmid = int(entry.key.rpartition("/")[2])
    TypeAdapter(_GuestShape).validate_json(entry.value)
    guest = Guest.from_json(vmid, entry.value, entry.revision)
    return (ContainerConfig if guest.kind == "lxc" else VmConfig).parse(guest.config)


def _lock(entry: Entry) -> object:
    return TypeAdapter(GuestLock).validate_python(GuestLock.from_entry(entry), from_attributes=True)


def _record(kind: type[R]) -> Reader:
    return lambda entry: from_entry(kind, entry)


def _dataclass(kind: type[Any]) -> Reader:
    """A dataclass whose fields are the keys: its own constructor refuses unknown ones, pydantic wrong types."""
    adapter = TypeAdapter(kind)

    def read(entry: Entry) -> object:
        kind(**json.loads(entry.value))
        return adapter.validate_json(entry.value)

    return read


def _json(kind: Any) -> Reader:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return lambda entry: adapter.validate_json(entry.value)


def _parsed(kind: type[Record]) -> Reader:
    return lambda entry: kind.parse(json.loads(entry.value))


def _validated(kind: type[Record]) -> Reader:
    return lambda entry: kind.model_validate_json(entry.value)


def _of_vmid(value: Callable[[str], object] = str) -> Reader:
    """A record that a guest has by its vmid."""
    return lambda entry: (int(entry.key.rpartition("/")[2]), value(entry.value))


def _task(entry: Entry) -> object:
    return Upid.parse(entry.key.removeprefix("task/")), _dataclass(_Ended)(entry)


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "guest/": _guest,
        "lock/guest/": _lock,
        "cloudinit/": _dataclass(CloudInit),
        "frozen/": _of_vmid(),
        "standing/": _of_vmid(),
        "still/": _of_vmid(),
        "templating/": _of_vmid(),
        "restore/": _guest,
        "storage/": _parsed(StorageConfig),
        "base/": _dataclass(Origin),
        "disk/": _json(_MountShape),
        "user/": _record(User),
        "group/": _json(dict[Literal["comment"], str | None]),
        "role/": _json(list[str]),
        "token/": _record(Token),
        "grant/": _record(Grant),
        "factor/": _record(Factors),
        "realm/": _record(Realm),
        "pool/": _json(_PoolShape),
        "task/": _task,
        "plan/": _validated(PlanRecord),
        "comparison/": _validated(Comparison),
        "comparing/": _of_vmid(),
        "backupjob/": _parsed(BackupJob),
        "verifyjob/": _parsed(VerifyJob),
        "restoretestjob/": _parsed(RestoreTestJob),
        "scheduled/": _dataclass(Ran),
        "verified/": _dataclass(Verification),
        "restoretest/": _dataclass(RestoreTest),
        "trying/": _of_vmid(),
        "backup-stop/": _of_vmid(),
        "backup-copy/": _of_vmid(),
        "setting/": _json(dict[str, Any]),
    }
)
"""How a record of each family is tried, by the beginning of its key: the families of `state/store.py`."""


def listed(rooms: Rooms) -> tuple[Aside, ...]:
    """The records that are set aside, in order of their keys."""
    return aside(rooms.store)


def find(rooms: Rooms, key: str) -> Aside:
    """One of them. Raises NotFound."""
    for one in listed(rooms):
        if one.entry.key == key:
            return one
    raise NotFound(f"no such record '{key[:100]}' is set aside")


async def repair(rooms: Rooms, key: str, value: str) -> None:
    """Write one anew. Raises NotFound, InvalidParameter naming `value` when that cannot be read either."""
    await _store(rooms, key).repair(key, value)


async def discard(rooms: Rooms, key: str) -> None:
    """Remove one; volumes of a guest stay where they are. Raises NotFound."""
    await _store(rooms, key).discard(key)


def _store(rooms: Rooms, key: str) -> CheckedStore:
    if not isinstance(rooms.store, CheckedStore):
        raise NotFound(f"no such record '{key[:100]}' is set aside")
    return rooms.store
