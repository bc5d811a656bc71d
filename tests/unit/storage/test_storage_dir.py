"""What is peculiar to the directory storage: who may look in, links, leftovers, mounts, a file system that hangs."""

import asyncio
import os
import stat
import time
from pathlib import Path

import pytest

from bastide.base.errors import DeadlineExceeded, HostFailure, InvalidParameter, NotSupported, WrongState
from bastide.base.layout import Layout
from bastide.base.units import MIB
from bastide.host import filesystems
from bastide.host.run import run
from bastide.model.storage import StorageConfig
from bastide.storage import folder
from bastide.storage.dir import DirStorage
from framework.evil_images import qcow2


def make(folder: Path, **values: object) -> DirStorage:
    config = {"storage": "s1", "type": "dir", "path": str(folder / "disk"), "content": "vztmpl,rootdir,iso,snippets"}
    return DirStorage(StorageConfig.parse({**config, **values}), Layout(folder))


@pytest.mark.anyio
async def test_the_hosts_users_cannot_reach_what_guests_own(tmp_path: Path) -> None:
    storage = make(tmp_path)
    await storage.prepare()
    await storage.allocate("100/vm-100-disk-0.subvol", 0)
    folders = [path for path in (tmp_path / "disk").rglob("*") if path.is_dir() and path.suffix != ".subvol"]
    others = {
        path.relative_to(tmp_path / "disk").as_posix(): stat.S_IMODE(path.stat().st_mode) & 0o7 for path in folders
    }
    # `images` can be passed by whoever knows the way, which ends at the guest's own folder.
    assert others.pop("images") == 0o1
    others.pop("template")
    assert set(others.values()) == {0}
    assert "images/100" in others


@pytest.mark.anyio
async def test_links_are_neither_listed_nor_followed(tmp_path: Path) -> None:
    storage = make(tmp_path)
    await storage.prepare()
    canary = tmp_path / "canary.tar.gz"
    canary.write_text("secret")
    (tmp_path / "disk/template/cache/a.tar.gz").symlink_to(canary)
    (tmp_path / "disk/images/100").symlink_to(tmp_path)
    with pytest.raises(InvalidParameter, match="symbolic link"):
        await storage.file_path("vztmpl/a.tar.gz")
    with pytest.raises(InvalidParameter, match="symbolic link"):
        await storage.allocate("100/vm-100-disk-0.subvol", 0)
    assert list(await storage.list()) == []
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    await storage.allocate("101/vm-101-disk-0.subvol", 0)
    root = await storage.activate("101/vm-101-disk-0.subvol")
    (root / "link").symlink_to(outside)
    await storage.delete("101/vm-101-disk-0.subvol")
    assert (outside / "kept").exists()
    assert canary.read_text() == "secret"


@pytest.mark.anyio
async def test_a_new_daemon_clears_what_a_dead_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make(tmp_path)
    await storage.prepare()
    ours = storage.incoming("vztmpl/a.tar.gz")
    ours.write_text("half")
    trash = tmp_path / "disk/.trash/1.vm-100-disk-0.subvol"
    (trash / "etc").mkdir(parents=True)
    broken = tmp_path / "disk/.incoming/partial.1"
    old = tmp_path / "disk/.incoming/partial.2"
    # Another host, whose daemon lies at the same place, is writing it.
    with monkeypatch.context() as elsewhere:
        here = os.uname()
        elsewhere.setattr(os, "uname", lambda: os.uname_result((here.sysname, "other", *here[2:])))
        foreign = make(tmp_path).incoming("vztmpl/a.tar.gz")
    for path in (broken, old, foreign):
        path.touch()
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    await storage.prepare()
    assert ours.exists(), "its own files are still being written"
    assert not trash.exists()
    monkeypatch.setattr(folder, "RUN", "another-run")
    await make(tmp_path).prepare()
    assert not ours.exists()
    assert sorted(path.name for path in (tmp_path / "disk/.incoming").iterdir()) == sorted([broken.name, foreign.name])


@pytest.mark.anyio
async def test_a_failed_allocation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make(tmp_path, format="raw")
    await storage.prepare()

    async def fail(_image: Path, _size: int) -> None:
        _image.touch()
        raise HostFailure("mkfs.ext4 failed")

    monkeypatch.setattr(filesystems, "make_ext4", fail)
    with pytest.raises(HostFailure):
        await storage.allocate(storage.volume_name(100, 0, MIB), MIB)
    assert list(await storage.list()) == []
    assert list((tmp_path / "disk/.incoming").iterdir()) == []


@pytest.mark.system
@pytest.mark.anyio
async def test_an_image_enforces_its_size_and_is_found_again(tmp_path: Path) -> None:
    storage = make(tmp_path, format="raw")
    assert storage.capabilities.enforces_size
    await storage.prepare()
    name = storage.volume_name(100, 0, 32 * MIB)
    await storage.allocate(name, 32 * MIB)
    root = await storage.activate(name)
    try:
        with pytest.raises(OSError, match="No space"):
            (root / "big").write_bytes(bytes(40 * MIB))
        (root / "big").unlink()
        used = await storage.used(name)
        assert used is not None
        assert used < 8 * MIB
        # Another daemon finds the mount and uses it.
        later = make(tmp_path, format="raw")
        assert await later.activate(name) == root
        assert len(filesystems.mounts_within(tmp_path)) == 1
        try:
            await later.resize(name, 64 * MIB)
        except NotSupported:
            await later.deactivate(name)
            await later.resize(name, 64 * MIB)
            root = await later.activate(name)
        assert os.statvfs(root).f_blocks * os.statvfs(root).f_frsize > 48 * MIB
        assert os.statvfs(root).f_flag & os.ST_NODEV
    finally:
        await storage.deactivate(name)
    assert filesystems.mounts_within(tmp_path) == []
    assert filesystems.loop_devices(tmp_path / "disk/images" / name) == []
    await storage.delete(name)


