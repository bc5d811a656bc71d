"""Volumes that no guest names keep their names and what they hold; what a dead daemon had mounted is released."""

from dataclasses import replace
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure
from bastide.base.ids import Upid
from bastide.guest.engines import Engines
from bastide.guest.fake import FakeEngine
from bastide.guest.fake_vm import FakeVmEngine
from bastide.model.access import ROOT
from bastide.model.container import ContainerOptions
from bastide.model.storage import StorageConfig
from bastide.model.vm import VmOptions
from bastide.operations.ct import clone as ct_clone
from bastide.operations.ct import move as ct_move
from bastide.operations.ct import power
from bastide.operations.ct.create import create_container
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from bastide.operations.vm import clone, move
from bastide.operations.vm.create import create_vm
from bastide.storage.fake import FakeStorage
from framework.rooms import FAKE_STORAGES, TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    rooms = await fake_rooms(tmp_path, FAKE_STORAGES)
    config = {"storage": "other", "type": "dir", "path": f"{tmp_path}/other", "content": "images,rootdir"}
    await rooms.storages.add(StorageConfig.parse(config))
    return replace(rooms, engines=Engines(rooms.containers, FakeVmEngine()))


async def fake(rooms: Rooms, name: str = "local") -> FakeStorage:
    storage = await rooms.storages.get(name)
    assert isinstance(storage, FakeStorage)
    return storage


async def end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def container(rooms: Rooms, vmid: int = 100) -> Upid:
    options = ContainerOptions.parse({"rootfs": "local:0.01", "mp0": "local:0.01,mp=/data"})
    return await create_container(rooms, ROOT, vmid, TEMPLATE, options)


async def machine(rooms: Rooms, vmid: int = 100) -> Upid:
    return await create_vm(rooms, ROOT, vmid, VmOptions.parse({"scsi0": "local:0.125", "scsi1": "local:0.125"}))


async def test_a_container_whose_making_fails_takes_no_orphan_along(rooms: Rooms) -> None:
    storage, orphan = await fake(rooms), "100/vm-100-disk-1.subvol"
    await storage.allocate(orphan, 4096)
    (storage.path(orphan) / "kept").write_text("data")
    storage.faults["activate"] = HostFailure("it broke")
    assert await end(rooms, await container(rooms)) == "it broke"
    assert [volume.volid for volume in await storage.list("rootdir")] == [f"local:{orphan}"]
    assert (storage.path(orphan) / "kept").read_text() == "data"
    assert await end(rooms, await container(rooms)) == "OK"
    config = (await rooms.guests.get(100)).config
    assert [str(config[key]).partition(",")[0][-13:] for key in ("rootfs", "mp0")] == ["disk-0.subvol", "disk-2.subvol"]


async def test_a_vm_whose_making_fails_takes_no_orphan_along(rooms: Rooms) -> None:
    storage, orphan = await fake(rooms), "100/vm-100-disk-0.raw"
    await storage.allocate_disk(orphan, 4096)
    storage.faults["allocate_disk"] = HostFailure("it broke")
    assert await end(rooms, await machine(rooms)) == "it broke"
    assert [volume.volid for volume in await storage.list("images")] == [f"local:{orphan}"]
    assert await end(rooms, await machine(rooms)) == "OK"
    config = (await rooms.guests.get(100)).config
    assert str(config["scsi0"]).startswith("local:100/vm-100-disk-1.raw")


async def test_copies_go_beside_orphans(rooms: Rooms) -> None:
    assert await end(rooms, await machine(rooms)) == "OK"
    assert await end(rooms, await container(rooms, 200)) == "OK"
    local, other = await fake(rooms), await fake(rooms, "other")
    await other.allocate_disk("100/vm-100-disk-2.raw", 4096)
    await other.allocate("200/vm-200-disk-2.subvol", 4096)
    await local.allocate("201/vm-201-disk-0.subvol", 4096)
    await local.allocate_disk("101/vm-101-disk-0.raw", 4096)
    for act in (
        move.move_disk(rooms, ROOT, 100, move.Move("scsi0", storage="other")),
        ct_move.move_volume(rooms, ROOT, 200, ct_move.Move("mp0", storage="other")),
        ct_clone.clone_container(rooms, ROOT, 200, ct_clone.Clone(201)),
        clone.clone_vm(rooms, ROOT, 100, clone.Clone(101, storage="local")),
    ):
        assert await end(rooms, await act) == "OK"
    found = {volume.volid for storage in (local, other) for volume in await storage.list()}
    assert {"other:100/vm-100-disk-3.raw", "other:200/vm-200-disk-3.subvol"} <= found
    assert {"local:101/vm-101-disk-1.raw", "local:101/vm-101-disk-2.raw"} <= found
    config = (await rooms.guests.get(201)).config
    assert str(config["rootfs"]).startswith("local:201/vm-201-disk-1.subvol")


async def test_what_a_dead_daemon_had_mounted_for_a_start_is_released(rooms: Rooms) -> None:
    for vmid in (100, 101, 102):
        assert await end(rooms, await container(rooms, vmid)) == "OK"
    assert await end(rooms, await power.start(rooms, ROOT, 101)) == "OK"
    storage, engine = await fake(rooms), rooms.containers
    assert isinstance(engine, FakeEngine)
    for vmid in (100, 101, 102):
        for number in (0, 1):
            await storage.activate(f"{vmid}/vm-{vmid}-disk-{number}.subvol")
    held = [rooms.locks.hold(vmid, "UPID:dead", "start") for vmid in (100, 101)]
    for lock in held:
        await lock.__aenter__()
    await recover(rooms)
    assert {name.partition("/")[0] for name in storage.active_volumes} == {"101", "102"}
    assert engine.running() == {101}
    assert await rooms.locks.list() == []
