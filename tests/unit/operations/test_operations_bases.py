"""Guests made from bases, over a storage that shares: made once, by whoever comes first, and forgotten in the end."""

import asyncio
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from bastide.base.errors import AlreadyExists, HostFailure, InvalidParameter, NoSpace, NotFound, NotSupported
from bastide.base.ids import Upid
from bastide.guest.fake import FakeEngine
from bastide.host.archive import stream_archive
from bastide.model.access import ROOT
from bastide.model.container import ContainerOptions
from bastide.model.storage import StorageConfig
from bastide.model.vm import VmOptions
from bastide.operations import bases, content
from bastide.operations.ct.create import create_container
from bastide.operations.rooms import Rooms
from bastide.operations.vm.create import create_vm
from bastide.storage.fake import FakeStorage
from framework.rooms import TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rooms:
    """Rooms whose storage `cow` shares bases; `local` holds the template."""
    rooms = await fake_rooms(tmp_path)
    monkeypatch.setattr(rooms.storages, "_drivers", {**rooms.storages._drivers, "btrfs": FakeStorage})
    folder = tmp_path / "cow"
    await rooms.storages.add(
        StorageConfig(storage="cow", type="btrfs", path=str(folder), content="rootdir,images,vztmpl,import")
    )
    return rooms


async def cow(rooms: Rooms) -> FakeStorage:
    return cast(FakeStorage, await rooms.storages.get("cow"))


def engine(rooms: Rooms) -> FakeEngine:
    return cast(FakeEngine, rooms.containers)


async def begin(rooms: Rooms, vmid: int, *, full: bool = False, **values: object) -> Upid:
    options = ContainerOptions.parse({"hostname": "web", "unprivileged": 1, "rootfs": "cow:1", **values})
    return await create_container(rooms, ROOT, vmid, TEMPLATE, options, full=full)


async def end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


def template_path(rooms: Rooms) -> Path:
    return rooms.layout.local_storage / "template/cache/debian-12-test_1_amd64.tar.gz"


async def create(rooms: Rooms, vmid: int, *, full: bool = False, **values: object) -> str:
    return await end(rooms, await begin(rooms, vmid, full=full, **values))


async def log(rooms: Rooms, upid: Upid) -> str:
    lines, _ = await rooms.tasks.log(upid, 0, 1000)
    return "\n".join(line.t for line in lines)


