"""The configured storages: their records in the store, and the driver objects made from them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast

from bastide.base.errors import (
    AlreadyExists,
    BastideError,
    Conflict,
    InvalidParameter,
    NotFound,
    NotSupported,
    WrongState,
)
from bastide.base.ids import VolumeId, is_storage_id
from bastide.base.layout import Layout
from bastide.model.storage import Content, StorageConfig
from bastide.model.types import split_list
from bastide.state.store import ABSENT, Entry, Store
from bastide.storage.dir import DirStorage
from bastide.storage.names import FILE_CONTENTS
from bastide.storage.protocol import ContainerStorage, DiskStorage, FileStorage, Storage

Driver = Callable[[StorageConfig, Layout], Storage]

DRIVERS: Mapping[str, Driver] = MappingProxyType({"dir": DirStorage})
"""The driver of each storage type."""

_LOCAL_CONTENT = "vztmpl,iso,rootdir,images,snippets,backup,import"
_FIXED = ("storage", "type", "path")
_CONTENTS = frozenset({"images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"})


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

    async def start(self) -> list[BastideError]:
        """Make `local` where there is no storage yet, and prepare all enabled ones; returns what failed."""
        if not await self._store.list("storage/"):
            config = StorageConfig(
                storage="local", type="dir", path=str(self._layout.local_storage), content=_LOCAL_CONTENT
            )
            await self._store.put("storage/local", _dump(config), ABSENT)
        failures = []
        for storage in await self.all():
            if self.enabled(storage.config):
                try:
                    await storage.prepare()
                except BastideError as error:
                    failures.append(error)
        return failures

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
        if content not in FILE_CONTENTS or content not in storage.capabilities.contents:
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

    async def add(self, config: StorageConfig) -> None:
        """Record a new storage and make its folders. Raises AlreadyExists, InvalidParameter, HostFailure."""
        _check(config)
        if await self._store.get(f"storage/{config.storage}") is not None:
            raise AlreadyExists(f"storage ID '{config.storage}' already exists")
        await self._check_paths(config)
        if self.enabled(config):
            await self._drivers[config.type](config, self._layout).prepare()
        try:
            await self._store.put(f"storage/{config.storage}", _dump(config), ABSENT)
        except Conflict:
            raise AlreadyExists(f"storage ID '{config.storage}' already exists") from None

    async def update(
        self, storage_id: str, changes: Mapping[str, Any], delete: Iterable[str] = (), digest: str | None = None
    ) -> StorageConfig:
        """Change a storage's record, in the API's keys. Raises NotFound, InvalidParameter, Conflict."""
        entry = await self._entry(storage_id)
        if digest is not None and digest != entry_digest(entry.value):
            raise Conflict("detected modified configuration - file changed by other user? Try again.")
        values: dict[str, Any] = json.loads(entry.value)
        removed = set(delete)
        wrong = {key: "can't be changed" for key in _FIXED if key in changes or key in removed}
        wrong |= dict.fromkeys(removed & set(changes), "set and deleted at the same time")
        if wrong:
            raise InvalidParameter(wrong)
        kept = {key: value for key, value in values.items() if key not in removed}
        config = StorageConfig.parse({**kept, **changes})
        _check(config)
        if self.enabled(config):
            await self._drivers[config.type](config, self._layout).prepare()
        await self._store.put(entry.key, _dump(config), entry.revision)
        return config

    async def remove(self, storage_id: str) -> None:
        """Forget a storage; its files stay. Raises NotFound."""
        await self._entry(storage_id)
        await self._store.delete(f"storage/{storage_id}")
        self._cache.pop(storage_id, None)

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
            config = StorageConfig.parse(json.loads(entry.value))
            storage = self._drivers[config.type](config, self._layout)
            self._cache[name] = (entry.revision, storage)
        return storage

    async def _check_paths(self, config: StorageConfig) -> None:
        for other in await self.all():
            if config.path and (other.config.path or "").rstrip("/") == config.path.rstrip("/"):
                raise InvalidParameter({"path": f"storage '{other.config.storage}' uses this folder already"})


def entry_digest(text: str) -> str:
    """The digest of a stored record."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _dump(config: StorageConfig) -> str:
    return json.dumps(config.to_text(), sort_keys=True)


def _check(config: StorageConfig) -> None:
    """What the record's own types do not say. Raises InvalidParameter."""
    wrong: dict[str, str] = {}
    unknown = set(split_list(config.content)) - _CONTENTS
    if unknown:
        wrong["content"] = f"unknown content type '{min(unknown)}'"
    if config.path is not None and config.path.rstrip("/") in (
        "",
        "/proc",
        "/sys",
        "/dev",
        "/run",
        "/etc",
        "/usr",
        "/boot",
    ):
        wrong["path"] = "this folder can't be a storage"
    if wrong:
        raise InvalidParameter(wrong)
