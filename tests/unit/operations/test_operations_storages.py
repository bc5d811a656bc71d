"""Who uses a storage, what fits on it, and copies of volumes."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import AlreadyExists, InvalidParameter, NotSupported, WrongState
from bastide.base.units import GIB, MIB
from bastide.model.access import ROOT
from bastide.model.guest import Guest, GuestState
from bastide.model.snapshot import Snapshot
from bastide.model.storage import StorageConfig, StorageUsage
from bastide.operations import content, storages
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted
from bastide.operations.volume_copy import copy_volume
from bastide.storage.dir import DirStorage
from framework.rooms import TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    made = await fake_rooms(tmp_path)
    config = {"storage": "more", "type": "dir", "path": f"{tmp_path}/more", "content": "iso,vztmpl,images,rootdir"}
    await made.storages.add(StorageConfig.parse(config))
    return made


def _taken(**values: Any) -> Snapshot:
    return Snapshot("before", 1, values.pop("config", {}), (), **values)


@pytest.mark.parametrize(
    "guest",
    [
        Guest(100, "lxc", "pve", {"rootfs": "more:100/vm-100-disk-0.raw,size=8G"}),
        Guest(100, "lxc", "pve", {"mp0": "mp=/x,volume=more:100/vm-100-disk-1.raw"}),
        Guest(100, "qemu", "pve", {"ide2": "more:iso/a.iso,media=cdrom"}),
        Guest(100, "qemu", "pve", {}, pending={"scsi0": "file=more:100/vm-100-disk-0.raw"}),
        Guest(100, "qemu", "pve", {"unused0": "more:100/vm-100-disk-0.raw"}),
        Guest(100, "qemu", "pve", {"cicustom": "user=more:snippets/u.yaml"}),
        Guest(100, "qemu", "pve", {}, snapshots={"before": _taken(config={"scsi0": "more:100/vm-100-disk-0.raw"})}),
        Guest(100, "qemu", "pve", {}, snapshots={"before": _taken(vmstate="more:100/vm-100-state-before.raw")}),
    ],
)
async def test_a_storage_that_a_guest_names_stays(rooms: Rooms, guest: Guest) -> None:
    await rooms.guests.create(guest)
    with pytest.raises(WrongState, match=f"used by {guest.title}"):
        await storages.remove(rooms, "more")
    await storages.remove(rooms, "local")
    assert [storage.config.storage for storage in await rooms.storages.all()] == ["more"]


async def test_a_storage_that_only_looks_named_goes(rooms: Rooms) -> None:
    await rooms.guests.create(Guest(100, "lxc", "pve", {"description": "more is less", "hostname": "more"}))
    await storages.remove(rooms, "more")


async def test_what_cannot_fit_is_refused_by_its_key(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    async def usage(_self: Any) -> StorageUsage:
        return StorageUsage(True, 100 * GIB, 90 * GIB, 10 * GIB)

    monkeypatch.setattr(DirStorage, "usage", usage)
    await storages.check_fits(rooms, {"scsi0": Wanted("local", 60 * GIB), "scsi1": Wanted("local", 60 * GIB)})
    with pytest.raises(InvalidParameter, match=r"scsi1: .* do not fit") as caught:
        await storages.check_fits(rooms, {"scsi0": Wanted("local", GIB), "scsi1": Wanted("local", 101 * GIB)})
    assert list(caught.value.errors) == ["scsi1"]
    known = DirStorage.capabilities.fget(await rooms.storages.get("local"))  # type: ignore[attr-defined]
    thick = dataclasses.replace(known, thin=False)
    monkeypatch.setattr(DirStorage, "capabilities", property(lambda _self: thick))
    await storages.check_fits(rooms, {"size": Wanted("local", 60 * GIB, present=55 * GIB)})
    with pytest.raises(InvalidParameter, match="scsi1"):
        await storages.check_fits(rooms, {"scsi0": Wanted("local", 6 * GIB), "scsi1": Wanted("local", 6 * GIB)})
    with pytest.raises(InvalidParameter, match="size"):
        await content.create_volume(rooms, "local", 100, "vm-100-disk-0.raw", size="11G", form="raw")
    assert list(await (await rooms.storages.get("local")).list("images")) == []


async def _copied(rooms: Rooms, source: str, target: str) -> str:
    record = await rooms.tasks.wait(await copy_volume(rooms, ROOT, source, target))
    return str(record.exitstatus)


async def test_a_file_is_copied_within_a_storage_and_to_another(rooms: Rooms) -> None:
    name = TEMPLATE.partition(":")[2]
    for target in ("local:vztmpl/copy_1_amd64.tar.gz", f"more:{name}"):
        assert await _copied(rooms, TEMPLATE, target) == "OK"
        storage, copied = await rooms.storages.resolve(target)
        assert (await storage.info(copied)).size == (await (await rooms.storages.get("local")).info(name)).size
        with pytest.raises(AlreadyExists):
            await copy_volume(rooms, ROOT, TEMPLATE, target)
    with pytest.raises(InvalidParameter, match="target"):
        await copy_volume(rooms, ROOT, TEMPLATE, "local:iso/x.iso")
    with pytest.raises(InvalidParameter):
        await copy_volume(rooms, ROOT, TEMPLATE, "local:vztmpl/../x.tar.gz")
    folder = rooms.layout.local_storage / ".incoming"
    assert list(folder.iterdir()) == []


@pytest.mark.system
async def test_a_disk_is_copied_while_nobody_writes_to_it(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    disks: Any = await rooms.storages.disks("local")
    await disks.allocate_disk("100/vm-100-disk-0.raw", 4 * MIB)
    (await disks.disk_path("100/vm-100-disk-0.raw")).write_bytes(b"mark" + bytes(4 * MIB - 4))
    for target in ("local:101/vm-101-disk-0.raw", "more:101/vm-101-disk-0.raw"):
        assert await _copied(rooms, "local:100/vm-100-disk-0.raw", target) == "OK"
        storage: Any = (await rooms.storages.resolve(target))[0]
        assert (await storage.disk_path("101/vm-101-disk-0.raw")).read_bytes()[:4] == b"mark"
    await rooms.guests.create(Guest(100, "qemu", "pve", {"scsi0": "local:100/vm-100-disk-0.raw"}))
    monkeypatch.setattr(rooms.vms, "state", lambda _vmid: GuestState.RUNNING)
    with pytest.raises(WrongState, match="VM 100"):
        await copy_volume(rooms, ROOT, "local:100/vm-100-disk-0.raw", "local:102/vm-102-disk-0.raw")


async def test_a_containers_volume_stays_on_its_storage(rooms: Rooms) -> None:
    containers: Any = await rooms.storages.containers("local")
    await containers.allocate("100/vm-100-disk-0.subvol", 0)
    with pytest.raises(NotSupported, match="clone"):
        await copy_volume(rooms, ROOT, "local:100/vm-100-disk-0.subvol", "more:101/vm-101-disk-0.subvol")
