"""Configured storages and those who use them."""

import asyncio
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from bastide.base.errors import InvalidParameter, NotSupported, WrongState
from bastide.base.units import KIB, readable
from bastide.model.guest import Guest
from bastide.model.record import Scalar
from bastide.model.storage import TYPES, StorageConfig, StorageUsage, Work
from bastide.operations.rooms import Rooms
from bastide.storage.protocol import ArchiveStorage, Storage
from bastide.storage.secrets import Given

_UNSEEN = StorageUsage(active=False, total=0, used=0, available=0)


async def add(rooms: Rooms, config: StorageConfig, given: Mapping[Given, str]) -> tuple[StorageConfig, dict[str, str]]:
    """Record a new storage once it can be used, and tell what has to be kept elsewhere and is shown this once.

    That is the `encryption-key` of one that encrypts, and the `passphrase` if it was made here because none was given:
    256 bits. Raises AlreadyExists, InvalidParameter, HostFailure.
    """
    shown: dict[str, str] = {}
    if "passphrase" in TYPES[config.type].secrets and "passphrase" not in given and config.encryption != "none":
        shown["passphrase"] = secrets.token_hex(32)
    config = await rooms.storages.add(config, {**given, **cast(Mapping[Given, str], shown)})
    if rooms.storages.enabled(config) and (key := await _key(rooms, config.storage)) is not None:
        shown["encryption-key"] = key
    return config, shown


async def _key(rooms: Rooms, storage_id: str) -> str | None:
    try:
        return await export_key(rooms, storage_id)
    except NotSupported:
        return None


async def export_key(rooms: Rooms, storage_id: str) -> str:
    """The key of a storage's backups, which its passphrase opens. Raises NotFound, NotSupported, HostFailure."""
    storage = await rooms.storages.get(storage_id)
    if not storage.capabilities.archives:
        raise NotSupported(f"storage '{storage_id}' has no key: its type does not encrypt")
    return await cast(ArchiveStorage, storage).export_key()


async def remove(rooms: Rooms, storage_id: str) -> None:
    """Forget a storage; its files stay.

    Raises NotFound, WrongState while a guest, one of its snapshots or another storage names it, or the host uses it.
    """
    await rooms.storages.get(storage_id)
    for guest in await rooms.guests.list():
        if storage_id in named_storages(guest):
            raise WrongState(f"can't remove storage - used by {guest.title}")
    if unreadable := rooms.guests.naming(f'"{storage_id}:'):
        raise WrongState(f"can't remove storage - the record of guest {unreadable[0]} cannot be read, and names it")
    for other in await rooms.storages.all():
        if (other.config.base or "").startswith(f"{storage_id}:"):
            raise WrongState(f"can't remove storage - used as the base of storage '{other.config.storage}'")
    await rooms.storages.remove(storage_id)


def named_storages(guest: Guest) -> frozenset[str]:
    """The storages whose volumes a guest or one of its snapshots names: disks, ISO images, memory, snippets."""
    configs = [guest.config, guest.pending, *(snapshot.config for snapshot in guest.snapshots.values())]
    volumes = [volume for config in configs for volume in _volumes(config)]
    volumes += [snapshot.vmstate or "" for snapshot in guest.snapshots.values()]
    return frozenset(volume.partition(":")[0] for volume in volumes if ":" in volume)


def _volumes(config: Mapping[str, Scalar]) -> Iterator[str]:
    for value in config.values():
        for part in str(value).split(","):
            key, equals, named = part.partition("=")
            yield named if equals else key


async def usage_soon(storage: Storage, seconds: float = 0.5) -> StorageUsage:
    """A storage's space for lists that must not wait for one that hangs: inactive when it says nothing in time."""
    asked = asyncio.ensure_future(storage.usage())
    asked.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(asked)
    except TimeoutError:
        return _UNSEEN


async def copy_rate(rooms: Rooms, work: Work, storages: Iterable[str], asked: float | None = None) -> int:
    """Bytes a second that a copy between storages may move, 0 without a limit; `asked` in KiB a second.

    Raises NotFound.
    """
    limit = await rooms.storages.bandwidth(work, storages, asked)
    return max(1, int(limit * KIB)) if limit else 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Space for a volume of `size` bytes; `present` is what it has already."""

    storage: str
    size: int
    present: int = 0


async def check_fits(rooms: Rooms, wanted: Mapping[str, Wanted]) -> None:
    """Refuse what cannot fit before anything is made; `wanted` is by the parameter that asks for it.

    A thin volume must not be larger than the whole storage, thick ones together not larger than what is free.
    Raises InvalidParameter naming the parameter, NotFound.
    """
    needed: dict[str, int] = {}
    for key, volume in wanted.items():
        storage = await rooms.storages.get(volume.storage)
        usage = await storage.usage()
        if not usage.active:
            raise InvalidParameter({key: f"storage '{volume.storage}' is not active"})
        needed[volume.storage] = needed.get(volume.storage, 0) + volume.size - volume.present
        thin = storage.capabilities.thin
        asked, room = (volume.size, usage.total) if thin else (needed[volume.storage], usage.available)
        if asked > room and (usage.total or not thin):
            what = "has" if thin else "has free"
            raise InvalidParameter(
                {key: f"{readable(asked)} do not fit: storage '{volume.storage}' {what} {readable(room)}"}
            )
