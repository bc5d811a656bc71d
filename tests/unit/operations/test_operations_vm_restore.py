"""VMs come back from backups: as new ones, over others, and whatever fails leaves what was there."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import (
    AlreadyExists,
    BastideError,
    DeadlineExceeded,
    HostFailure,
    InvalidParameter,
    Locked,
    NotSupported,
    PermissionDenied,
    WrongState,
)
from bastide.base.ids import Upid
from bastide.guest.engines import Engines
from bastide.guest.fake_vm import FakeVmEngine
from bastide.guest.vm_protocol import Mirror
from bastide.model.access import ROOT
from bastide.model.backup import BackupName
from bastide.model.vm import VmConfig, VmOptions
from bastide.operations.backup.archives import Archive, open_archive
from bastide.operations.backup.restoring import Restore
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from bastide.operations.snapshots import rows
from bastide.operations.vm.create import create_vm
from bastide.operations.vm.restore import restore_vm
from bastide.operations.vm.restore_plan import contents
from bastide.operations.vm.snapshot import take_snapshot
from bastide.operations.volumes import owned_volumes
from framework.mortal import Died, Life
from framework.rooms import fake_rooms
from framework.vm_fakes import World
from framework.vma_files import vma

pytestmark = pytest.mark.anyio

MAC = "BC:24:11:00:00:01"
UUID = "5d6e2b0c-7a3c-4f7e-9f53-1f1c5f2a9d01"
GENERATION = "11111111-2222-3333-4444-555555555555"
TEXT = f"""#a note%3A of Proxmox VE's
boot: order=scsi0;ide2
cores: 2
efidisk0: local-lvm:vm-200-disk-0,efitype=4m,size=4M
ide2: local:iso/gone.iso,media=cdrom,size=1M
ide3: local-lvm:vm-200-cloudinit,media=cdrom
memory: 512
meta: creation-qemu=9.2.0,ctime=1700000000
name: saved
net0: virtio={MAC},bridge=vmbr0,firewall=1
newkey: from the future
scsi0: local-lvm:vm-200-disk-1,iothread=1,size=1M
scsi1: local-lvm:vm-200-disk-9,backup=0,size=8G
scsihw: virtio-scsi-single
smbios1: uuid={UUID}
vmgenid: {GENERATION}
#qmdump#map:efidisk0:drive-efidisk0:local-lvm:raw:
#qmdump#map:scsi0:drive-scsi0:local-lvm:raw:
"""
DISKS = {
    "drive-efidisk0": b"variables" + bytes(540672 - 9),
    "drive-scsi0": os.urandom(70000) + bytes(978576 - 3) + b"end",
}


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    rooms = await fake_rooms(tmp_path)
    await rooms.storages.update("local", {"format": "raw"})
    return replace(rooms, engines=Engines(rooms.containers, FakeVmEngine()))


def engine(rooms: Rooms) -> FakeVmEngine:
    return cast(FakeVmEngine, rooms.vms)


async def end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def log(rooms: Rooms, upid: Upid) -> str:
    lines, _ = await rooms.tasks.log(upid, 0, 1000)
    return "\n".join(line.t for line in lines)


@dataclass(frozen=True)
class Files:
    """A backup whose disks are files, as a storage with a store of its own shows them."""

    folder: Path
    text: str
    name: BackupName = field(default_factory=lambda: BackupName("qemu", 200, 1_700_000_000))
    volid: str = "store:backup/vzdump-qemu-200-2023_11_14-22_13_20"
    size: int = 0
    random_access: bool = True
    open: list[bool] = field(default_factory=list)

    async def config(self) -> str:
        return self.text

    def stream(self) -> Any:
        raise NotSupported("no stream")

    @asynccontextmanager
    async def disks(self) -> AsyncIterator[Mapping[str, Path]]:
        self.open.append(True)
        try:
            yield {path.name: path for path in self.folder.iterdir()}
        finally:
            self.open.pop()


def stream(tmp_path: Path, text: str = TEXT, disks: Mapping[str, bytes] = DISKS) -> Path:
    path = tmp_path / "vzdump-qemu-200-2023_11_14-22_13_20.vma"
    path.write_bytes(vma({"qemu-server.conf": text.encode()}, disks))
    return path


def files(tmp_path: Path, text: str = TEXT, disks: Mapping[str, bytes] = DISKS) -> Files:
    folder = tmp_path / "view"
    folder.mkdir(exist_ok=True)
    for name, data in disks.items():
        (folder / name.removeprefix("drive-")).write_bytes(data)
    return Files(folder, text)


@pytest.fixture(params=["stream", "files"])
async def archive(request: pytest.FixtureRequest, rooms: Rooms, tmp_path: Path) -> Archive:
    if request.param == "files":
        return cast(Archive, files(tmp_path))
    return await open_archive(rooms, str(stream(tmp_path)))


HERE = Restore(storage="local")
NONE = VmOptions()


async def content(rooms: Rooms, vmid: int, key: str) -> bytes:
    config = VmConfig.parse((await rooms.guests.get(vmid)).config)
    storage, name = await rooms.storages.resolve(dict(config.volumes())[key].file)
    return (await cast(Any, storage).disk_path(name)).read_bytes()


async def volumes(rooms: Rooms, vmid: int) -> set[str]:
    return {volume.volid for volume in await (await rooms.storages.get("local")).list("images", vmid)}


async def test_a_new_vm_comes_of_a_backup(rooms: Rooms, archive: Archive) -> None:
    upid = await restore_vm(rooms, ROOT, 100, archive, VmOptions.parse({"cores": 3, "name": "again"}), HERE)
    assert (await end(rooms, upid)).startswith("WARNINGS"), await log(rooms, upid)
    guest = await rooms.guests.get(100)
    config = dict(guest.config)
    assert {key: config.pop(key) for key in ("cores", "name", "memory", "scsihw", "description")} == {
        "cores": 3, "name": "again", "memory": "512", "scsihw": "virtio-scsi-single",
        "description": "a note: of Proxmox VE's",
    }  # fmt: skip
    assert config["net0"] == f"virtio={MAC},bridge=vmbr0,firewall=1"
    assert config["smbios1"] == f"uuid={UUID}"
    assert config["vmgenid"] != GENERATION
    assert config["ide2"] == "none,media=cdrom"
    assert config["ide3"] == "local:100/vm-100-cloudinit.raw,media=cdrom"
    assert config["scsi0"] == "local:100/vm-100-disk-1.raw,size=1M,iothread=1"
    assert "scsi1" not in config
    assert "lock" not in config
    assert await content(rooms, 100, "scsi0") == DISKS["drive-scsi0"]
    assert await content(rooms, 100, "efidisk0") == DISKS["drive-efidisk0"]
    told = await log(rooms, upid)
    assert "newkey" in told
    assert "scsi1: the backup does not hold this disk" in told
    assert "ide2: the drive comes back empty" in told
    assert await rooms.locks.list() == []
    assert upid.type == "qmrestore"


async def test_unique_makes_it_another_machine(rooms: Rooms, archive: Archive) -> None:
    options = VmOptions.parse({"net1": "virtio,bridge=vmbr0", "agent": 1})
    await end(rooms, await restore_vm(rooms, ROOT, 100, archive, options, replace(HERE, unique=True)))
    config = (await rooms.guests.get(100)).config
    assert MAC not in str(config["net0"])
    assert UUID not in str(config["smbios1"])
    assert "=" in str(config["net1"]).partition(",")[0]


async def test_a_given_card_keeps_the_address(rooms: Rooms, archive: Archive) -> None:
    options = VmOptions.parse({"net0": "e1000,bridge=vmbr0"})
    await end(rooms, await restore_vm(rooms, ROOT, 100, archive, options, HERE))
    assert (await rooms.guests.get(100)).config["net0"] == f"e1000={MAC},bridge=vmbr0"


async def test_a_missing_storage_is_named(rooms: Rooms, archive: Archive) -> None:
    with pytest.raises(InvalidParameter, match=r"storage: .*'local-lvm' does not exist.*say which storage"):
        await restore_vm(rooms, ROOT, 100, archive, NONE, Restore())
    with pytest.raises(InvalidParameter, match=r"storage: .*'elsewhere' does not exist"):
        await restore_vm(rooms, ROOT, 100, archive, NONE, Restore(storage="elsewhere"))
    assert await rooms.guests.list() == []


async def test_drives_cannot_be_given(rooms: Rooms, archive: Archive) -> None:
    with pytest.raises(InvalidParameter, match=r"scsi0: option conflicts with option 'archive'"):
        await restore_vm(rooms, ROOT, 100, archive, VmOptions.parse({"scsi0": "local:1"}), HERE)


async def old_vm(rooms: Rooms, **options: Any) -> set[str]:
    asked = {"scsi0": "local:0.01", "scsi1": "local:0.01", "virtio0": "local:0.01", "name": "old", **options}
    assert await end(rooms, await create_vm(rooms, ROOT, 100, VmOptions.parse(asked))) == "OK"
    return await volumes(rooms, 100)


async def test_a_vm_that_is_there_is_replaced(rooms: Rooms, archive: Archive) -> None:
    old = await old_vm(rooms)
    before = await rooms.guests.get(100)
    with pytest.raises(AlreadyExists, match="unable to restore VM 100 - VM 100 already exists on node 'pve'"):
        await restore_vm(rooms, ROOT, 100, archive, NONE, HERE)
    wish = replace(HERE, force=True)
    upid = await restore_vm(rooms, ROOT, 100, archive, NONE, wish)
    assert (await end(rooms, upid)).startswith("WARNINGS"), await log(rooms, upid)
    guest = await rooms.guests.get(100)
    assert guest.config["name"] == "saved"
    assert guest.first_id == before.first_id
    named = owned_volumes(guest.config, 100)
    replaced = owned_volumes(before.config, 100)["scsi0"]
    kept = {named["unused0"], named["unused1"]}
    assert kept == old - {replaced}
    assert await volumes(rooms, 100) == set(named.values())
    assert await content(rooms, 100, "scsi0") == DISKS["drive-scsi0"]
    assert await rooms.locks.list() == []
    again = await restore_vm(rooms, ROOT, 100, archive, NONE, wish)
    assert (await end(rooms, again)).startswith("WARNINGS")
    assert await volumes(rooms, 100) == set(owned_volumes((await rooms.guests.get(100)).config, 100).values())


async def test_snapshots_go_with_what_is_replaced(rooms: Rooms, archive: Archive) -> None:
    await rooms.storages.update("local", {"format": "qcow2"})
    await old_vm(rooms)
    assert await end(rooms, await take_snapshot(rooms, ROOT, 100, "before")) == "OK"
    upid = await restore_vm(rooms, ROOT, 100, archive, NONE, replace(HERE, force=True))
    assert (await end(rooms, upid)).startswith("WARNINGS"), await log(rooms, upid)
    guest = await rooms.guests.get(100)
    assert [row["name"] for row in rows(rooms, guest)] == ["current"]
    storage = cast(Any, await rooms.storages.get("local"))
    for key in ("unused0", "unused1"):
        assert await storage.snapshots(str(guest.config[key]).partition(":")[2]) == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"protection": 1}, WrongState, "protection"),
        ({"lock": "backup"}, Locked, "locked"),
        ({}, WrongState, "running"),
    ],
)
async def test_what_may_not_be_replaced(
    rooms: Rooms, archive: Archive, options: dict[str, Any], error: type[BastideError], words: str
) -> None:
    await old_vm(rooms)
    guest = await rooms.guests.get(100)
    await rooms.guests.update(guest.with_config({**guest.config, **options}))
    if not options:
        engine(rooms).guests[100] = cast(Any, type("Running", (), {"status": type("Status", (), {"state": "running"})}))
    with pytest.raises(error, match=words):
        await restore_vm(rooms, ROOT, 100, archive, NONE, replace(HERE, force=True))
    engine(rooms).guests.clear()


async def test_a_damaged_stream_leaves_nothing(rooms: Rooms, tmp_path: Path) -> None:
    path = stream(tmp_path)
    path.write_bytes(path.read_bytes()[:-5000])
    archive = await open_archive(rooms, str(path))
    assert "damaged" in await end(rooms, await restore_vm(rooms, ROOT, 100, archive, NONE, HERE))
    assert (await rooms.guests.list(), await volumes(rooms, 100)) == ([], set())
    old = await old_vm(rooms)
    before = (await rooms.guests.get(100)).config
    upid = await restore_vm(rooms, ROOT, 100, archive, NONE, replace(HERE, force=True))
    assert "damaged" in await end(rooms, upid)
    assert ((await rooms.guests.get(100)).config, await volumes(rooms, 100)) == (before, old)


async def test_what_does_not_fit_is_refused_at_once(rooms: Rooms, tmp_path: Path) -> None:
    folder = tmp_path / "view"
    folder.mkdir()
    with (folder / "scsi0").open("wb") as file:
        file.truncate(1 << 42)
    (folder / "efidisk0").write_bytes(bytes(540672))
    with pytest.raises(InvalidParameter, match=r"scsi0: .* do not fit"):
        await restore_vm(rooms, ROOT, 100, cast(Archive, Files(folder, TEXT)), NONE, HERE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#qmdump#map:scsi5:drive-scsi5:local:raw:\n", "no data for its drive 'scsi5'"),
        ("#qmdump#map:evil0:drive-scsi0:local:raw:\n", "which is no drive"),
        ("#qmdump#map:sata0:drive-scsi0:local:raw:\n", "same data for two"),
        ("a\x01b: c\n", "control character"),
    ],
)
async def test_configurations_that_do_not_fit_are_refused(rooms: Rooms, tmp_path: Path, text: str, words: str) -> None:
    archive = await open_archive(rooms, str(stream(tmp_path, TEXT + text)))
    with pytest.raises((HostFailure, InvalidParameter), match=words):
        await restore_vm(rooms, ROOT, 100, archive, NONE, HERE)


async def test_a_disk_with_strange_options_is_a_disk(rooms: Rooms, archive: Archive, tmp_path: Path) -> None:
    strange = TEXT.replace("scsi0: local-lvm:vm-200-disk-1", "scsi0: local-lvm:vm-200-disk-1,warp=9")
    if archive.random_access:
        archive = cast(Archive, replace(cast(Files, archive), text=strange))
    else:
        archive = await open_archive(rooms, str(stream(tmp_path, strange)))
    await end(rooms, await restore_vm(rooms, ROOT, 100, archive, NONE, HERE))
    assert await content(rooms, 100, "scsi0") == DISKS["drive-scsi0"]


async def test_others_may_not_set_what_is_roots(rooms: Rooms, tmp_path: Path) -> None:
    text = TEXT + "args: -device evil\nhookscript: local:snippets/x.sh\n"

    async def permit(options: VmConfig) -> None:
        for key in ("args", "hookscript"):
            if getattr(options, key):
                raise PermissionDenied(f"only root can set '{key}' config")

    archive = await open_archive(rooms, str(stream(tmp_path, text)))
    upid = await restore_vm(rooms, ROOT, 100, archive, NONE, replace(HERE, permit=permit))
    assert (await end(rooms, upid)).startswith("WARNINGS")
    assert not {"args", "hookscript"} & set((await rooms.guests.get(100)).config)
    assert "'args' of the backup is left out" in await log(rooms, upid)


async def test_a_template_comes_back_as_one(rooms: Rooms, tmp_path: Path) -> None:
    archive = await open_archive(rooms, str(stream(tmp_path, TEXT + "template: 1\n")))
    upid = await restore_vm(rooms, ROOT, 100, archive, NONE, HERE)
    assert (await end(rooms, upid)).startswith("WARNINGS"), await log(rooms, upid)
    assert (await rooms.guests.get(100)).is_template


async def test_a_restored_vm_starts(rooms: Rooms, archive: Archive) -> None:
    await end(rooms, await restore_vm(rooms, ROOT, 100, archive, NONE, replace(HERE, start=True)))
    assert 100 in rooms.vms.running()


async def test_a_start_that_fails_does_not_take_it_away(rooms: Rooms, archive: Archive) -> None:
    engine(rooms).fail_next["start"] = HostFailure("no power")
    upid = await restore_vm(rooms, ROOT, 100, archive, NONE, replace(HERE, start=True))
    assert (await end(rooms, upid)).startswith("WARNINGS")
    assert "no power" in await log(rooms, upid)
    assert await content(rooms, 100, "scsi0") == DISKS["drive-scsi0"]


@pytest.mark.parametrize("over", [False, True])
async def test_a_daemon_that_dies_leaves_the_old_or_the_new_vm(tmp_path: Path, *, over: bool) -> None:
    archive = cast(Archive, files(tmp_path))
    deadly, dead, world = 0, True, None
    while dead:
        world = await World.make(tmp_path / str(deadly), world)
        if over:
            asked = VmOptions.parse({"scsi0": "local:0.001", "scsi1": "local:0.001", "name": "old"})
            assert await end(world.rooms, await create_vm(world.rooms, ROOT, 100, asked)) == "OK"
        life = Life(deadly)
        with contextlib.suppress(Died):
            rooms = world.daemon(life)
            await end(rooms, await restore_vm(rooms, ROOT, 100, archive, NONE, replace(HERE, force=over)))
        dead = life.dead
        await recover(world.rooms)
        assert await world.rooms.locks.list() == [], deadly
        found = {guest.vmid: guest for guest in await world.rooms.guests.list()}
        named = {volid for guest in found.values() for volid in owned_volumes(guest.config, 100).values()}
        there = {f"local:{name}" for name in await world.volumes()}
        assert named - there <= {"local:100/vm-100-cloudinit.raw"}, deadly
        assert there <= named, deadly
        assert not over or found, deadly
        assert all("lock" not in guest.config for guest in found.values()), deadly
        wish = replace(HERE, force=bool(found))
        assert (await end(world.rooms, await restore_vm(world.rooms, ROOT, 100, archive, NONE, wish))).startswith("W")
        shutil.rmtree(tmp_path / str(deadly), ignore_errors=True)
        deadly += 1
        assert deadly < 60
    assert deadly > 10


LIVE = replace(HERE, live=True)
HALF = Mirror(1, 2, ready=False)


async def test_a_stream_cannot_be_restored_live(rooms: Rooms, tmp_path: Path) -> None:
    archive = await open_archive(rooms, str(stream(tmp_path)))
    with pytest.raises(NotSupported, match=r"live-restore is not possible.*type borg"):
        await restore_vm(rooms, ROOT, 100, archive, NONE, LIVE)


async def test_a_vm_runs_while_it_is_restored(rooms: Rooms, tmp_path: Path) -> None:
    view = files(tmp_path)
    engine(rooms).answers["mirror"] = HALF
    upid = await restore_vm(rooms, ROOT, 100, cast(Archive, view), NONE, LIVE)
    await until(lambda: 100 in rooms.vms.running() and bool(engine(rooms).guests[100].mirrors))
    disk = engine(rooms).guests[100].plan.disk("scsi0")
    assert disk is not None
    assert disk.backing is not None
    assert disk.backing.path == view.folder / "scsi0"
    assert (await rooms.guests.get(100)).config["lock"] == "create"
    assert view.open
    del engine(rooms).answers["mirror"]
    assert (await end(rooms, upid)).startswith("WARNINGS"), await log(rooms, upid)
    assert "lock" not in (await rooms.guests.get(100)).config
    assert 100 in rooms.vms.running()
    assert await content(rooms, 100, "efidisk0") == DISKS["drive-efidisk0"]
    assert not view.open
    assert not list((rooms.layout.state / "live-restore").iterdir())


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("step", ["start", "mirror", "mirror_progress", "change_over", "image_token"])
async def test_a_live_restore_that_fails_leaves_what_was_there(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, *, over: bool
) -> None:
    monkeypatch.setattr("bastide.operations.vm.live_restore._ENDING", 0.05)
    old = await old_vm(rooms) if over else set()
    before = [guest.config for guest in await rooms.guests.list()]
    view, readable = files(tmp_path), []
    stop = engine(rooms).stop

    async def stopping(vmid: int) -> None:
        readable.append(bool(view.open))
        await stop(vmid)

    monkeypatch.setattr(engine(rooms), "stop", stopping)
    engine(rooms).fail_next[step] = HostFailure("it broke")
    upid = await restore_vm(rooms, ROOT, 100, cast(Archive, view), NONE, replace(LIVE, force=over))
    assert "it broke" in await end(rooms, upid)
    assert rooms.vms.running() == frozenset()
    assert all(readable), "it ran when the backup was closed already"
    assert [guest.config for guest in await rooms.guests.list()] == before
    assert await volumes(rooms, 100) == old
    assert await rooms.store.list("restore/") == []


@pytest.mark.parametrize("over", [False, True])
async def test_a_daemon_that_dies_in_a_live_restore(rooms: Rooms, tmp_path: Path, *, over: bool) -> None:
    old = await old_vm(rooms) if over else set()
    before = [guest.config for guest in await rooms.guests.list()]
    died: asyncio.Event = asyncio.Event()

    async def die(*_arguments: Any) -> None:
        died.set()
        await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine(rooms), "mirror_progress", die)
        await restore_vm(rooms, ROOT, 100, cast(Archive, files(tmp_path)), NONE, replace(LIVE, force=over))
        await asyncio.wait_for(died.wait(), 10)
    await recover(rooms)
    assert rooms.vms.running() == frozenset()
    assert [guest.config for guest in await rooms.guests.list()] == before
    assert await volumes(rooms, 100) == old
    assert await rooms.store.list("restore/") == []
    assert await rooms.locks.list() == []


async def test_the_old_disks_stay_as_long_as_the_old_vm_is_not_back(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await old_vm(rooms)
    [before] = [guest.config for guest in await rooms.guests.list()]
    engine(rooms).fail_next["change_over"] = HostFailure("it broke")

    async def stuck(_vmid: int) -> None:
        raise DeadlineExceeded("QEMU does not end")

    with monkeypatch.context() as patched:
        patched.setattr("bastide.operations.vm.live_restore._ENDING", 0.05)
        patched.setattr(engine(rooms), "stop", stuck)
        upid = await restore_vm(rooms, ROOT, 100, cast(Archive, files(tmp_path)), NONE, replace(LIVE, force=True))
        assert "QEMU does not end" in await end(rooms, upid)
        assert old <= await volumes(rooms, 100)
        await recover(rooms)
        assert old <= await volumes(rooms, 100)
    await recover(rooms)
    assert [guest.config for guest in await rooms.guests.list()] == [before]
    assert await volumes(rooms, 100) == old
    assert rooms.vms.running() == frozenset()
    assert await rooms.store.list("restore/") == []


async def test_a_live_restore_replaces_a_vm(rooms: Rooms, tmp_path: Path) -> None:
    await old_vm(rooms)
    upid = await restore_vm(rooms, ROOT, 100, cast(Archive, files(tmp_path)), NONE, replace(LIVE, force=True))
    assert (await end(rooms, upid)).startswith("WARNINGS"), await log(rooms, upid)
    guest = await rooms.guests.get(100)
    assert guest.config["name"] == "saved"
    assert {"unused0", "unused1"} <= set(guest.config)
    assert await volumes(rooms, 100) == set(owned_volumes(guest.config, 100).values())
    assert await rooms.store.list("restore/") == []


_KEYS = st.sampled_from(["scsi0", "scsi1", "efidisk0", "tpmstate0", "net0", "evil0", "scsi99", "x"])
_LINES = st.one_of(
    st.builds(
        "{}: {}".format, _KEYS, st.sampled_from(["local:vm-1-disk-0", "none", "/dev/sda", "a=b,c", "", "local:iso/x"])
    ),
    st.builds("#qmdump#map:{}:{}:local:raw:".format, _KEYS, st.builds("drive-{}".format, _KEYS)),
    st.text(max_size=40),
)


@given(st.lists(_LINES, max_size=12), st.dictionaries(_KEYS, st.integers(-1, 1 << 60), max_size=5))
def test_whatever_a_backup_says_is_an_error_or_disks_of_its_own(lines: list[str], sizes: dict[str, int]) -> None:
    try:
        found = contents("\n".join(lines), sizes)
    except (HostFailure, InvalidParameter):
        return
    assert all(disk.size == sizes[disk.device] > 0 for disk in found.disks.values())
    assert len({disk.device for disk in found.disks.values()}) == len(found.disks)
    assert all(VmOptions.knows(key) for key in found.disks)
