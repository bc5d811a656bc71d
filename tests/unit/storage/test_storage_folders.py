"""What is peculiar to snapshots, clones and bases in folders: layers, leftovers of killed daemons, btrfs."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure, NotSupported, WrongState
from bastide.base.units import MIB
from bastide.host import btrfs, overlay, reflink
from bastide.host.filesystems import mounts_within
from bastide.host.run import run
from bastide.storage import folder, folder_snapshots, folder_storage
from framework import storages
from framework.disposable import Disposable, mounted
from framework.storages import made

pytestmark = [pytest.mark.anyio, pytest.mark.system]

SIZE = 32 * MIB
KEY = "0123456789abcdef"


async def based(driver: str, disposable: Disposable, tmp_path: Path) -> Any:
    """A storage with a base."""
    storage = made(driver, disposable, tmp_path)
    await storage.prepare()
    async with storage.making_base(KEY, 64 * MIB) as root:
        (root / "file").write_text("base")
    return storage


def another_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (folder, folder_snapshots, folder_storage):
        monkeypatch.setattr(module, "RUN", "another-run")


async def test_a_layered_volume_is_shown_to_one_guest_alone(disposable: Disposable, tmp_path: Path) -> None:
    storage = await based("dir-ext4", disposable, tmp_path)
    name = storage.volume_name(100, 0, SIZE)
    await storage.from_base(KEY, name, SIZE)
    place = await storage.activate(name, 700000)
    assert await storage.activate(name, 700000) == place
    with pytest.raises(WrongState, match="other ids"):
        await storage.activate(name, 800000)
    assert place.stat().st_uid == 700000
    assert await storage.used(name) < 4 * MIB
    with contextlib.suppress(NotSupported):  # some hosts let no mounted file system grow
        await storage.resize(name, 2 * SIZE)
        assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize > SIZE
    await storage.deactivate(name)
    assert (await storage.activate(name, 800000)).stat().st_uid == 800000
    assert not await storage.drop_base(KEY)
    await storage.delete(name)
    assert mounts_within(tmp_path) == []
    assert await storage.drop_base(KEY)


async def test_what_a_killed_daemon_left_is_undone(
    disposable: Disposable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await based("dir-ext4", disposable, tmp_path)
    name = storage.volume_name(100, 0, SIZE)
    await storage.from_base(KEY, name, SIZE)
    place = await storage.activate(name)
    upper = place.with_name(f"{place.name}.upper")
    await run(["fsfreeze", "-f", str(upper)])
    upper.with_name(f"{upper.name}.frozen").write_text(folder.RUN)
    async with storage._passing_mount() as passing:
        await overlay.mount_read_only([overlay.Layer(place)], passing)
        await storage.prepare()
        assert len(mounts_within(tmp_path)) == 3, "what this daemon does goes on"
        another_daemon(monkeypatch)
        await made("dir-ext4", disposable, tmp_path).prepare()
        assert len(mounts_within(tmp_path)) == 2
        (place / "file").write_text("thawed")
    assert list(place.parent.glob("*.frozen")) == []
    await storage.delete(name)
    assert await storage.drop_base(KEY)


async def test_a_new_volume_takes_nothing_over_from_an_old_one(disposable: Disposable, tmp_path: Path) -> None:
    storage = await based("dir-ext4", disposable, tmp_path)
    name = storage.volume_name(100, 0, SIZE)
    await storage.from_base(KEY, name, SIZE)
    await storage.snapshot(name, "old")
    path = storage.path(name)
    path.unlink()  # as if its removal had been cut short
    assert await storage.drop_base(KEY), "what lies beside a volume that is gone counts for nothing"
    await storage.allocate(name, SIZE)
    assert list(await storage.snapshots(name)) == []
    assert (await storage.info(name)).parent is None
    assert not (await storage.activate(name) / "file").exists()
    await storage.delete(name)
    await storage.prepare()
    assert list(path.parent.parent.glob("*/*")) == []


async def test_a_container_without_a_size_shares_nothing_where_images_do(
    disposable: Disposable, tmp_path: Path
) -> None:
    storage = await based("dir-xfs", disposable, tmp_path)
    with pytest.raises(NotSupported):
        await storage.from_base(KEY, storage.volume_name(100, 0, 0), 0)
    assert list(await storage.list()) == []
    assert await storage.drop_base(KEY)


async def test_an_image_that_was_not_unmounted_is_settled_before_it_lies_below(
    disposable: Disposable, tmp_path: Path
) -> None:
    storage = await based("dir-ext4", disposable, tmp_path)
    name = storage.volume_name(100, 0, SIZE)
    await storage.allocate(name, SIZE)
    root = await storage.activate(name)
    (root / "file").write_text("crashed")
    await run(["sync", "-f", str(root)])
    crashed = storage.path(name).read_bytes()
    await storage.deactivate(name)
    storage.path(name).write_bytes(crashed)
    base = await storage.make_base(name)
    await storage.clone(base, clone := storage.clone_name(base, 101, 0, "rootdir"))
    assert (await storage.activate(clone) / "file").read_text() == "crashed"
    second = await storage.make_base(clone)
    for _ in range(2):
        shown = await storage.activate(second, 700000)
        assert (shown / "file").read_text() == "crashed"
    with pytest.raises(OSError, match="Read-only"):
        (shown / "file").write_text("x")
    await storage.delete(second)
    await storage.delete(base)
    assert await storage.drop_base(KEY)


async def test_without_overlays_disks_share_and_containers_do_not(
    disposable: Disposable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await based("dir-ext4", disposable, tmp_path)
    monkeypatch.setattr(overlay, "supported", lambda: False)
    assert storage.capabilities.copy_on_write == "a backing file for disks"
    assert "subvol" not in storage.capabilities.clones
    with pytest.raises(NotSupported):
        await storage.from_base(KEY, "100/vm-100-disk-0.raw", SIZE)
    assert list(await storage.list()) == []
    assert list((storage._path / ".incoming").iterdir()) == []
    assert await storage.drop_base(KEY)


async def test_each_file_system_says_its_means(disposable: Disposable, tmp_path: Path) -> None:
    told = {}
    for driver in ("dir-ext4", "dir-xfs", "dir-btrfs", "btrfs"):
        storage = made(driver, disposable, tmp_path)
        await storage.prepare()
        known = storage.capabilities
        told[driver] = (known.copy_on_write, known.default_disk_format, known.layered, sorted(known.instant))
    shared = "shared blocks (reflink)"
    assert told == {
        "dir-ext4": ("an overlay for containers, a backing file for disks", "qcow2", True, ["qcow2"]),
        "dir-xfs": (shared, "raw", False, ["qcow2", "raw"]),
        "dir-btrfs": (shared, "raw", False, ["qcow2", "raw"]),
        "btrfs": (f"snapshots of subvolumes for containers, {shared} for disks", "raw", False,
                  ["qcow2", "raw", "subvol"]),
    }  # fmt: skip


async def test_disks_on_btrfs_can_be_written_in_place(disposable: Disposable, tmp_path: Path) -> None:
    make = storages.make("btrfs", storages.BtrfsStorage, nocow=1)
    storage = make(disposable.on("btrfs") / tmp_path.name, tmp_path)
    await storage.prepare()
    name = storage.disk_name(100, 0)
    await storage.allocate_disk(name, MIB)
    path = await storage.disk_path(name)
    path.write_bytes(os.urandom(MIB))
    assert "C" in _attributes(path)
    await storage.snapshot(name, "one")
    assert reflink.own_bytes(path) == 0
    await storage.rollback(name, "one")
    assert "C" in _attributes(path)
    (tmp_path / "image").write_bytes(os.urandom(MIB))
    await storage.import_base(KEY, tmp_path / "image", "raw")
    await storage.from_base(KEY, made_of := storage.disk_name(101, 0), 2 * MIB)
    assert reflink.own_bytes(await storage.disk_path(made_of)) == 0
    assert list((storage._path / ".nocow").iterdir()) == []
    for disk in (name, made_of):
        await storage.delete(disk)


def _attributes(path: Path) -> str:
    return subprocess.run(["lsattr", str(path)], check=True, capture_output=True, text=True).stdout.split()[0]


async def test_btrfs_enforces_sizes_with_quotas_and_removes_what_guests_nest(tmp_path: Path) -> None:
    with mounted("btrfs", tmp_path, 300 * MIB) as place:
        await run(["btrfs", "quota", "enable", str(place)])
        storage = storages.DRIVERS["btrfs"][1](place / "files", tmp_path)
        await storage.prepare()
        assert storage.capabilities.enforces_size
        name = storage.volume_name(100, 0, 8 * MIB)
        await storage.allocate(name, 8 * MIB)
        root = await storage.activate(name)
        with pytest.raises(OSError, match="quota"):
            (root / "big").write_bytes(os.urandom(16 * MIB))
        (root / "big").unlink()
        btrfs.create(root / "nested")
        btrfs.create(root / "nested/deeper")
        (root / "nested/deeper/file").touch()
        await storage.snapshot(name, "one")
        await storage.rollback(name, "one")
        btrfs.create(root / "again")
        await storage.delete(name)
        assert list((place / "files/images").iterdir()) == []
        assert list((place / "files/.trash").iterdir()) == []


async def test_a_folder_elsewhere_is_no_btrfs_storage(tmp_path: Path) -> None:
    storage = storages.DRIVERS["btrfs"][1](tmp_path / "files", tmp_path)
    with pytest.raises(HostFailure, match="not on btrfs"):
        await storage.prepare()


_KILLED = """
import asyncio, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from framework import storages

