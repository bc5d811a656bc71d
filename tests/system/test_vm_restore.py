"""VMs come back from backups: by a real daemon from archives, and on real QEMU while they run."""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from bastide.guest.engines import Engines
from bastide.guest.fake import FakeEngine
from bastide.guest.vm_protocol import VmEngine
from bastide.host import qemu_nbd
from bastide.model.access import ROOT
from bastide.model.backup import BackupName, DiskExport
from bastide.model.storage import StorageConfig
from bastide.model.vm import VmOptions
from bastide.operations.backup.archives import Archive, open_archive
from bastide.operations.backup.restoring import Restore
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from bastide.operations.vm.restore import restore_vm
from bastide.storage.protocol import ArchiveStorage, Saving
from framework.host import ApiFailure, Host, TaskFailed
from framework.rooms import fake_rooms
from framework.vm_bench import VMID, Bench, Story, telling
from framework.vma_files import vma
from framework.vms import counted, counting_disk

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
SIZE = 512 << 20
MIB = 1 << 20
FILLED = 32 * MIB


NAME = BackupName("qemu", VMID, 1_700_000_000)

# live


@dataclass(frozen=True)
class View:
    """A backup whose disks are files."""

    folder: Path
    text: str
    name: BackupName = NAME
    volid: str = "store:backup/vzdump-qemu-100-2023_11_14-22_13_20"
    size: int = 0
    random_access: bool = True

    async def config(self) -> str:
        return self.text

    @asynccontextmanager
    async def disks(self) -> AsyncIterator[Mapping[str, Path]]:
        yield {path.name: path for path in self.folder.iterdir()}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[[Story], None]]:
    with telling(tmp_path) as tell:
        yield tell


async def ground(bench: Bench) -> tuple[Rooms, View]:
    """Rooms with real VMs, and the backup of a guest that boots and counts what it writes."""
    rooms = await fake_rooms(bench.folder / "rooms")
    await rooms.storages.update("local", {"format": "qcow2"})
    rooms = replace(rooms, engines=Engines(FakeEngine(), bench.engine))
    folder = bench.folder / "view"
    folder.mkdir()
    counting_disk(folder / "scsi0", SIZE)
    with (folder / "scsi0").open("r+b") as file:
        file.seek(SIZE - FILLED)
        file.write(os.urandom(FILLED))
    with (folder / "virtio1").open("wb") as file:
        file.write(os.urandom(MIB))
        file.truncate(32 * MIB)
    text = "boot: order=scsi0\nmemory: 32\nscsihw: virtio-scsi-single\n"
    text += "scsi0: old:disk-0,iothread=1\nvirtio1: old:disk-1\nefidisk0: old:disk-2,efitype=4m\n"
    filled(folder / "efidisk0", 4 * MIB)
    return rooms, View(folder, text)


async def kept(rooms: Rooms, view: View) -> Archive:
    """The same backup in a repository of Borg's."""
    place = view.folder.with_name("borg-store")
    await rooms.storages.add(StorageConfig(storage="store", type="borg", path=str(place), encryption="none"))
    storage = cast(ArchiveStorage, await rooms.storages.get("store"))
    name = f"backup/{NAME}"
    async with AsyncExitStack() as stack:
        disks = []
        for key, path in [(path.name, path) for path in sorted(view.folder.iterdir())]:
            socket = await stack.enter_async_context(qemu_nbd.serving(path, folder=rooms.layout.runtime))
            disks.append(DiskExport(key, socket, path.stat().st_size))
        await storage.save_disks(name, disks, {"qemu-server.conf": view.text.encode()}, Saving())
    return await open_archive(rooms, f"store:{name}")


def flat(rooms: Rooms, volid: str, target: Path) -> Path:
    path = rooms.layout.local_storage / "images" / volid.partition(":")[2]
    subprocess.run(["qemu-img", "convert", "-f", path.suffix[1:], "-O", "raw", path, target], check=True)
    return target


async def running(engine: VmEngine, more: int) -> None:
    """Wait until the guest has written so many bytes in all."""
    async with asyncio.timeout(60):
        while (status := await engine.status(VMID)) is None or status.disks["scsi0"].written < more:
            await asyncio.sleep(0.05)