class Count:
    """Counts the calls of a method and may delay them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: object, name: str) -> None:
        self.calls = 0
        inner = getattr(target, name)

        def counted(*arguments: object, **options: object) -> object:
            self.calls += 1
            return inner(*arguments, **options)

        monkeypatch.setattr(target, name, counted)


async def test_a_template_is_unpacked_once_and_guests_have_what_it_holds(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked, looked = Count(monkeypatch, rooms.containers, "unpacking"), Count(monkeypatch, rooms.containers, "detect")
    for vmid in (100, 101, 102):
        assert await create(rooms, vmid) == "OK"
    assert (unpacked.calls, looked.calls) == (1, 1)
    storage = await cow(rooms)
    assert len(await storage.bases()) == 1
    for vmid in (100, 101, 102):
        guest = await rooms.guests.get(vmid)
        assert (guest.config["ostype"], guest.config["arch"]) == ("debian", "amd64")
        assert (storage.path(f"{vmid}/vm-{vmid}-disk-0.subvol") / "etc/os-release").read_text() == "ID=debian\n"
    assert storage.active_volumes == set()


async def test_creates_at_once_wait_for_one_making(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = Count(monkeypatch, rooms.containers, "unpacking")
    others_wait = asyncio.Event()

    async def held(*args: Any, **options: Any) -> None:
        await asyncio.wait_for(others_wait.wait(), 60)
        await stream_archive(*args, **options)

    monkeypatch.setattr("bastide.operations.bases.stream_archive", held)
    upids = [await begin(rooms, vmid) for vmid in range(100, 110)]
    async with asyncio.timeout(60):
        while not any(["waiting for another task" in await log(rooms, upid) for upid in upids]):
            await asyncio.sleep(0.01)
    others_wait.set()
    assert [await end(rooms, upid) for upid in upids] == ["OK"] * 10
    assert unpacked.calls == 1
    logs = [await log(rooms, upid) for upid in upids]
    assert sum("making a base of 'debian-12-test_1_amd64.tar.gz' on storage 'cow'" in text for text in logs) == 1
    assert sum("waiting for another task" in text for text in logs) >= 1


async def test_a_maker_that_fails_or_is_stopped_leaves_the_making_to_the_next(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(rooms).fail_next["unpack"] = HostFailure("it broke")
    upids = [await begin(rooms, vmid) for vmid in (100, 101)]
    assert sorted([await end(rooms, upid) for upid in upids]) == ["OK", "it broke"]
    storage = await cow(rooms)
    assert len(await storage.bases()) == 1
    assert len(await storage.list("rootdir")) == 1
    assert len(await rooms.guests.list()) == 1
    assert await rooms.locks.list() == []

    started = asyncio.Event()

    async def stuck(*_: object, **__: object) -> None:
        started.set()
        await asyncio.Event().wait()

    os.utime(template_path(rooms), ns=(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr("bastide.operations.bases.stream_archive", stuck)
        first = await begin(rooms, 102)
        await asyncio.wait_for(started.wait(), 10)
        second = await begin(rooms, 103)
    await rooms.tasks.stop(first)
    assert await end(rooms, first) != "OK"
    assert await end(rooms, second) == "OK"


@pytest.mark.parametrize("step", ["making_base", "from_base"])
async def test_a_storage_that_fails_leaves_nothing_and_the_next_try_works(rooms: Rooms, step: str) -> None:
    storage = await cow(rooms)
    storage.faults[step] = HostFailure("it broke")
    assert await create(rooms, 100) == "it broke"
    assert list(await storage.list("rootdir")) == []
    assert await rooms.guests.list() == []
    assert await create(rooms, 100) == "OK"


async def test_a_base_that_turns_out_too_small_is_made_larger(rooms: Rooms) -> None:
    (await cow(rooms)).faults["making_base"] = NoSpace("full")
    assert await create(rooms, 100) == "OK"


@pytest.mark.parametrize("error", [InvalidParameter({"size": "the base is larger"}), NotSupported("not so")])
async def test_a_volume_that_cannot_share_is_unpacked(
    rooms: Rooms, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await create(rooms, 100) == "OK"
    unpacked = Count(monkeypatch, rooms.containers, "unpacking")
    (await cow(rooms)).faults["from_base"] = error
    upid = await begin(rooms, 101)
    assert await end(rooms, upid) == "OK"
    assert unpacked.calls == 1
    assert "gets a copy of its own" in await log(rooms, upid)


@pytest.mark.parametrize("layered", [True, False])
async def test_a_container_for_container_engines_gets_no_overlay(
    rooms: Rooms, *, layered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FakeStorage.capabilities.fget
    assert plain is not None
    monkeypatch.setattr(FakeStorage, "capabilities", property(lambda self: replace(plain(self), layered=layered)))
    assert await create(rooms, 100, features="nesting=1,keyctl=1") == "OK"
    assert bool(await (await cow(rooms)).bases()) is not layered


async def test_full_shares_nothing(rooms: Rooms) -> None:
    assert await create(rooms, 100, full=True) == "OK"
    assert await (await cow(rooms)).bases() == []


async def test_privileged_containers_have_bases_of_their_own(rooms: Rooms) -> None:
    assert await create(rooms, 100) == "OK"
    assert await create(rooms, 101, unprivileged=0) == "OK"
    assert len(await (await cow(rooms)).bases()) == 2


async def test_another_file_of_the_same_name_is_another_base(rooms: Rooms) -> None:
    assert await create(rooms, 100) == "OK"
    path = template_path(rooms)
    path.unlink()
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("./etc/os-release")
        member.size = 6
        archive.addfile(member, io.BytesIO(b"ID=foo"))
    assert await create(rooms, 101) == "OK"
    storage = await cow(rooms)
    assert len(await storage.bases()) == 2
    assert (await rooms.guests.get(101)).config["ostype"] == "unmanaged"
    # The first one's source is no more.
    await bases.tidy(rooms)
    assert len(await storage.bases()) == 1
    assert len(await rooms.store.list("base/")) == 1


async def test_a_deleted_template_takes_its_base_along_unless_a_guest_builds_on_it(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await create(rooms, 100) == "OK"
    storage = await cow(rooms)

    async def in_use(_key: str) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(storage, "drop_base", in_use)
        assert await end(rooms, await content.delete_volume(rooms, ROOT, TEMPLATE)) == "OK"
    assert len(await storage.bases()) == 1
    assert len(await rooms.store.list("base/")) == 1
    await bases.tidy(rooms)
    assert await storage.bases() == []
    assert await rooms.store.list("base/") == []


async def test_an_image_is_deleted_even_if_its_base_cannot_be(rooms: Rooms, caplog: pytest.LogCaptureFixture) -> None:
    assert await create(rooms, 100) == "OK"
    (await cow(rooms)).faults["drop_base"] = HostFailure("it broke")
    assert await end(rooms, await content.delete_volume(rooms, ROOT, TEMPLATE)) == "OK"
    assert "it broke" in caplog.text
    await bases.tidy(rooms)
    assert await (await cow(rooms)).bases() == []


async def test_tidying_removes_what_nobody_knows_and_survives_what_is_broken(
    rooms: Rooms, caplog: pytest.LogCaptureFixture
) -> None:
    assert await create(rooms, 100) == "OK"
    storage = await cow(rooms)
    async with storage.making_base("0123456789abcdef", 0):
        pass
    await rooms.store.put("base/gone/0123456789abcdef", bases.Origin(TEMPLATE, form="x").to_json())
    await rooms.store.put("base/cow/nonsense", "{")
    await bases.tidy(rooms)
    assert len(await storage.bases()) == 1
    assert "nonsense" in caplog.text
    assert await rooms.store.get("base/gone/0123456789abcdef") is None
    storage.faults["drop_base"] = HostFailure("it broke")
    async with storage.making_base("0123456789abcdef", 0):
        pass
    await bases.tidy(rooms)
    assert "it broke" in caplog.text


async def test_a_source_on_a_storage_that_is_away_is_not_gone(rooms: Rooms) -> None:
    assert await create(rooms, 100) == "OK"
    await rooms.storages.update("local", {"disable": 1})
    await bases.tidy(rooms)
    assert len(await (await cow(rooms)).bases()) == 1


async def test_an_image_is_imported_once(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = rooms.layout.local_storage / "import"
    (folder / "disk.raw").write_bytes(b"x" * 65536)
    storage = await cow(rooms)
    imported, copied = Count(monkeypatch, storage, "import_base"), Count(monkeypatch, storage, "import_disk")
    for vmid in (100, 101):
        options = VmOptions.parse({"scsi0": "cow:0,import-from=local:import/disk.raw"})
        assert await end(rooms, await create_vm(rooms, ROOT, vmid, options)) == "OK"
        config = (await rooms.guests.get(vmid)).config
        assert config["scsi0"] == f"cow:{vmid}/vm-{vmid}-disk-0.raw,size=64K"
        assert storage.path(f"{vmid}/vm-{vmid}-disk-0.raw").read_bytes() == b"x" * 65536
    assert (imported.calls, copied.calls) == (1, 0)
    # A guest's disk changes: what is made of it is a copy.
    options = VmOptions.parse({"scsi0": "cow:0,import-from=cow:100/vm-100-disk-0.raw"})
    assert await end(rooms, await create_vm(rooms, ROOT, 102, options)) == "OK"
    assert (imported.calls, copied.calls) == (1, 1)


async def test_an_image_is_copied_where_its_form_shares_nothing(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = FakeStorage.capabilities.fget
    assert plain is not None
    monkeypatch.setattr(
        FakeStorage, "capabilities", property(lambda self: replace(plain(self), instant=frozenset({"qcow2"})))
    )
    (rooms.layout.local_storage / "import/disk.raw").write_bytes(b"x" * 65536)
    for vmid, form, count in ((100, "raw", 0), (101, "qcow2", 1)):
        options = VmOptions.parse({"scsi0": f"cow:0,import-from=local:import/disk.raw,format={form}"})
        assert await end(rooms, await create_vm(rooms, ROOT, vmid, options)) == "OK"
        assert len(await (await cow(rooms)).bases()) == count


async def test_an_image_that_is_refused_makes_no_base(rooms: Rooms) -> None:
    folder = rooms.layout.local_storage / "import"
    (folder / "disk.qcow2").write_bytes(b"x" * 65536)
    options = VmOptions.parse({"scsi0": "cow:0,import-from=local:import/disk.qcow2"})
    assert await end(rooms, await create_vm(rooms, ROOT, 100, options)) != "OK"
    assert await (await cow(rooms)).bases() == []
    assert await rooms.guests.list() == []


async def test_a_base_that_vanishes_in_between_is_made_again(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await cow(rooms)
    inner = storage.from_base
    asked = 0

    async def from_base(key: str, name: str, size: int) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            await storage.drop_base(key)
        await inner(key, name, size)

    monkeypatch.setattr(storage, "from_base", from_base)
    assert await create(rooms, 100) == "OK"
    assert asked == 3


async def test_another_node_may_have_made_it(rooms: Rooms) -> None:
    storage = await cow(rooms)
    storage.faults["making_base"] = AlreadyExists("base already exists")
    assert await create(rooms, 100) == "OK"


def test_a_key_is_of_the_file_and_the_rights(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    source = bases.Source("local:vztmpl/a", path)
    key = source.key()
    assert len(key) == 16
    assert int(key, 16) >= 0
    assert source.key() == key
    assert bases.Source("other:vztmpl/a", path).key() != key
    assert bases.Source("local:vztmpl/a", path, privileged=True).key() != key
    os.utime(path, ns=(5, 5))
    assert source.key() != key
    path.unlink()
    with pytest.raises(NotFound, match="does not exist"):
        source.key()
