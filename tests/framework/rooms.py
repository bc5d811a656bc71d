"""Rooms over the fakes: operations without root, containers or bridges."""

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from bastide.access.access import Access
from bastide.base.layout import Layout
from bastide.guest.engines import Engines
from bastide.guest.fake import FakeEngine
from bastide.guest.fake_vm import FakeVmEngine
from bastide.guest.registry import Guests
from bastide.metrics.sampler import MeasuredStorage, Sampler
from bastide.network.fake import FakeNetwork
from bastide.operations.rooms import Rooms
from bastide.state.memory import MemoryStore
from bastide.state.store import Store
from bastide.storage.dir import DirStorage
from bastide.storage.fake import FakeStorage
from bastide.storage.protocol import Capabilities
from bastide.storage.registry import DRIVERS, Driver, Storages
from bastide.tasks.locks import GuestLocks
from bastide.tasks.tasks import Tasks

TEMPLATE = "local:vztmpl/debian-12-test_1_amd64.tar.gz"


class _Copying(DirStorage):
    """A folder whose guests get copies: what they could share would have to be mounted."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, copy_on_write=None)


PLAIN_STORAGES: Mapping[str, Driver] = {**{k: d for k, d in DRIVERS.items() if k != "btrfs"}, "dir": _Copying}
FAKE_STORAGES: Mapping[str, Driver] = {"dir": FakeStorage}


async def fake_rooms(root: Path, drivers: Mapping[str, Driver] = PLAIN_STORAGES, store: Store | None = None) -> Rooms:
    """Rooms whose guests are fakes; the storage `local` is a real folder below `root` with one small template.

    `drivers` of storages: `FAKE_STORAGES` are fakes, too. `store` is an empty one in memory, unless one is given.
    """
    layout = Layout(root)
    for folder in (layout.state, layout.runtime, layout.logs):
        folder.mkdir(parents=True, exist_ok=True)
    store, engines = store or MemoryStore(), Engines(FakeEngine(), FakeVmEngine())
    storages, guests = Storages(store, layout, drivers), Guests(store, "pve")

    async def list_storages() -> Sequence[MeasuredStorage]:
        return await storages.all()

    network = FakeNetwork(layout)
    await network.start()
    rooms = Rooms(
        node="pve",
        layout=layout,
        store=store,
        tasks=Tasks(store, layout, "pve"),
        locks=GuestLocks(store),
        guests=guests,
        engines=engines,
        storages=storages,
        network=network,
        sampler=Sampler(layout, "pve", engines, list_guests=guests.list, list_storages=list_storages),
        access=Access(store, "pve", layout),
    )
    assert await storages.start() == []
    # Folders: an image would have to be mounted, which only root may.
    await storages.update("local", {"format": "subvol"})
    files, name = await storages.files("local", "vztmpl"), TEMPLATE.partition(":")[2]
    incoming = files.incoming(name)
    _write_template(incoming)
    await files.publish(incoming, name)
    return rooms


def _write_template(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("./etc/os-release")
        data = b"ID=debian\n"
        member.size = len(data)
        archive.addfile(member, BytesIO(data))
