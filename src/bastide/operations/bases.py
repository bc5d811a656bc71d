"""Bases: a template unpacked, or an image imported, once a storage; guests share it until they write.

The first guest that wants a base makes it, others that come meanwhile wait. `base/STORAGE/KEY` in the store says what a
base was made of; it is written before the base appears, so that a crash leaves no base that nobody knows.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from bastide.base.errors import AlreadyExists, BastideError, InvalidParameter, NoSpace, NotFound, NotSupported
from bastide.base.ids import VolumeId
from bastide.base.units import MIB
from bastide.guest.protocol import IdMap
from bastide.host.archive import Limits, stream_archive
from bastide.model.backup import Tree
from bastide.operations.rooms import Rooms
from bastide.state.store import Entry
from bastide.storage.protocol import BaseStorage, FileStorage, Progress, Storage
from bastide.tasks.tasks import Task

_PREFIX = "base/"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A template or an image: its volume id and its file. `form` is an image's format in QEMU's name.

    `privileged` sets bases apart that were unpacked with the host's own ids.
    """

    volid: str
    path: Path
    form: str = ""
    privileged: bool = False

    def key(self) -> str:
        """16 hexadecimal digits that change with the file. Raises NotFound when it is gone."""
        try:
            found = self.path.stat(follow_symlinks=False)
        except FileNotFoundError:
            raise NotFound(f"volume '{self.volid}' does not exist") from None
        facts = (self.volid, found.st_size, found.st_mtime_ns, found.st_ino, self.form, self.privileged)
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Target:
    """The volume to make of a base, and its size in bytes."""

    volid: VolumeId
    size: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What a base was made of, as in Source; `ostype` and `arch` of a container's, None where nobody has looked."""

    source: str
    form: str = ""
    privileged: bool = False
    ostype: str | None = None
    arch: str | None = None

    def to_json(self) -> str:
        """The stored form."""
        return json.dumps(asdict(self))


async def container_from_base(
    rooms: Rooms, template: Source, target: Target, ids: IdMap, *, whole: bool, task: Task
) -> Origin | None:
    """Make a container's root file system of a template's base, which is made first where there is none.

    None when the storage shares nothing, or cannot for this volume; then nothing was made. `whole` asks for a file
    system on which overlayfs can stand. Raises AlreadyExists, NoSpace, HostFailure.
    """
    storage = await _sharing(rooms, target.volid.storage)
    if storage is None or (whole and storage.capabilities.layered):
        return None
    share = _Share(rooms, storage, template, task)

    async def make(key: str) -> None:
        packed = (await asyncio.to_thread(template.path.stat)).st_size
        try:
            # Most templates unpack to less; a base must not be larger than the guests that are made of it.
            await share.unpack(key, ids, 256 * MIB + 8 * packed)
        except NoSpace:
            await share.unpack(key, ids, Limits().allowed(packed))

    key = await share.make_volume(target, make)
    if key is None:
        return None
    entry = await rooms.store.get(_place(storage, key))
    return _origin(entry) if entry is not None else Origin(template.volid)


async def disk_from_base(
    rooms: Rooms,
    image: Source,
    target: Target,
    task: Task | None,
    progress: Progress | None = None,
    *,
    rate: int = 0,
) -> bool:
    """Make a VM's disk of an image's base, which is made first where there is none; False when the storage cannot.

    `rate` in bytes a second limits the import, 0 does not. Raises AlreadyExists, NoSpace, HostFailure for an image that
    is refused.
    """
    storage = await _sharing(rooms, target.volid.storage)
    # Where a disk is a device, its name has no suffix.
    form = Path(target.volid.name).suffix.removeprefix(".") or "raw"
    # A disk whose snapshots are copies would be a copy of its base as well, and take the space of both.
    if storage is None or form not in storage.capabilities.clones & storage.capabilities.instant:
        return False

    async def make(key: str) -> None:
        await rooms.store.put(_place(storage, key), Origin(image.volid, image.form).to_json())
        await storage.import_base(key, image.path, image.form, progress, rate=rate)

    return await _Share(rooms, storage, image, task).make_volume(target, make) is not None


async def forget_source(rooms: Rooms, volid: str, task: Task | None = None) -> None:
    """Remove the bases of a template or image that is gone, as far as nothing builds on them."""
    if await _forget_all(rooms, volid) and task is not None:
        task.log("removed its base")


async def tidy(rooms: Rooms) -> None:
    """Remove bases whose source is gone or is another file now, and that nothing builds on."""
    await _forget_all(rooms)
    known = {entry.key for entry in await rooms.store.list(_PREFIX)}
    for each in await rooms.storages.all():
        try:
            # Of a shared storage, the bases that another node made are not ours to judge.
            storage = None if each.config.shared else await _sharing(rooms, each.config.storage)
            for key in await storage.bases() if storage is not None else ():
                if _place(each, key) not in known and storage is not None:
                    async with _turn(rooms, storage, key):
                        if await rooms.store.get(_place(storage, key)) is None:
                            await storage.drop_base(key)
        except (BastideError, OSError) as error:
            _log.warning("the bases of storage '%s' could not be looked at: %s", each.config.storage, error)