@pytest.mark.system
@pytest.mark.anyio
async def test_a_volume_with_something_mounted_in_it_is_not_removed(tmp_path: Path) -> None:
    storage = make(tmp_path)
    await storage.prepare()
    name = storage.volume_name(100, 0, 0)
    await storage.allocate(name, 0)
    inside = await storage.activate(name) / "mnt"
    inside.mkdir()
    await run(["mount", "-t", "tmpfs", "none", str(inside)])
    try:
        (inside / "kept").touch()
        with pytest.raises(WrongState, match="mounted"):
            await storage.delete(name)
        assert (inside / "kept").exists()
    finally:
        await run(["umount", str(inside)])
    await storage.delete(name)


@pytest.mark.anyio
async def test_a_file_system_that_hangs_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make(tmp_path)
    await storage.prepare()
    storage._bounded._deadline = 0.2
    hanging = 0

    def hang() -> None:
        nonlocal hanging
        hanging += 1
        time.sleep(1.5)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "_measure", hang)
        usage = await storage.usage()
    assert (usage.active, usage.total) == (False, 0)
    await asyncio.sleep(0.05)
    started = time.monotonic()
    assert not (await storage.usage()).active
    for look in (storage.list, lambda: storage.file_path("iso/a.iso")):
        with pytest.raises(DeadlineExceeded, match="s1"):
            await look()
    assert time.monotonic() - started < 1, "while a call hangs, the next ones are refused at once"
    assert hanging == 1
    other = make(tmp_path)
    assert (await other.usage()).active
    await asyncio.sleep(1.6)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "_where", lambda _parsed: time.sleep(0.8))
        with pytest.raises(DeadlineExceeded, match="s1"):
            await storage.file_path("iso/a.iso")
    await asyncio.sleep(0.9)
    assert (await storage.usage()).active, "it is asked again when the call has come back"


@pytest.mark.anyio
async def test_a_folder_that_should_be_a_mount_is_not_filled_without_it(tmp_path: Path) -> None:
    storage = make(tmp_path, is_mountpoint="yes")
    with pytest.raises(HostFailure, match="not mounted"):
        await storage.prepare()
    assert not (tmp_path / "disk").exists()
    assert not (await storage.usage()).active
    (tmp_path / "disk/dump").mkdir(parents=True)
    with pytest.raises(HostFailure, match="not mounted"):
        await storage.list("backup")
    with pytest.raises(HostFailure, match="not mounted"):
        await storage.file_path("backup/vzdump-lxc-100-2026_11_23-01_02_03.tar")


@pytest.mark.anyio
async def test_disks_are_roots_alone_and_no_link_leads_to_one(tmp_path: Path) -> None:
    storage = make(tmp_path, content="images", preallocation="off")
    await storage.prepare()
    await storage.allocate_disk("100/vm-100-disk-0.raw", MIB)
    await storage.write_file("100/vm-100-cloudinit.raw", b"secret")
    for file in (tmp_path / "disk/images/100").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.stat().st_blocks * 512 <= 4096
    (tmp_path / "canary").write_text("secret")
    (tmp_path / "disk/images/100/vm-100-disk-1.raw").symlink_to(tmp_path / "canary")
    for call in (
        storage.disk_path("100/vm-100-disk-1.raw"),
        storage.resize_disk("100/vm-100-disk-1.raw", MIB),
        storage.write_file("100/vm-100-disk-1.raw", b"overwritten"),
    ):
        with pytest.raises(InvalidParameter, match="symbolic link"):
            await call
    assert (tmp_path / "canary").read_text() == "secret"


@pytest.mark.system
@pytest.mark.anyio
async def test_a_qcow2_shows_what_its_guest_sees(tmp_path: Path) -> None:
    storage = make(tmp_path, content="images,rootdir", format="qcow2")
    await storage.prepare()
    assert storage.capabilities.default_disk_format == "qcow2"
    name = storage.disk_name(100, 0)
    await storage.allocate_disk(name, 64 * 1024 * MIB)
    volume = await storage.info(name)
    assert volume.size == 64 * 1024 * MIB
    assert volume.used is not None
    assert MIB < volume.used < 64 * MIB, "its tables are there from the start"
    (tmp_path / "disk/images" / name).write_bytes(b"no image")
    assert (await storage.info(name)).size == 8


@pytest.mark.system
@pytest.mark.anyio
async def test_a_failed_import_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make(tmp_path, content="images")
    await storage.prepare()
    source = tmp_path / "source"
    source.write_bytes(os.urandom(4 * MIB))

    def fail(_source: Path, _target: Path) -> None:
        raise HostFailure("no")

    monkeypatch.setattr(filesystems, "publish_file", fail)
    with pytest.raises(HostFailure, match="no"):
        await storage.import_disk(source, "raw", "100/vm-100-disk-0.qcow2")
    assert list(await storage.list()) == []
    assert list((tmp_path / "disk/.incoming").iterdir()) == []


@pytest.mark.system
@pytest.mark.anyio
async def test_an_image_cannot_ask_for_tables_of_a_huge_disk(tmp_path: Path) -> None:
    storage = make(tmp_path, content="images")
    await storage.prepare()
    source = tmp_path / "source"
    source.write_bytes(qcow2(size=8 << 40, l1_size=1 << 14))
    await storage.import_disk(source, "qcow2", "100/vm-100-disk-0.qcow2")
    volume = await storage.info("100/vm-100-disk-0.qcow2")
    assert volume.size == 8 << 40
    assert volume.used is not None
    assert volume.used < 4 * MIB
