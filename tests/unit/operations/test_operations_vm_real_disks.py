"""Snapshots, templates and clones of stopped VMs over real images in a folder; the VMs themselves are fakes."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bastide.base.ids import Upid, VolumeId
from bastide.guest.engines import Engines
from bastide.guest.fake_vm import FakeVmEngine
from bastide.model.access import ROOT
from bastide.model.storage import DiskImage, StorageConfig
from bastide.model.vm import VmConfig, VmOptions
from bastide.operations.destroy import destroy_guest
from bastide.operations.rooms import Rooms
from bastide.operations.vm import power, snapshot
from bastide.operations.vm.clone import Clone, clone_vm
from bastide.operations.vm.create import create_vm
from bastide.operations.vm.template import make_template
from framework.rooms import fake_rooms

pytestmark = pytest.mark.anyio

SIZE = 1 << 20


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    rooms = await fake_rooms(tmp_path)
    other = {"storage": "other", "type": "dir", "path": str(tmp_path / "other"), "content": "images"}
    await rooms.storages.add(StorageConfig.parse(other))
    return replace(rooms, engines=Engines(rooms.containers, FakeVmEngine()))


async def done(rooms: Rooms, upid: Upid) -> None:
    ended = await rooms.tasks.wait(upid)
    assert ended.exitstatus == "OK", ended.exitstatus


async def create(rooms: Rooms, folder: Path, form: str) -> None:
    blank = folder / "blank.raw"
    blank.write_bytes(b"\1" * SIZE)
    options = VmOptions.parse(
        {
            "name": "db",
            "scsi0": f"local:0,import-from={blank},format={form}",
            "tpmstate0": "local:1",
            "ide2": "local:cloudinit",
        }
    )
    await done(rooms, await create_vm(rooms, ROOT, 100, options))


async def image(rooms: Rooms, vmid: int) -> DiskImage:
    volid = VolumeId.parse(VmConfig.parse((await rooms.guests.get(vmid)).config).scsi[0].file)
    return await (await rooms.storages.disks(volid.storage)).disk_image(volid.name)


async def write(rooms: Rooms, vmid: int, byte: int) -> None:
    assert _does(await image(rooms, vmid), f"write -P {byte} 0 64k")


async def first(rooms: Rooms, vmid: int) -> int:
    """The byte that the first 64 KiB of the VM's disk consist of."""
    disk = await image(rooms, vmid)
    return next(byte for byte in range(10) if _does(disk, f"read -P {byte} 0 64k"))


def _does(disk: DiskImage, command: str) -> bool:
    argv = ["qemu-io", "-f", disk.format, "-c", command, str(disk.path)]
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("form", ["qcow2", "raw"])
async def test_back_and_forth(rooms: Rooms, tmp_path: Path, form: str) -> None:
    await create(rooms, tmp_path, form)
    for byte, name in ((2, "two"), (3, "three")):
        await write(rooms, 100, byte)
        await done(rooms, await snapshot.take_snapshot(rooms, ROOT, 100, name))
    await write(rooms, 100, 4)
    for byte, name in ((2, "two"), (3, "three"), (2, "two")):
        await done(rooms, await snapshot.roll_back(rooms, ROOT, 100, name))
        assert await first(rooms, 100) == byte
    await done(rooms, await clone_vm(rooms, ROOT, 100, Clone(101, snapshot="three")))
    assert await first(rooms, 101) == 3
    await done(rooms, await clone_vm(rooms, ROOT, 100, Clone(102, snapshot="three", storage="other", form="raw")))
    assert await first(rooms, 102) == 3
    for name in ("two", "three"):
        await done(rooms, await snapshot.delete_snapshot(rooms, ROOT, 100, name))
    assert await first(rooms, 100) == 2
    for vmid in (100, 101, 102):
        await done(rooms, await destroy_guest(rooms, ROOT, vmid))
    for storage_id in ("local", "other"):
        assert await (await rooms.storages.get(storage_id)).list("images") == []


@pytest.mark.parametrize("form", ["qcow2", "raw"])
async def test_a_template_and_what_is_made_of_it(rooms: Rooms, tmp_path: Path, form: str) -> None:
    await create(rooms, tmp_path, form)
    await write(rooms, 100, 2)
    await done(rooms, await make_template(rooms, ROOT, 100))
    for vmid in (101, 102):
        await done(rooms, await clone_vm(rooms, ROOT, 100, Clone(vmid)))
        assert await first(rooms, vmid) == 2
    await write(rooms, 101, 3)
    assert [await first(rooms, vmid) for vmid in (100, 101, 102)] == [2, 3, 2]
    await done(rooms, await snapshot.take_snapshot(rooms, ROOT, 101, "three"))
    await write(rooms, 101, 4)
    await done(rooms, await snapshot.roll_back(rooms, ROOT, 101, "three"))
    assert await first(rooms, 101) == 3
    # Of a linked clone: with all it builds on, here and elsewhere.
    await done(rooms, await clone_vm(rooms, ROOT, 101, Clone(103)))
    await done(rooms, await clone_vm(rooms, ROOT, 101, Clone(104, storage="other", snapshot="three")))
    await done(rooms, await clone_vm(rooms, ROOT, 100, Clone(105, full=True, storage="other", form="qcow2")))
    for vmid, byte in ((103, 3), (104, 3), (105, 2)):
        assert await first(rooms, vmid) == byte
        assert (await image(rooms, vmid)).backing is None
        await done(rooms, await power.start(rooms, ROOT, vmid))
    # Imported by another VM, with all it builds on.
    linked = VmConfig.parse((await rooms.guests.get(101)).config).scsi[0].file
    options = VmOptions.parse({"scsi0": f"local:0,import-from={linked}"})
    await done(rooms, await create_vm(rooms, ROOT, 107, options))
    assert await first(rooms, 107) == 3
    # A template of a clone, and of that one a clone.
    await done(rooms, await make_template(rooms, ROOT, 102))
    await done(rooms, await clone_vm(rooms, ROOT, 102, Clone(106)))
    assert await first(rooms, 106) == 2
    refused = await rooms.tasks.wait(await destroy_guest(rooms, ROOT, 100))
    assert "in use by linked clones" in str(refused.exitstatus)
