"""The configured storages: their records in the store, and the driver objects made from them."""

import asyncio
import contextlib
import hashlib
import json
import posixpath
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, Literal, cast

from bastide.base.errors import (
    AlreadyExists,
    BastideError,
    Conflict,
    InvalidParameter,
    MethodNotImplemented,
    NotFound,
    NotSupported,
    WrongState,
)
from bastide.base.ids import VolumeId, is_storage_id
from bastide.base.layout import Layout
from bastide.host import filesystems, network_mounts
from bastide.model.storage import TYPES, Content, StorageConfig, Work
from bastide.model.types import split_list
from bastide.state.checked import aside
from bastide.state.store import ABSENT, Entry, Store
from bastide.storage import names, places, secrets
from bastide.storage.borg import BorgStorage
from bastide.storage.btrfs import BtrfsStorage
from bastide.storage.cephfs import CephStorage
from bastide.storage.cifs import CifsStorage
from bastide.storage.dir import DirStorage
from bastide.storage.iscsi import IscsiStorage
from bastide.storage.lvm import LvmStorage
from bastide.storage.lvmthin import LvmThinStorage
from bastide.storage.nfs import NfsStorage
from bastide.storage.protocol import (
    AttachedStorage,
    ContainerStorage,
    DiskStorage,
    FileStorage,
    KeepingStorage,
    Storage,
)
from bastide.storage.rbd import RbdStorage
from bastide.storage.zfspool import ZfsStorage

Driver = Callable[[StorageConfig, Layout], Storage]
Secrets = Mapping[secrets.Given, str]

DRIVERS: Mapping[str, Driver] = MappingProxyType(
    {
        "dir": DirStorage,
        "btrfs": BtrfsStorage,
        "borg": BorgStorage,
        "nfs": NfsStorage,
        "cifs": CifsStorage,
        "cephfs": CephStorage,
        "iscsi": IscsiStorage,
        "lvm": LvmStorage,
        "lvmthin": LvmThinStorage,
        "zfspool": ZfsStorage,
        "rbd": RbdStorage,
    }
)
"""The driver of each storage type."""

_LOCAL_CONTENT = "vztmpl,iso,rootdir,images,snippets,backup,import"
_CONTENTS = frozenset({"images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"})
_ATTACHING = frozenset({"options", "username", "domain", "smbversion", "fuse"})
"""What is said when a share is mounted: a change of it takes another mount."""

_PATIENCE = 20
"""A listing is used again for so many times as long as it took."""