def test_a_guest_writes_while_it_is_restored(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        rooms, view = await ground(bench)
        archive = await kept(rooms, view)
        source = view.folder / "scsi0"
        before = source.stat().st_mtime_ns
        # Where holes cannot be seen, all of the disk is read.
        wish = Restore(storage="local", live=True, limit=128 * 1024)
        upid = await restore_vm(rooms, ROOT, VMID, archive, VmOptions(), wish)
        await running(bench.engine, MIB)
        assert (await rooms.guests.get(VMID)).config["lock"] == "create"
        record = await rooms.tasks.wait(upid)
        lines = [line.t for line in (await rooms.tasks.log(upid, 0, 100))[0]]
        assert record.exitstatus == "OK", lines
        config = (await rooms.guests.get(VMID)).config
        await running(bench.engine, (await counters(bench)) + MIB)
        assert source.stat().st_mtime_ns == before
        await bench.engine.stop(VMID)
        found = flat(rooms, str(config["scsi0"]).partition(",")[0], bench.folder / "flat")
        numbers = counted(found)
        assert [number for number, _ in numbers] == list(range(1, len(numbers) + 1))
        assert len({boot for _, boot in numbers}) == 1, "it started anew"
        assert len(numbers) > 32
        with source.open("rb") as old, found.open("rb") as new:
            old.seek(SIZE - FILLED)
            new.seek(SIZE - FILLED)
            assert new.read() == old.read()
        for key in ("efidisk0", "virtio1"):
            other = flat(rooms, str(config[key]).partition(",")[0], bench.folder / key)
            assert other.read_bytes() == (view.folder / key).read_bytes(), key
        assert not list((rooms.layout.state / "live-restore").iterdir())

    live(story)


async def counters(bench: Bench) -> int:
    status = await bench.engine.status(VMID)
    assert status is not None
    return status.disks["scsi0"].written


def test_what_dies_while_it_is_restored_is_gone(live: Callable[[Story], None]) -> None:
    async def story(bench: Bench) -> None:
        rooms, view = await ground(bench)
        wish = Restore(storage="local", live=True, limit=1024)
        upid = await restore_vm(rooms, ROOT, VMID, cast(Archive, view), VmOptions(), wish)
        await running(bench.engine, MIB)
        await bench.engine.stop(VMID)
        assert "ended before it was restored" in str((await rooms.tasks.wait(upid)).exitstatus)
        assert await rooms.guests.list() == []
        storage = await rooms.storages.get("local")
        assert await storage.list("images", VMID) == []
        upid = await restore_vm(rooms, ROOT, VMID, cast(Archive, view), VmOptions(), wish)
        await running(bench.engine, MIB)
        await rooms.tasks.stop(upid)
        await rooms.tasks.wait(upid)
        assert (await rooms.guests.list(), bench.engine.running()) == ([], frozenset())
        assert await storage.list("images", VMID) == []
        with pytest.MonkeyPatch.context() as patched:
            # What is left of the task does not wake up again.
            patched.setattr("bastide.operations.vm.live_restore.in_step", lambda *_: asyncio.Event().wait())
            await restore_vm(rooms, ROOT, VMID, cast(Archive, view), VmOptions(), wish)
            await running(bench.engine, MIB)
        await recover(rooms)
        assert (await rooms.guests.list(), bench.engine.running()) == ([], frozenset())
        assert await storage.list("images", VMID) == []

    live(story)


# a whole host


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host.launched() as host:
        yield host


def disk_path(host: Host, option: str) -> Path:
    return host.root / "state/storage/images" / option.partition(":")[2].partition(",")[0]


def same(one: Path, other: Path) -> bool:
    forms = [path.suffix[1:] for path in (one, other)]
    argv = ["qemu-img", "compare", "-f", forms[0], "-F", forms[1], one, other]
    return subprocess.run(argv, check=False, stdout=subprocess.DEVNULL).returncode == 0


def archive_of(host: Host, vmid: int, disks: dict[str, Path], config: str, *, compress: bool = True) -> str:
    """A backup as Proxmox VE makes it; its volume id."""
    devices = {f"drive-{key}{'-backup' if key == 'tpmstate0' else ''}": path for key, path in disks.items()}
    text = config + "".join(
        f"#qmdump#map:{key}:{device}:local-lvm:raw:\n" for key, device in zip(disks, devices, strict=True)
    )
    data = vma({"qemu-server.conf": text.encode()}, {name: path.read_bytes() for name, path in devices.items()})
    name = f"vzdump-qemu-{vmid}-2024_01_02-03_04_05.vma"
    path = host.root / "state/storage/dump" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if compress:
        subprocess.run(["zstd", "-q", "--rm", path], check=True)
    return f"local:backup/{name}{'.zst' if compress else ''}"


def text_of(config: dict[str, Any]) -> str:
    skipped = {"digest", "description"}
    return "".join(f"{key}: {value}\n" for key, value in config.items() if key not in skipped)


def filled(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.write(os.urandom(3 * MIB))
        file.seek(size // 2)
        file.write(os.urandom(MIB))
        file.truncate(size)
    return path


def test_a_backup_of_proxmox_ves_comes_back_whole(host: Host, tmp_path: Path) -> None:
    disks = {
        "efidisk0": filled(tmp_path / "efi.raw", 540672),
        "scsi0": filled(tmp_path / "system.raw", 64 * MIB),
        "tpmstate0": filled(tmp_path / "tpm.raw", 4 * MIB),
        "virtio1": filled(tmp_path / "data.raw", 8 * MIB),
    }
    for path in disks.values():
        os.truncate(path, path.stat().st_size // 4096 * 4096)
    config = (
        "#restored%3A yes\nbios: ovmf\nefidisk0: local-lvm:vm-300-disk-0,efitype=4m,size=4M\n"
        "ide2: local-lvm:vm-300-cloudinit,media=cdrom\nmachine: q35\nname: saved\nciuser: ada\n"
        "net0: virtio=BC:24:11:00:00:01,bridge=vmbr9\nscsi0: local-lvm:vm-300-disk-1,size=64M\n"
        "tpmstate0: local-lvm:vm-300-disk-3,size=4M,version=v2.0\nvirtio1: local-lvm:vm-300-disk-2,size=8M\n"
    )
    volid = archive_of(host, 300, disks, config)
    vmid = host.new_vmid()
    host._vms.add(vmid)
    path = f"/nodes/{host.node}/qemu"
    log = host.wait(host.post(path, vmid=vmid, archive=volid, storage="local", cores=2))
    assert "vmbr9" in log
    found = host.get(host.path(vmid, "/config"))
    assert (found["name"], found["cores"], found["description"]) == ("saved", 2, "restored: yes")
    for key, source in disks.items():
        assert same(source, disk_path(host, found[key])), key
    assert disk_path(host, found["ide2"]).stat().st_size > 0
    assert disk_path(host, found["scsi0"]).suffix == ".raw"
    used = disk_path(host, found["scsi0"]).stat().st_blocks * 512
    assert used < 16 * MIB, "zeros take space"
    replaced_as_a_whole(host, vmid, volid, disks)


def replaced_as_a_whole(host: Host, vmid: int, volid: str, disks: dict[str, Path]) -> None:
    """The VM is restored over itself: without force it stays, with a damaged backup, too."""
    path = f"/nodes/{host.node}/qemu"
    before = host.get(host.path(vmid, "/config"))
    with pytest.raises(ApiFailure, match=f"unable to restore VM {vmid} - VM {vmid} already exists"):
        host.post(path, vmid=vmid, archive=volid, storage="local")
    damaged = host.root / "state/storage/dump/vzdump-qemu-300-2024_01_02-03_04_06.vma.zst"
    whole = damaged.with_name(volid.rpartition("/")[2]).read_bytes()
    damaged.write_bytes(whole[:-100_000])
    with pytest.raises(TaskFailed, match=r"could not be read|damaged"):
        host.wait(host.post(path, vmid=vmid, archive=str(damaged), storage="local", force=1))
    assert host.get(host.path(vmid, "/config")) == before
    assert same(disks["scsi0"], disk_path(host, before["scsi0"]))
    host.wait(host.post(path, vmid=vmid, archive=volid, storage="local", force=1, unique=1))
    after = host.get(host.path(vmid, "/config"))
    assert after["net0"] != before["net0"]
    rows = host.get(f"/nodes/{host.node}/storage/local/content", content="images", vmid=vmid)
    names = {str(after[key]).partition(",")[0] for key in (*disks, "ide2")}
    assert {row["volid"] for row in rows} == names
    assert same(disks["virtio1"], disk_path(host, after["virtio1"]))


def test_what_was_saved_comes_back(host: Host) -> None:
    vmid = host.create_vm(
        bios="ovmf", efidisk0="local:1,efitype=4m", scsi0="local:0.0625,format=raw", virtio1="local:0.015625",
        scsi2="local:0.015625,backup=0", ide2="local:cloudinit", ciuser="ada", tpmstate0="local:1,version=v2.0",
        description="two\nlines",
    )  # fmt: skip
    before = host.get(host.path(vmid, "/config"))
    filled(disk_path(host, before["scsi0"]), 64 * MIB)
    host.wait(host.post(f"/nodes/{host.node}/vzdump", vmid=vmid, storage="local", mode="stop", compress="zstd"))
    content = f"/nodes/{host.node}/storage/local/content"
    [volid] = [row["volid"] for row in host.get(content, content="backup", vmid=vmid)]
    fresh = host.new_vmid()
    host._vms.add(fresh)
    host.wait(host.post(f"/nodes/{host.node}/qemu", vmid=fresh, archive=volid))
    after = host.get(host.path(fresh, "/config"))
    for key in ("efidisk0", "scsi0", "tpmstate0", "virtio1"):
        old, new = disk_path(host, before[key]), disk_path(host, after[key])
        assert old.suffix == new.suffix, key
        assert same(old, new), key
    assert "scsi2" not in after
    kept = ("bios", "boot", "ciuser", "description", "machine", "memory", "name", "smbios1")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert after["vmgenid"] != before["vmgenid"]
    assert disk_path(host, after["ide2"]).stat().st_size > 0
    host.wait(host.post(f"/nodes/{host.node}/qemu", vmid=vmid, archive=volid, force=1))
    over = host.get(host.path(vmid, "/config"))
    assert over["unused0"] == before["scsi2"].partition(",")[0]
    assert same(disk_path(host, over["scsi0"]), disk_path(host, after["scsi0"]))
    for number in (vmid, fresh):
        host.wait(host.delete(host.path(number)))
    host.wait(host.delete(f"{content}/{volid}"))


def test_a_daemon_that_dies_leaves_the_old_vm_or_the_new_one(host: Host, tmp_path: Path) -> None:
    vmid = host.create_vm(scsi0="local:0.03125", name="old")
    disks = {"scsi0": filled(tmp_path / "system.raw", 64 * MIB)}
    volid = archive_of(host, vmid, disks, "name: new\nscsi0: local-lvm:vm-1-disk-0,size=64M\n", compress=False)
    path = f"/nodes/{host.node}/qemu"
    for delay in (0.2, 0.7):
        with contextlib.suppress(ApiFailure):
            host.post(path, vmid=vmid, archive=volid, storage="local", force=1, bwlimit=4096)
            time.sleep(delay)
        host.kill()
        host.start()
        found = host.get(host.path(vmid, "/config"))
        assert found["name"] in ("old", "new")
        assert "lock" not in found
        rows = host.get(f"/nodes/{host.node}/storage/local/content", content="images", vmid=vmid)
        assert [row["volid"] for row in rows] == [found["scsi0"].partition(",")[0]]
    host.wait(host.post(path, vmid=vmid, archive=volid, storage="local", force=1))
    found = host.get(host.path(vmid, "/config"))
    assert found["name"] == "new"
    assert same(disks["scsi0"], disk_path(host, found["scsi0"]))
    assert not list((host.root / "run").glob("nbd-*"))