async def main():
    storage = storages.DRIVERS[{driver!r}][1](Path({files!r}), Path({host!r}))
    await storage.prepare()
    print("ready", flush=True)
    number = 0
    while True:
        number += 1
        name = storage.volume_name(200 + number, 0, {size})
        await storage.from_base({key!r}, name, {size})
        root = await storage.activate(name)
        (root / "new").write_text("guest")
        (root / "new").replace(root / "file")  # in one step: a kill may come at any
        await storage.snapshot(name, "one")
        await storage.deactivate(name)
        await storage.rollback(name, "one")
        await storage.delete_snapshot(name, "one")
        base = await storage.make_base(name)
        clone = storage.clone_name(base, 600 + number, 0, "rootdir")
        await storage.clone(base, clone)
        await storage.copy(clone, storage.volume_name(700 + number, 0, {size}))
        await storage.delete(clone)
        await storage.delete(base)

asyncio.run(main())
"""


def _killed(driver: str, files: Path, host: Path, after: float) -> None:
    """Let another process work with the storage until it is killed."""
    program = _KILLED.format(paths=sys.path, driver=driver, files=str(files), host=str(host), size=SIZE, key=KEY)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(after)
        os.killpg(process.pid, signal.SIGKILL)


async def _sweep(driver: str, disposable: Disposable, tmp_path: Path, points: int) -> None:
    storage = await based(driver, disposable, tmp_path)
    for _ in range(points):
        _killed(driver, storage._path, tmp_path, random.uniform(0, 0.6))
        await storage.prepare()
        left = [volume.volid.partition(":")[2] for volume in await storage.list()]
        for name in left:
            assert (await storage.activate(name) / "file").read_text() in ("base", "guest")
            await storage.deactivate(name)
            for snapshot in await storage.snapshots(name):
                await storage.rollback(name, snapshot)
                assert (await storage.activate(name) / "file").read_text() == "guest"
                await storage.deactivate(name)
        while left:
            left = [name for name in left if await storage.clones_of(name) or await storage.delete(name)]
        assert mounts_within(tmp_path) == []
        assert list(await storage.bases()) == [KEY]
    assert await storage.drop_base(KEY)


@pytest.mark.parametrize("driver", ["dir-ext4", "dir-xfs", "btrfs"])
async def test_a_kill_at_any_point_leaves_whole_volumes(driver: str, disposable: Disposable, tmp_path: Path) -> None:
    await _sweep(driver, disposable, tmp_path, 3)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("driver", ["dir-ext4", "dir-ext4-folders", "dir-xfs", "dir-btrfs", "btrfs"])
async def test_many_kills(driver: str, disposable: Disposable, tmp_path: Path) -> None:
    await _sweep(driver, disposable, tmp_path, 40)