class Storages:
    """Finds, adds and changes storages. A driver object lives as long as its record does not change."""

    def __init__(
        self, store: Store, layout: Layout, drivers: Mapping[str, Driver] = DRIVERS, node: str | None = None
    ) -> None:
        self._store = store
        self._layout = layout
        self._drivers = drivers
        self._node = node
        self._cache: dict[str, tuple[int, Storage]] = {}
        self._changing = asyncio.Lock()
        self._sums: dict[str, tuple[float, int]] = {}

    def programs_of(self, kind: str) -> Sequence[str]:
        """Programs without which a new storage of this type would stay inactive."""
        return cast(Sequence[str], getattr(self._drivers.get(kind), "programs", ()))

    async def start(self) -> list[BastideError]:
        """Make `local` where there is no storage yet, and prepare all enabled ones; returns what failed."""
        unreadable = frozenset(one.entry.key.partition("/")[2] for one in aside(self._store, "storage/"))
        if not unreadable and not await self._store.list("storage/"):
            config = StorageConfig(
                storage="local",
                type=self._local_type(),
                path=str(self._layout.local_storage),
                content=_LOCAL_CONTENT,
            )
            await self._store.put("storage/local", _dump(config), ABSENT)
        every = await self.all()
        known = frozenset(storage.config.storage for storage in every) | unreadable
        await asyncio.to_thread(secrets.tidy, self._layout, known)
        await network_mounts.tidy(self._layout.state / "mnt", known)
        # Side by side: one that hangs holds the start up for its own deadline alone.
        outcomes = await asyncio.gather(
            *(storage.prepare() for storage in every if self.enabled(storage.config)), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, BastideError):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, BastideError)]

    def _local_type(self) -> Literal["btrfs", "dir"]:
        """The type that makes most of the file system below `local`."""
        entry = filesystems.mount_of(self._layout.local_storage)
        return "btrfs" if entry is not None and entry.fstype == "btrfs" and "btrfs" in self._drivers else "dir"

    def enabled(self, config: StorageConfig) -> bool:
        """Whether a storage may be used on this node."""
        if config.disable:
            return False
        return config.nodes is None or self._node is None or self._node in split_list(config.nodes)

    async def get(self, storage_id: str) -> Storage:
        """A storage, also a disabled one. Raises NotFound."""
        entry = await self._entry(storage_id)
        return self._object(entry)

    async def all(self) -> list[Storage]:
        """All storages in order of their names."""
        entries = await self._store.list("storage/")
        known = {entry.key.partition("/")[2] for entry in entries}
        self._cache = {name: kept for name, kept in self._cache.items() if name in known}
        return [self._object(entry) for entry in entries]

    async def files(self, storage_id: str, content: Content) -> FileStorage:
        """A usable storage for files of a content type. Raises NotFound, WrongState, NotSupported."""
        storage = await self._usable(storage_id)
        if content not in names.FILE_CONTENTS or content not in storage.capabilities.contents:
            raise NotSupported(f"storage '{storage_id}' does not support content type '{content}'")
        return cast(FileStorage, storage)

    async def containers(self, storage_id: str) -> ContainerStorage:
        """A usable storage for containers' file systems. Raises NotFound, WrongState, NotSupported."""
        storage = await self._usable(storage_id)
        if "rootdir" not in storage.capabilities.contents:
            raise NotSupported(f"storage '{storage_id}' does not support content type 'rootdir'")
        return cast(ContainerStorage, storage)

    async def disks(self, storage_id: str) -> DiskStorage:
        """A usable storage for VMs' disks. Raises NotFound, WrongState, NotSupported."""
        storage = await self._usable(storage_id)
        capabilities = storage.capabilities
        if "images" not in capabilities.contents or not capabilities.disk_formats:
            raise NotSupported(f"storage '{storage_id}' does not support content type 'images'")
        return cast(DiskStorage, storage)

    async def resolve(self, volid: str) -> tuple[Storage, str]:
        """The storage and name of a volume id. Raises InvalidParameter, NotFound, WrongState."""
        volume = VolumeId.parse(volid)
        return await self._usable(volume.storage), volume.name

    async def add(self, config: StorageConfig, given: Secrets = MappingProxyType({})) -> StorageConfig:
        """Record a new storage once it can be used. Raises AlreadyExists, InvalidParameter, HostFailure."""
        if "path" in TYPES[config.type].fixed and config.path is None:
            config = config.model_copy(update={"path": str(self._layout.state / "mnt" / config.storage)})
        _check(config, given)
        if config.path is not None:
            await places.check_folder(config.path, self._layout)
        async with self._changing, AsyncExitStack() as undo:
            if await self._store.get(f"storage/{config.storage}") is not None:
                raise _taken(config)
            await self._check_place(config)
            undo.callback(secrets.forget, self._layout, config.storage)
            for secret, text in given.items():
                secrets.keep(self._layout, config.storage, secret, text)
            storage = self._driver(config)
            if self.enabled(config):
                undo.push_async_callback(_detach, storage)
                await storage.prepare()
            try:
                entry = await self._store.put(f"storage/{config.storage}", _dump(config), ABSENT)
            except Conflict:
                raise _taken(config) from None
            # It has found out what it can do here.
            self._cache[config.storage] = (entry.revision, storage)
            undo.pop_all()
        return config

    async def update(
        self,
        storage_id: str,
        changes: Mapping[str, Any],
        delete: Iterable[str] = (),
        digest: str | None = None,
        given: Secrets = MappingProxyType({}),
    ) -> StorageConfig:
        """Change a storage's record, in the API's keys. Raises NotFound, InvalidParameter, Conflict, HostFailure."""
        async with self._changing, AsyncExitStack() as undo:
            entry = await self._entry(storage_id)
            if digest is not None and digest != entry_digest(entry.value):
                raise Conflict("detected modified configuration - file changed by other user? Try again.")
            before, removed = self._object(entry), set(delete)
            config = _changed(json.loads(entry.value), changes, removed)
            forgotten = removed & TYPES[config.type].secrets
            _check(config, given)
            if given or forgotten:
                undo.callback(secrets.restore, self._layout, storage_id, secrets.read(self._layout, storage_id))
                secrets.forget(self._layout, storage_id, *cast(Any, forgotten)) if forgotten else None
                for secret, text in given.items():
                    secrets.keep(self._layout, storage_id, secret, text)
            if given or forgotten or (set(changes) | removed) & _ATTACHING or not self.enabled(config):
                await _detach(before)
            storage = self._driver(config)
            if self.enabled(config):
                await storage.prepare()
            entry = await self._store.put(entry.key, _dump(config), entry.revision)
            self._cache[storage_id] = (entry.revision, storage)
            undo.pop_all()
        return config

    async def remove(self, storage_id: str) -> None:
        """Forget a storage; its files stay. Raises NotFound, WrongState when it is in use on this host."""
        async with self._changing:
            storage = await self.get(storage_id)
            if isinstance(storage, AttachedStorage):
                await storage.detach()
            await self._store.delete(f"storage/{storage_id}")
            if isinstance(storage, KeepingStorage):
                await storage.forget()
            self._cache.pop(storage_id, None)
            secrets.forget(self._layout, storage_id)

    async def detach_all(self) -> None:
        """Unmount and log out of what is not in use any more: nothing is left to do it later."""
        for storage in await self.all():
            await _detach(storage)

    async def allocated(self, storage: Storage) -> int | None:
        """Bytes that all volumes of guests may grow to; None when the storage does not answer.

        Where only a look at every volume tells, the answer may be as old as some looks take.
        """
        usage = await storage.usage()
        if not usage.active or usage.allocated is not None:
            return usage.allocated
        until, kept = self._sums.get(storage.config.storage, (0.0, 0))
        started = time.monotonic()
        if started >= until:
            try:
                volumes = await storage.list()
            except BastideError:
                return None
            kept = sum(volume.size for volume in volumes if volume.content in ("images", "rootdir"))
            now = time.monotonic()
            self._sums[storage.config.storage] = (now + _PATIENCE * (now - started), kept)
        return kept

    async def bandwidth(self, work: Work, storage_ids: Iterable[str], asked: float | None = None) -> float | None:
        """What a kind of work between these storages may move, in KiB a second; None without a limit.

        The smallest of the storages' limits and the one that was asked for; 0 is none. Raises NotFound.
        """
        limits = [asked]
        for storage_id in storage_ids:
            configured = (await self.get(storage_id)).config.bwlimit
            limits.append(configured.of(work) if configured is not None else None)
        return min((limit for limit in limits if limit), default=None)

    async def digest(self, storage_id: str) -> str:
        """SHA-1 of a storage's record, sent back by callers against lost updates. Raises NotFound."""
        return entry_digest((await self._entry(storage_id)).value)

    async def _usable(self, storage_id: str) -> Storage:
        storage = await self.get(storage_id)
        if storage.config.disable:
            raise WrongState(f"storage '{storage_id}' is disabled")
        if not self.enabled(storage.config):
            raise WrongState(f"storage '{storage_id}' is not available on node '{self._node}'")
        return storage

    async def _entry(self, storage_id: str) -> Entry:
        entry = await self._store.get(f"storage/{storage_id}") if is_storage_id(storage_id) else None
        if entry is None:
            raise NotFound(f"storage '{storage_id[:100]}' does not exist")
        return entry

    def _object(self, entry: Entry) -> Storage:
        name = entry.key.partition("/")[2]
        revision, storage = self._cache.get(name, (0, None))
        if storage is None or revision != entry.revision:
            storage = self._driver(StorageConfig.parse(json.loads(entry.value)))
            self._cache[name] = (entry.revision, storage)
        return storage

    def _driver(self, config: StorageConfig) -> Storage:
        if config.type not in self._drivers:
            raise MethodNotImplemented(f"storage type '{config.type}' not implemented")
        return self._drivers[config.type](config, self._layout)

    async def _check_place(self, config: StorageConfig) -> None:
        for other in await self.all():
            paths = [posixpath.normpath(path) for path in (config.path, other.config.path) if path]
            same_folder = len(paths) == 2 and paths[0].strip("/") == paths[1].strip("/")
            if same_folder or other.config.place == config.place:
                key, what = ("path", "folder") if same_folder else (TYPES[config.type].place[0], "place")
                raise InvalidParameter({key: f"storage '{other.config.storage}' uses this {what} already"})


