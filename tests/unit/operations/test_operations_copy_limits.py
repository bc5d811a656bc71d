"""What cannot fit is refused before anything is made, and copies keep to the limits of storages and callers."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import InvalidParameter
from bastide.base.ids import Upid
from bastide.base.units import KIB, MIB
from bastide.guest.engines import Engines
from bastide.guest.fake_vm import FakeVmEngine
from bastide.model.access import ROOT
from bastide.model.container import ContainerOptions
from bastide.model.storage import StorageConfig
from bastide.model.vm import VmOptions
from bastide.operations.ct import clone as ct_clone
from bastide.operations.ct import move as ct_move
from bastide.operations.ct.create import create_container
from bastide.operations.ct.resize import resize_volume
from bastide.operations.rooms import Rooms
from bastide.operations.vm import clone, disks, hibernate, move, power, snapshot
from bastide.operations.vm.create import create_vm
from bastide.storage.fake import FakeStorage
from framework.rooms import FAKE_STORAGES, TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio
SMALL = 16 * MIB


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    """A host with VM 100 and CT 200, another storage, and one that is too small for either."""
    rooms = await fake_rooms(tmp_path, FAKE_STORAGES)
    rooms = replace(rooms, engines=Engines(rooms.containers, FakeVmEngine()))
    for name in ("other", "tight"):
        config = {"storage": name, "type": "dir", "path": f"{tmp_path}/{name}", "content": "images,rootdir"}
        await rooms.storages.add(StorageConfig.parse(config))
    (await fake(rooms, "tight")).total = SMALL
    options = VmOptions.parse({"scsi0": "local:0.125,format=raw", "memory": 64})
    assert await end(rooms, await create_vm(rooms, ROOT, 100, options)) == "OK"
    inside = ContainerOptions.parse({"rootfs": "local:0.125", "mp0": "local:0.125,mp=/data", "unprivileged": 1})
    assert await end(rooms, await create_container(rooms, ROOT, 200, TEMPLATE, inside)) == "OK"
    (await fake(rooms, "local")).rates.clear()
    return rooms


async def fake(rooms: Rooms, name: str) -> FakeStorage:
    storage = await rooms.storages.get(name)
    assert isinstance(storage, FakeStorage)
    return storage


async def end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def volumes(rooms: Rooms) -> set[str]:
    return {volume.volid for name in ("local", "other") for volume in await (await fake(rooms, name)).list()}


async def import_too_large(rooms: Rooms) -> Upid:
    image = rooms.layout.state / "disk.raw"
    with image.open("wb") as file:
        file.truncate(SMALL + MIB)
    return await create_vm(rooms, ROOT, 101, VmOptions.parse({"scsi0": f"tight:0,import-from={image}"}))


async def resize_on_tight(rooms: Rooms) -> Upid:
    made = await create_vm(rooms, ROOT, 101, VmOptions.parse({"scsi0": "tight:0.008"}))
    assert (await rooms.tasks.wait(made)).exitstatus == "OK"
    return await disks.resize_disk(rooms, ROOT, 101, "scsi0", "1G")


async def suspend_to_tight(rooms: Rooms) -> Upid:
    await rooms.tasks.wait(await power.start(rooms, ROOT, 100))
    return await hibernate.suspend_to_disk(rooms, ROOT, 100, "tight")


async def snapshot_to_tight(rooms: Rooms) -> Upid:
    guest = await rooms.guests.get(100)
    await rooms.guests.update(guest.with_config({**guest.config, "vmstatestorage": "tight"}))
    await rooms.tasks.wait(await power.start(rooms, ROOT, 100))
    return await snapshot.take_snapshot(rooms, ROOT, 100, "before", memory=True)


@pytest.mark.parametrize(
    "act",
    [
        import_too_large,
        resize_on_tight,
        suspend_to_tight,
        snapshot_to_tight,
        lambda rooms: clone.clone_vm(rooms, ROOT, 100, clone.Clone(101, storage="tight")),
        lambda rooms: move.move_disk(rooms, ROOT, 100, move.Move("scsi0", storage="tight")),
        lambda rooms: disks.resize_disk(rooms, ROOT, 100, "scsi0", "200G"),
        lambda rooms: resize_volume(rooms, ROOT, 200, "mp0", "200G"),
        lambda rooms: ct_clone.clone_container(rooms, ROOT, 200, ct_clone.Clone(201, storage="tight")),
        lambda rooms: ct_move.move_volume(rooms, ROOT, 200, ct_move.Move("mp0", storage="tight")),
    ],
)
async def test_what_cannot_fit_is_refused(rooms: Rooms, act: Callable[[Rooms], Awaitable[Upid]]) -> None:
    """At once, or by the task before it has made anything."""
    before = await volumes(rooms)
    try:
        said = await end(rooms, await act(rooms))
    except InvalidParameter as error:
        said = str(error)
    assert "do not fit" in said
    assert await volumes(rooms) == before
    assert {one.volid for one in await (await fake(rooms, "tight")).list()} <= {"tight:101/vm-101-disk-0.raw"}
    assert (await rooms.guests.get(100)).config["scsi0"] == "local:100/vm-100-disk-0.raw,size=128M"
    assert await rooms.locks.list() == []


async def limit(rooms: Rooms, name: str, text: str) -> None:
    """Without making the fake anew, which would be empty."""
    storage = await fake(rooms, name)
    storage.config = StorageConfig.parse({**storage.config.to_text(), "bwlimit": text})


@pytest.mark.parametrize(("asked", "rate"), [(None, 300), (100, 100), (900, 300), (0, 300)])
async def test_a_clone_keeps_to_the_smallest_limit(rooms: Rooms, asked: int | None, rate: int) -> None:
    await limit(rooms, "local", "default=500,clone=400,move=1")
    await limit(rooms, "other", "default=300,restore=1")
    for act in (
        clone.clone_vm(rooms, ROOT, 100, clone.Clone(101, storage="other", limit=asked)),
        clone.clone_vm(rooms, ROOT, 100, clone.Clone(102, limit=asked)),
        ct_clone.clone_container(rooms, ROOT, 200, ct_clone.Clone(201, limit=asked)),
    ):
        assert await end(rooms, await act) == "OK"
    assert (await fake(rooms, "other")).rates == [rate * KIB]
    within = (rate if asked == 100 else 400) * KIB
    assert (await fake(rooms, "local")).rates == [within] * 3  # the VM's disk, and two volumes of the container


async def test_a_stopped_vms_move_and_an_import_have_limits(rooms: Rooms) -> None:
    await limit(rooms, "other", "move=200,restore=700")
    assert await end(rooms, await move.move_disk(rooms, ROOT, 100, move.Move("scsi0", storage="other"))) == "OK"
    image = rooms.layout.state / "disk.raw"
    image.write_bytes(bytes(MIB))
    options = VmOptions.parse({"scsi0": f"other:0,import-from={image}"})
    assert await end(rooms, await create_vm(rooms, ROOT, 101, options)) == "OK"
    options = VmOptions.parse({"scsi0": f"other:0,import-from={image}"})
    assert await end(rooms, await create_vm(rooms, ROOT, 102, options, limit=50)) == "OK"
    assert (await fake(rooms, "other")).rates == [200 * KIB, 700 * KIB, 50 * KIB]


async def test_without_a_limit_nothing_is_slowed_down(rooms: Rooms) -> None:
    await limit(rooms, "local", "default=500,clone=0")
    assert await end(rooms, await clone.clone_vm(rooms, ROOT, 100, clone.Clone(101))) == "OK"
    assert (await fake(rooms, "local")).rates == [0]
    wanted: Any = clone.Clone(102, limit=0.25)
    assert await end(rooms, await clone.clone_vm(rooms, ROOT, 100, wanted)) == "OK"
    assert (await fake(rooms, "local")).rates == [0, KIB // 4]


async def test_a_copy_on_whole_extents_says_its_size(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    other = await fake(rooms, "other")
    real, extent = other._new_disk, 100 * MIB
    monkeypatch.setattr(other, "_new_disk", lambda name, size: real(name, -(-size // extent) * extent))
    assert await end(rooms, await clone.clone_vm(rooms, ROOT, 100, clone.Clone(101, storage="other"))) == "OK"
    assert await end(rooms, await move.move_disk(rooms, ROOT, 100, move.Move("scsi0", storage="other"))) == "OK"
    for vmid in (100, 101):
        config = (await rooms.guests.get(vmid)).config
        assert config["scsi0"] == f"other:{vmid}/vm-{vmid}-disk-{int(vmid == 100)}.raw,size=200M"
