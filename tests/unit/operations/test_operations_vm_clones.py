"""Clones and templates of VMs over the fakes: each copy is itself, and whatever fails or dies leaves nothing."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from bastide.base.errors import (
    AlreadyExists,
    HostFailure,
    InvalidParameter,
    NoSpace,
    NotFound,
    NotSupported,
    WrongState,
)
from bastide.base.ids import Upid
from bastide.model.access import ROOT
from bastide.model.guest import GuestState
from bastide.model.storage import StorageConfig
from bastide.model.vm import VmConfig, VmOptions
from bastide.operations import pools
from bastide.operations.destroy import destroy_guest
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from bastide.operations.vm import cloudinit, power, snapshot
from bastide.operations.vm.clone import Clone, clone_vm
from bastide.operations.vm.cloudinit import CloudInit
from bastide.operations.vm.create import create_vm
from bastide.operations.vm.template import make_template
from framework.mortal import Died, Life
from framework.vm_fakes import World

pytestmark = pytest.mark.anyio

DISKS = {
    "scsi0": "local:0.001,format=qcow2",
    "tpmstate0": "local:1",
    "ide2": "local:cloudinit",
    "net0": "virtio,bridge=vmbr0",
    "ipconfig0": "ip=dhcp",
}


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World.make(tmp_path)


async def end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def create(world: World, vmid: int = 100, *, start: bool = False, **values: object) -> None:
    options = VmOptions.parse({"name": "db", **(values or DISKS)})
    assert await end(world.rooms, await create_vm(world.rooms, ROOT, vmid, options, start=start)) == "OK"
    for volume in await world.storage.list("images", vmid):
        if "-disk-" in volume.volid:
            write(world, f"of {vmid}".encode(), volume.volid.partition(":")[2])


async def clone(world: World, vmid: int = 101, *, rooms: Rooms | None = None, **wanted: Any) -> str:
    rooms = rooms or world.rooms
    return await end(rooms, await clone_vm(rooms, ROOT, 100, Clone(vmid, **wanted)))


async def template(world: World, vmid: int = 100, disk: str | None = None, *, rooms: Rooms | None = None) -> str:
    rooms = rooms or world.rooms
    return await end(rooms, await make_template(rooms, ROOT, vmid, disk))


async def config(world: World, vmid: int = 101) -> VmConfig:
    return VmConfig.parse((await world.rooms.guests.get(vmid)).config)


def write(world: World, text: bytes, name: str) -> None:
    path = world.storage.path(name)
    path.write_bytes(text.ljust(path.stat().st_size, b"\0"))


def read(world: World, name: str) -> bytes:
    return world.storage.path(name).read_bytes().rstrip(b"\0")


async def nothing_left(world: World) -> None:
    with pytest.raises(NotFound):
        await world.rooms.guests.get(101)
    assert {name for name in await world.volumes() if "vm-101-" in name} == set()
    assert await world.rooms.locks.list() == []
    assert (await world.rooms.guests.get(100)).snapshots == {}
    for name in await world.volumes():
        assert await world.storage.snapshots(name) == [], name


async def test_a_full_clone_is_a_vm_of_its_own(world: World) -> None:
    await create(world)
    assert await clone(world, name="copy", description="made of db") == "OK"
    mine, copy = await config(world, 100), await config(world)
    assert (copy.name, copy.description, copy.lock) == ("copy", "made of db", None)
    assert (copy.scsi[0].file, copy.tpmstate0 and copy.tpmstate0.file, copy.ide[2].file) == (
        "local:101/vm-101-disk-0.qcow2", "local:101/vm-101-disk-1.raw", "local:101/vm-101-cloudinit.raw",
    )  # fmt: skip
    assert read(world, "101/vm-101-disk-0.qcow2") == read(world, "101/vm-101-disk-1.raw") == b"of 100"
    assert mine.smbios1 is not None
    assert copy.smbios1 is not None
    assert mine.smbios1.uuid != copy.smbios1.uuid
    assert mine.vmgenid != copy.vmgenid
    assert mine.net[0].macaddr != copy.net[0].macaddr
    assert copy.net[0].bridge == "vmbr0"
    guests = [await world.rooms.guests.get(vmid) for vmid in (100, 101)]
    assert guests[0].first_id != guests[1].first_id
    assert await end(world.rooms, await power.start(world.rooms, ROOT, 101)) == "OK"


async def test_cloud_init_sees_a_new_machine(world: World) -> None:
    await create(world)
    await cloudinit.set_data(world.rooms, 100, CloudInit(user="#cloud-config\nlocale: C\n", meta="instance-id: one\n"))
    assert await clone(world) == "OK"
    assert (await config(world)).name == "Copy-of-VM-db"
    told = await cloudinit.get_data(world.rooms, 101)
    assert told.user == "#cloud-config\nlocale: C\n"
    assert told.meta is None
    (command,) = yaml.safe_load(told.vendor or "")["bootcmd"]
    assert command[:3] == ["cloud-init-per", "instance", "bastide-machine-id"]
    ids = [yaml.safe_load(await cloudinit.dump(world.rooms, vmid, "meta"))["instance-id"] for vmid in (100, 101)]
    assert ids[0] != ids[1]


async def test_a_full_clone_elsewhere_and_in_another_format(world: World, tmp_path: Path) -> None:
    await create(world, scsi0="local:0.001")
    await world.rooms.storages.add(
        StorageConfig.parse({"storage": "other", "type": "dir", "path": str(tmp_path / "other"), "content": "images"})
    )
    assert await clone(world, storage="other", form="qcow2") == "OK"
    assert (await config(world)).scsi[0].file == "other:101/vm-101-disk-0.qcow2"
    with pytest.raises(InvalidParameter, match="vmdk"):
        await clone_vm(world.rooms, ROOT, 100, Clone(102, form="vmdk"))


async def test_a_clone_of_a_snapshot(world: World) -> None:
    await create(world)
    assert await end(world.rooms, await snapshot.take_snapshot(world.rooms, ROOT, 100, "then")) == "OK"
    write(world, b"later", "100/vm-100-disk-0.qcow2")
    guest = await world.rooms.guests.get(100)
    await world.rooms.guests.update(guest.with_config({**guest.config, "memory": "1024"}))
    assert await clone(world, snapshot="then") == "OK"
    assert read(world, "101/vm-101-disk-0.qcow2") == b"of 100"
    copy = await config(world)
    assert (copy.memory_mib, copy.parent) == (512, None)
    assert (await world.rooms.guests.get(101)).snapshots == {}
    with pytest.raises(NotFound):
        await clone_vm(world.rooms, ROOT, 100, Clone(102, snapshot="never"))


async def test_a_running_vm_is_copied_as_it_is_at_one_moment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(world, start=True)
    plain = world.storage.copy

    async def copy(name: str, target: str, snap: str | None = None, progress: Any = None, *, rate: int = 0) -> None:
        write(world, b"later", name)
        await plain(name, target, snap, progress, rate=rate)

    monkeypatch.setattr(world.storage, "copy", copy)
    assert await clone(world) == "OK"
    assert read(world, "101/vm-101-disk-0.qcow2") == b"of 100"
    assert world.vms.running() == {100}
    assert world.vms.state(100) is GuestState.RUNNING
    assert (await world.rooms.guests.get(100)).snapshots == {}
    assert await world.storage.snapshots("100/vm-100-disk-0.qcow2") == []
    assert "parent" not in (await world.rooms.guests.get(100)).config


async def test_a_template_and_its_linked_clones(world: World) -> None:
    await create(world)
    assert await template(world) == "OK"
    base = await config(world, 100)
    assert (base.template, base.scsi[0].file) == (True, "local:100/base-100-disk-0.qcow2")
    assert base.ide[2].file == "local:100/vm-100-cloudinit.raw"
    with pytest.raises(WrongState, match="is a template"):
        await power.start(world.rooms, ROOT, 100)
    with pytest.raises(WrongState, match="is a template"):
        await snapshot.take_snapshot(world.rooms, ROOT, 100, "then")
    with pytest.raises(WrongState, match="is a template already"):
        await make_template(world.rooms, ROOT, 100)
    for vmid in (101, 102):
        assert await end(world.rooms, await clone_vm(world.rooms, ROOT, 100, Clone(vmid))) == "OK"
        copy = await config(world, vmid)
        assert copy.scsi[0].file == f"local:100/base-100-disk-0.qcow2/{vmid}/vm-{vmid}-disk-0.qcow2"
        assert copy.tpmstate0 is not None
        assert copy.tpmstate0.file == f"local:{vmid}/vm-{vmid}-disk-1.raw"
        assert copy.template is None
        assert await end(world.rooms, await power.start(world.rooms, ROOT, vmid)) == "OK"
    assert "in use by linked clones" in await end(world.rooms, await destroy_guest(world.rooms, ROOT, 100))
    assert await end(world.rooms, await clone_vm(world.rooms, ROOT, 100, Clone(103, full=True))) == "OK"
    assert (await config(world, 103)).scsi[0].file == "local:103/vm-103-disk-0.qcow2"


async def test_one_disk_of_a_template(world: World) -> None:
    await create(world, scsi0="local:0.001", scsi1="local:0.001")
    assert await template(world, disk="scsi1") == "OK"
    made = await config(world, 100)
    assert (made.template, made.scsi[0].file, made.scsi[1].file) == (
        True, "local:100/vm-100-disk-0.raw", "local:100/base-100-disk-1.raw",
    )  # fmt: skip
    with pytest.raises(NotSupported, match="scsi0"):
        await clone_vm(world.rooms, ROOT, 100, Clone(101))
    assert await template(world) == "OK"
    assert await clone(world) == "OK"


async def test_what_no_template_can_be_made_of(world: World) -> None:
    await create(world, start=True, scsi0="local:0.001")
    with pytest.raises(WrongState, match="while it runs"):
        await make_template(world.rooms, ROOT, 100)
    assert await end(world.rooms, await power.stop(world.rooms, ROOT, 100)) == "OK"
    with pytest.raises(InvalidParameter, match="scsi7"):
        await make_template(world.rooms, ROOT, 100, "scsi7")
    world.storage.faults["make_base"] = HostFailure("no")
    before = dict((await world.rooms.guests.get(100)).config)
    assert await template(world) == "no"
    assert dict((await world.rooms.guests.get(100)).config) == before
    assert await end(world.rooms, await snapshot.take_snapshot(world.rooms, ROOT, 100, "then")) == "OK"
    with pytest.raises(WrongState, match="contains snapshots"):
        await make_template(world.rooms, ROOT, 100)


async def test_what_is_refused_at_once(world: World) -> None:
    await create(world)
    with pytest.raises(InvalidParameter, match="is no template"):
        await clone_vm(world.rooms, ROOT, 100, Clone(101, full=False))
    with pytest.raises(AlreadyExists):
        await clone_vm(world.rooms, ROOT, 100, Clone(100))
    with pytest.raises(NotFound):
        await clone_vm(world.rooms, ROOT, 100, Clone(101, pool="none"))
    assert await template(world) == "OK"
    for wanted in (Clone(101, storage="local"), Clone(101, form="raw")):
        with pytest.raises(InvalidParameter, match="not allowed for linked clones"):
            await clone_vm(world.rooms, ROOT, 100, wanted)
    await nothing_left(world)


async def test_what_an_earlier_vm_left_is_not_touched(world: World) -> None:
    await create(world, scsi0="local:0.001")
    await world.storage.allocate_disk("101/vm-101-disk-0.raw", 4096)
    write(world, b"left", "101/vm-101-disk-0.raw")
    world.storage.faults["copy"] = HostFailure("no")
    assert await clone(world) == "no"
    assert read(world, "101/vm-101-disk-0.raw") == b"left"
    assert await clone(world) == "OK"
    assert (await config(world)).scsi[0].file == "local:101/vm-101-disk-1.raw"


async def test_a_clone_joins_a_pool(world: World) -> None:
    await create(world, scsi0="local:0.001")
    await pools.create_pool(world.rooms, "copies", None)
    assert await clone(world, pool="copies") == "OK"
    assert (await pools.get_pool(world.rooms, "copies")).guests == {101}


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("fault", ["copy", "write_file", "snapshot_disks", "snapshot"])
async def test_whatever_fails_leaves_nothing(world: World, fault: str, *, running: bool) -> None:
    await create(world, start=running)
    place: dict[str, Any] = world.vms.fail_next if fault == "snapshot_disks" else world.storage.faults
    place[fault] = NoSpace("full")
    if not running and fault.startswith("snapshot"):
        assert await clone(world) == "OK"
        return
    assert await clone(world) == "full"
    await nothing_left(world)
    assert await clone(world) == "OK"


@pytest.mark.parametrize("kind", ["full", "running", "linked"])
async def test_a_daemon_that_dies_anywhere_in_a_clone(world: World, tmp_path: Path, kind: str) -> None:
    deadly, dead = 0, True
    while dead:
        world = await World.make(tmp_path / str(deadly), world)
        await create(world, start=kind == "running", scsi0="local:0.001,format=qcow2", ide2="local:cloudinit")
        if kind == "linked":
            assert await template(world) == "OK"
        life = Life(deadly)
        with contextlib.suppress(Died):
            await clone(world, rooms=world.daemon(life))
        dead = life.dead
        await recover(world.rooms)
        assert (world.vms.state(100) is GuestState.RUNNING) == (kind == "running"), deadly
        try:
            made = await world.rooms.guests.get(101)
        except NotFound:
            await nothing_left(world)
            assert await clone(world) == "OK", deadly
        else:
            assert "lock" not in made.config, deadly
        assert await world.rooms.locks.list() == []
        assert (await world.rooms.guests.get(100)).snapshots == {}
        deadly += 1
        assert deadly < 100
    assert deadly > 10


@pytest.mark.parametrize("disk", [None, "scsi1"])
async def test_a_daemon_that_dies_anywhere_in_making_a_template(world: World, tmp_path: Path, disk: str | None) -> None:
    deadly, dead = 0, True
    while dead:
        world = await World.make(tmp_path / str(deadly), world)
        await create(world, scsi0="local:0.001", scsi1="local:0.001")
        life = Life(deadly)
        with contextlib.suppress(Died):
            await template(world, disk=disk, rooms=world.daemon(life))
        dead = life.dead
        await recover(world.rooms)
        assert await world.rooms.store.list("templating/") == []
        made = await config(world, 100)
        named = {drive.file.partition(":")[2] for _, drive in made.drives()}
        assert named == await world.volumes(), deadly
        if not made.template:
            assert not any("base-" in name for name in named), deadly
            assert await template(world, disk=disk) == "OK", deadly
        deadly += 1
        assert deadly < 60
    assert deadly > 5