async def _detach(storage: Storage) -> None:
    """Let go of what nobody uses; what is in use stays attached until the storage is removed."""
    if isinstance(storage, AttachedStorage):
        with contextlib.suppress(BastideError):
            await storage.detach()


def _taken(config: StorageConfig) -> AlreadyExists:
    # Proxmox VE says "already defined", which clients match on; the rest of our own texts says "already exists".
    return AlreadyExists(f"storage ID '{config.storage}' already defined: it already exists")


def entry_digest(text: str) -> str:
    """The digest of a stored record."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _dump(config: StorageConfig) -> str:
    return json.dumps(config.to_text(), sort_keys=True)


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any], removed: set[str]) -> StorageConfig:
    """The record with changes. Raises InvalidParameter for what cannot be changed."""
    keys = TYPES[values["type"]]
    wrong = dict.fromkeys(removed - keys.keys - keys.secrets, "property is not defined in schema")
    wrong |= dict.fromkeys(removed & set(changes), "set and deleted at the same time")
    wrong |= dict.fromkeys(keys.unchangeable & (set(changes) | removed), "can't be changed")
    if wrong:
        raise InvalidParameter(wrong)
    return StorageConfig.parse({**{key: value for key, value in values.items() if key not in removed}, **changes})


def _check(config: StorageConfig, given: Secrets) -> None:
    """What the record's own types do not say. Raises InvalidParameter."""
    wrong: dict[str, str] = {}
    unknown = set(split_list(config.content)) - _CONTENTS
    if unknown:
        wrong["content"] = f"unknown content type '{min(unknown)}'"
    for secret in set(given) - TYPES[config.type].secrets:
        wrong[secret] = f"storage type '{config.type}' has no such property"
    if problem := names.folders_problem(config.folders):
        wrong["content-dirs"] = problem
    if wrong:
        raise InvalidParameter(wrong)
