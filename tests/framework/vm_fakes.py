"""Rooms for operations on VMs whose storages and engine are fakes that know of each other, and may die."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from bastide.base.layout import Layout
from bastide.guest.engines import Engines
from bastide.guest.fake import FakeEngine
from bastide.guest.fake_vm import FakeVmEngine
from bastide.guest.registry import Guests
from bastide.model.storage import StorageConfig
from bastide.operations.rooms import Rooms
from bastide.state.memory import MemoryStore
from bastide.storage.fake import FakeStorage
from bastide.storage.registry import Storages
from bastide.tasks.locks import GuestLocks
from framework.mortal import Life, Mortal
from framework.rooms import fake_rooms


class Vms(FakeVmEngine):
    """VMs whose internal snapshots are in the fake storage, as those of a qcow2 file are in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.storage: FakeStorage | None = None

    async def snapshot_disks(self, vmid: int, snapshot: str, keys: Sequence[str]) -> None:
        """Also in the storage."""
        await super().snapshot_disks(vmid, snapshot, keys)
        for key in keys:
            await self._store().snapshot(self._volume(vmid, key), snapshot)

    async def delete_disk_snapshot(self, vmid: int, snapshot: str, key: str) -> None:
        """Also in the storage."""
        await super().delete_disk_snapshot(vmid, snapshot, key)
        await self._store().delete_snapshot(self._volume(vmid, key), snapshot)

    def _store(self) -> FakeStorage:
        assert self.storage is not None
        return self.storage

    def _volume(self, vmid: int, key: str) -> str:
        disk = self.guests[vmid].plan.disk(key)
        assert disk is not None
        return disk.options.file.partition(":")[2]


class World:
    """What outlives a daemon: the store, the storage `local`, the VMs; `rooms` are those of the present daemon."""

    def __init__(self, rooms: Rooms, vms: Vms, storage: FakeStorage) -> None:
        self.rooms, self.vms, self.storage = rooms, vms, storage
        self._store = rooms.store

    @classmethod
    async def make(cls, root: Path, like: "World | None" = None) -> "World":
        """A fresh one; what is of no interest (tasks, figures, access) it shares with the one it is made `like`."""
        if like is None:
            base = await fake_rooms(root)
        else:
            store = MemoryStore()
            base = replace(like.rooms, layout=Layout(root), store=store, guests=Guests(store, like.rooms.node),
                           locks=GuestLocks(store))  # fmt: skip
        vms = Vms()
        made: list[FakeStorage] = []

        def driver(config: StorageConfig, layout: Layout) -> FakeStorage:
            if not made or config.storage != "local":
                made.append(FakeStorage(config, layout))
            return made[-1] if config.storage != "local" else made[0]

        storages = Storages(base.store, base.layout, {"dir": driver, "btrfs": driver})
        assert await storages.start() == []
        vms.storage = cast(FakeStorage, await storages.get("local"))
        rooms = replace(base, storages=storages, engines=Engines(FakeEngine(), vms))
        return cls(rooms, vms, vms.storage)

    def daemon(self, life: Life) -> Rooms:
        """The rooms of a daemon with that life; tasks' records are not of interest and do not die."""
        store: Any = Mortal(self._store, life)
        storages = Storages(store, self.rooms.layout, {"dir": self._driver(life), "btrfs": self._driver(life)})
        engines = Engines(FakeEngine(), cast(FakeVmEngine, Mortal(self.vms, life)))
        return replace(
            self.rooms,
            store=store,
            storages=storages,
            engines=engines,
            guests=Guests(store, self.rooms.node),
            locks=GuestLocks(store),
        )

    def _driver(self, life: Life) -> Any:
        return lambda _config, _layout: Mortal(self.storage, life)

    async def volumes(self) -> set[str]:
        """The names of all volumes of guests."""
        return {volume.volid.partition(":")[2] for volume in await self.storage.list("images")}