async def _forget_all(rooms: Rooms, source: str | None = None) -> int:
    """Drop the recorded bases that nobody wants, of one source or all; how many. What fails is logged."""
    gone = 0
    for entry in await rooms.store.list(_PREFIX):
        try:
            if source in (None, _origin(entry).source):
                gone += await _forget(rooms, entry)
        except (BastideError, OSError, ValueError, TypeError) as error:
            _log.warning("base '%s' could not be looked at: %s", entry.key.removeprefix(_PREFIX), error)
    return gone


async def _forget(rooms: Rooms, entry: Entry) -> bool:
    """Drop one recorded base unless it is wanted; whether it is gone."""
    storage_id, _, key = entry.key.removeprefix(_PREFIX).partition("/")
    if await _present_key(rooms, _origin(entry)) == key:
        return False
    try:
        storage = await _sharing(rooms, storage_id)
    except NotFound:
        await rooms.store.delete(entry.key)
        return True
    if storage is None:
        return False
    async with _turn(rooms, storage, key):
        if not await storage.drop_base(key):
            return False
        await rooms.store.delete(entry.key)
    return True


async def _present_key(rooms: Rooms, origin: Origin) -> str | None:
    """The key that a base of the same source would have now; None when that is gone."""
    try:
        storage, name = await rooms.storages.resolve(origin.source)
        await storage.info(name)  # within a deadline, which a look at the file has not
    except NotFound:
        return None
    path = await cast(FileStorage, storage).file_path(name)
    return await asyncio.to_thread(Source(origin.source, path, origin.form, origin.privileged).key)


@dataclass(frozen=True, slots=True)
class _Share:
    """One task that makes a volume of a base."""

    rooms: Rooms
    storage: BaseStorage
    source: Source
    task: Task | None

    async def make_volume(self, target: Target, make: Callable[[str], Awaitable[None]]) -> str | None:
        """The key of the base that the volume was made of; None when a volume like that cannot share it."""
        key = await asyncio.to_thread(self.source.key)
        try:
            # A base may go between its making and its use, when its source is deleted: twice is enough.
            for _ in range(2):
                with contextlib.suppress(NotFound):
                    await self.storage.from_base(key, target.volid.name, target.size)
                    return key
                await self._ensure(key, make)
            await self.storage.from_base(key, target.volid.name, target.size)
        except (InvalidParameter, NotSupported) as error:
            self._log(f"'{target.volid}' gets a copy of its own: {error}")
            return None
        return key

    async def _ensure(self, key: str, make: Callable[[str], Awaitable[None]]) -> None:
        turn = _turn(self.rooms, self.storage, key)
        if turn.locked():
            self._log("waiting for another task that makes the base")
        async with turn:
            if key not in await self.storage.bases():
                self._log(f"making a base of '{self.source.path.name}' on storage '{self.storage.config.storage}'")
                with contextlib.suppress(AlreadyExists):  # another node, on a shared storage
                    await make(key)

    async def unpack(self, key: str, ids: IdMap, size: int) -> None:
        """Make a base of at most `size` bytes of the template."""
        engine = self.rooms.containers
        async with self.storage.making_base(key, size) as folder:
            owner = folder.stat().st_uid
            async with engine.unpacking(Tree(folder), ids) as argv:
                await stream_archive(self.source.path, argv, log=self._log)
            if folder.stat().st_uid != owner:
                raise NotSupported("the kernel cannot show its file system with mapped owners")
            ostype, architecture = await asyncio.to_thread(engine.detect, folder)
            origin = Origin(self.source.volid, self.source.form, self.source.privileged, ostype, architecture)
            await self.rooms.store.put(_place(self.storage, key), origin.to_json())

    def _log(self, line: str) -> None:
        if self.task is not None:
            self.task.log(line)


async def _sharing(rooms: Rooms, storage_id: str) -> BaseStorage | None:
    """The storage if guests on it share bases. Raises NotFound."""
    storage = await rooms.storages.get(storage_id)
    usable = rooms.storages.enabled(storage.config) and storage.capabilities.copy_on_write is not None
    return cast(BaseStorage, storage) if usable else None


def _origin(entry: Entry) -> Origin:
    return Origin(**json.loads(entry.value))


def _turn(rooms: Rooms, storage: BaseStorage, key: str) -> asyncio.Lock:
    return rooms.making.setdefault(_place(storage, key), asyncio.Lock())


def _place(storage: Storage, key: str) -> str:
    return f"{_PREFIX}{storage.config.storage}/{key}"
