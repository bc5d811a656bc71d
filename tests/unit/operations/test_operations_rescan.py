"""Volumes that no record names become unused, and sizes what they are; nothing else changes."""

from dataclasses import replace
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, NotFound
from bastide.base.units import GIB, MIB
from bastide.guest.engines import Engines
from bastide.guest.fake_vm import FakeVmEngine
from bastide.model.access import ROOT
from bastide.model.container import ContainerOptions
from bastide.model.guest import Guest
from bastide.model.storage import StorageConfig
from bastide.model.vm import VmOptions
from bastide.operations.ct.create import create_container
from bastide.operations.rescan import Finding, rescan
from bastide.operations.rooms import Rooms
from bastide.operations.vm import clone, configure, snapshot, template
from bastide.operations.vm.create import create_vm
from bastide.storage.fake import FakeStorage
from framework.rooms import FAKE_STORAGES, TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    """VM 100 with a snapshot, a configuration drive and an unused disk, and CT 200 with a volume without a size."""
    rooms = await fake_rooms(tmp_path, FAKE_STORAGES)
    rooms = replace(rooms, engines=Engines(rooms.containers, FakeVmEngine()))
    config = {"storage": "other", "type": "dir", "path": f"{tmp_path}/other", "content": "images,rootdir"}
    await rooms.storages.add(StorageConfig.parse(config))
    disks = {"scsi0": "local:1", "scsi1": "local:1", "ide2": "local:cloudinit", "ide0": "none,media=cdrom"}
    inside = ContainerOptions.parse({"rootfs": "local:1", "mp0": "local:0,mp=/data"})
    for upid in (
        await create_vm(rooms, ROOT, 100, VmOptions.parse(disks)),
        await create_container(rooms, ROOT, 200, TEMPLATE, inside),
    ):
        assert (await rooms.tasks.wait(upid)).exitstatus == "OK"
    assert (await rooms.tasks.wait(await snapshot.take_snapshot(rooms, ROOT, 100, "then"))).exitstatus == "OK"
    await configure.update_config(rooms, ROOT, 100, VmOptions(), delete=["scsi1"])
    return rooms


async def fake(rooms: Rooms, name: str = "local") -> FakeStorage:
    storage = await rooms.storages.get(name)
    assert isinstance(storage, FakeStorage)
    return storage


async def test_what_is_right_stays(rooms: Rooms) -> None:
    before = await rooms.guests.list()
    assert await rescan(rooms, "me") == []
    assert await rooms.guests.list() == before


@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_nobody_names_becomes_unused_and_sizes_are_corrected(rooms: Rooms, *, dry_run: bool) -> None:
    local, other = await fake(rooms), await fake(rooms, "other")
    await other.allocate_disk("100/vm-100-disk-7.qcow2", MIB)
    await other.allocate("200/vm-200-disk-7.subvol", MIB)
    await other.allocate_disk("999/vm-999-disk-0.raw", MIB)
    await local.resize_disk("100/vm-100-disk-0.raw", 3 * GIB)
    await local.resize("200/vm-200-disk-0.subvol", 2 * GIB)
    before = {guest.vmid: guest for guest in await rooms.guests.list()}
    found = await rescan(rooms, "me", dry_run=dry_run)
    assert sorted(found, key=str) == sorted(
        [
            Finding("size", 100, "scsi0", "local:100/vm-100-disk-0.raw", GIB, 3 * GIB),
            Finding("size", 200, "rootfs", "local:200/vm-200-disk-0.subvol", GIB, 2 * GIB),
            Finding("unused", 100, "unused1", "other:100/vm-100-disk-7.qcow2"),
            Finding("unused", 200, "unused0", "other:200/vm-200-disk-7.subvol"),
        ],
        key=str,
    )
    after = {guest.vmid: guest for guest in await rooms.guests.list()}
    assert await rooms.locks.list() == []
    if dry_run:
        assert after == before
        return
    assert after[100].config == {
        **before[100].config,
        "scsi0": "local:100/vm-100-disk-0.raw,size=3G",
        "unused1": "other:100/vm-100-disk-7.qcow2",
    }
    assert after[200].config["rootfs"] == "local:200/vm-200-disk-0.subvol,size=2G"
    assert after[100].snapshots == before[100].snapshots
    assert await rescan(rooms, "me") == []


async def test_one_guest_alone(rooms: Rooms) -> None:
    other = await fake(rooms, "other")
    await other.allocate_disk("100/vm-100-disk-7.qcow2", MIB)
    await other.allocate("200/vm-200-disk-7.subvol", MIB)
    assert [(one.what, one.vmid) for one in await rescan(rooms, "me", 200)] == [("unused", 200)]
    assert "unused1" not in (await rooms.guests.get(100)).config
    with pytest.raises(NotFound):
        await rescan(rooms, "me", 300)


async def test_linked_clones_and_their_bases_are_named(rooms: Rooms) -> None:
    options = VmOptions.parse({"scsi0": "local:1"})
    for act in (
        lambda: create_vm(rooms, ROOT, 101, options),
        lambda: template.make_template(rooms, ROOT, 101),
        lambda: clone.clone_vm(rooms, ROOT, 101, clone.Clone(102)),
    ):
        assert (await rooms.tasks.wait(await act())).exitstatus == "OK"
    assert await rescan(rooms, "me") == []


async def test_what_cannot_be_looked_at_is_told_and_left(rooms: Rooms) -> None:
    other = await fake(rooms, "other")
    other.faults["list"] = HostFailure("storage 'other' does not answer")
    local = await fake(rooms)
    await local.allocate("200/vm-200-disk-7.subvol", MIB)
    guest = await rooms.guests.get(200)
    await rooms.guests.create(Guest(201, "lxc", "pve", {"lock": "create"}))
    await local.allocate("201/vm-201-disk-0.subvol", MIB)
    async with rooms.locks.hold(100, "UPID:somebody", "move"):
        found = await rescan(rooms, "me")
    assert {(one.what, one.vmid) for one in found} == {("problem", None), ("problem", 100), ("unused", 200)}
    assert (await rooms.guests.get(200)).config == {**guest.config, "unused0": "local:200/vm-200-disk-7.subvol"}
    assert (await rooms.guests.get(201)).config == {"lock": "create"}
