"""What every storage does that takes volumes back in time, clones them and shares bases, whatever it keeps them in."""

import contextlib
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import AlreadyExists, HostFailure, InvalidParameter, NotFound, WrongState
from bastide.base.units import MIB
from bastide.host import disk_image, qemu_img
from bastide.host.filesystems import mounts_within
from bastide.host.rootdir import RootDir
from bastide.host.run import run
from bastide.storage import block
from bastide.storage import folder as folder_module
from bastide.storage import folder_storage as storage_module
from bastide.storage.fake import FakeStorage
from framework.disposable import Disposable
from framework.evil_images import EVIL
from framework.storages import DRIVERS, made

pytestmark = [pytest.mark.anyio, pytest.mark.system]

SIZE = 32 * MIB
FIRST = 700000
KEY, OTHER = "0123456789abcdef", "fedcba9876543210"

Storage = Any


@pytest.fixture(params=list(DRIVERS))
async def storage(request: pytest.FixtureRequest, disposable: Disposable, tmp_path: Path) -> AsyncIterator[Any]:
    found = made(request.param, disposable, tmp_path)
    await found.prepare()
    yield found
    volumes = [volume.volid.partition(":")[2] for volume in await found.list()]
    while volumes:
        volumes = [name for name in volumes if not await _deleted(found, name)]
    for key in await found.bases():
        assert await found.drop_base(key)
    assert mounts_within(tmp_path) == [], "the test left something mounted"
    if hasattr(found, "pool"):
        assert list(await found.pool.pieces()) == [], "a volume or the test left something"
        return
    assert not list(found._path.glob("images/*/*")), "a volume left something"
    assert list(found._path.glob(".[int]*/*")) == [], "the test left something half done"


async def _deleted(storage: Storage, name: str) -> bool:
    if await storage.clones_of(name):
        return False
    await storage.delete(name)
    return True


async def put(storage: Storage, name: str, path: str, text: str, first: int = FIRST) -> None:
    """Write a file as the guest's root would."""
    folder = await storage.activate(name, first)
    owner = None if folder.stat().st_uid == first else 0
    with RootDir(folder, owner) as root:
        if "/" in path:
            root.mkdir(path.rpartition("/")[0])
        root.write(path, text)
    await storage.deactivate(name)


async def get(storage: Storage, name: str, path: str) -> str | None:
    file = await storage.activate(name, FIRST) / path
    text = file.read_text() if file.exists() else None
    await storage.deactivate(name)
    return text


async def container(storage: Storage, vmid: int = 100) -> str:
    name: str = storage.volume_name(vmid, 0, SIZE)
    await storage.allocate(name, SIZE)
    await put(storage, name, "etc/hostname", "first\n")
    return name


async def content(storage: Storage, name: str, tmp_path: Path, snapshot: str | None = None) -> bytes:
    """What a guest sees of a disk."""
    image = await storage.disk_image(name, snapshot)
    if image.format == "raw" or isinstance(storage, FakeStorage):
        return image.path.read_bytes()
    target = tmp_path / f"seen-{os.urandom(4).hex()}"
    await qemu_img.convert(image, image.format, target, "raw")
    data = target.read_bytes()
    target.unlink()
    return data


async def fill(storage: Storage, name: str, data: bytes, tmp_path: Path) -> None:
    """Write to the beginning of a disk as its guest would."""
    image = await storage.disk_image(name)
    if image.format == "raw" or isinstance(storage, FakeStorage):
        with image.path.open("r+b") as file:
            file.write(data)
        return
    source = tmp_path / "data"
    source.write_bytes(data)
    node: dict[str, Any] | None = None
    for link in reversed(list(disk_image.links(image))):
        node = {"driver": link.format, "file": {"driver": "file", "filename": str(link.path)}, "backing": node}
        if link.format == "raw":
            del node["backing"]
    await run(["qemu-io", "-c", f"write -s {source} 0 {len(data)}", f"json:{json.dumps(node)}"])


async def test_a_container_goes_back_in_time(storage: Storage) -> None:
    name = await container(storage)
    with pytest.raises(NotFound):
        await storage.rollback(name, "one")
    await storage.snapshot(name, "one")
    with pytest.raises(AlreadyExists):
        await storage.snapshot(name, "one")
    await put(storage, name, "etc/hostname", "second\n")
    await put(storage, name, "new", "new")
    await storage.snapshot(name, "two")
    assert list(await storage.snapshots(name)) == ["one", "two"]
    await put(storage, name, "etc/hostname", "third\n")
    if storage.capabilities.latest_only:
        await storage.rollback(name, "two")
        assert await get(storage, name, "etc/hostname") == "second\n"
        with pytest.raises(WrongState, match="newer"):
            await storage.rollback(name, "one")
        await storage.delete_snapshot(name, "two")
    for _ in range(2):
        await storage.rollback(name, "one")
        assert await get(storage, name, "etc/hostname") == "first\n"
        assert await get(storage, name, "new") is None
    assert (await storage.info(name)).size == SIZE
    if not storage.capabilities.latest_only:
        await storage.rollback(name, "two")
        assert await get(storage, name, "etc/hostname") == "second\n"
    for _ in range(2):
        await storage.delete_snapshot(name, "one")
    assert list(await storage.snapshots(name)) == ([] if storage.capabilities.latest_only else ["two"])
    with pytest.raises(NotFound):
        await storage.rollback(name, "one")
    with pytest.raises(NotFound):
        await storage.snapshots(storage.volume_name(100, 7, SIZE))
    await storage.delete(name)
    assert list(await storage.list()) == []
    # A volume of that name begins anew.
    await storage.allocate(name, SIZE)
    assert list(await storage.snapshots(name)) == []


async def test_a_snapshot_of_an_active_volume_is_whole(storage: Storage) -> None:
    name = await container(storage)
    folder = await storage.activate(name, FIRST)
    with RootDir(folder, 0) as root:
        root.write("late", "late" * 1000)
        await storage.snapshot(name, "live")
        root.write("late", "later")
    await storage.deactivate(name)
    await storage.rollback(name, "live")
    assert await get(storage, name, "late") == "late" * 1000


async def test_a_snapshot_is_read_while_its_volume_is_written_to(storage: Storage) -> None:
    name = await container(storage)
    folder = await storage.activate(name, FIRST)
    with RootDir(folder, folder.stat().st_uid) as root:
        root.write("data", "then" * 1000)
        root.write("gone", "gone")
        await storage.snapshot(name, "vzdump")
        root.write("data", "now")
        root.unlink("gone")
        async with storage.reading_snapshot(name, "vzdump", FIRST) as shown:
            assert (shown / "data").read_text() == "then" * 1000
            assert (shown / "gone").read_text() == "gone"
            assert (shown / "etc/hostname").stat().st_uid == (folder / "etc/hostname").stat().st_uid
            async with storage.reading_snapshot(name, "vzdump", FIRST) as again:
                assert (again / "data").read_text() == "then" * 1000
            assert (folder / "data").read_text() == "now"
    await storage.delete_snapshot(name, "vzdump")
    await storage.deactivate(name)
    for missing in (name, storage.volume_name(100, 7, SIZE)):
        with pytest.raises(NotFound):
            async with storage.reading_snapshot(missing, "vzdump"):
                pass


async def test_a_snapshot_of_what_builds_on_a_base_is_read_whole(storage: Storage) -> None:
    base = await storage.make_base(await container(storage))
    name = storage.clone_name(base, 101, 0, "rootdir")
    await storage.clone(base, name)
    await put(storage, name, "own", "own")
    folder = await storage.activate(name, FIRST)
    owner = folder.stat().st_uid
    await storage.snapshot(name, "vzdump")
    async with storage.reading_snapshot(name, "vzdump", FIRST) as shown:
        assert ((shown / "etc/hostname").read_text(), (shown / "own").read_text()) == ("first\n", "own")
        assert {path.stat().st_uid for path in (shown, shown / "etc/hostname", shown / "own")} == {owner}
    await storage.deactivate(name)
    await storage.delete_snapshot(name, "vzdump")
    # A base that builds on another one is read with those owners, too.
    second = await storage.make_base(name)
    shown = await storage.activate(second, FIRST)
    assert {path.stat().st_uid for path in (shown, shown / "etc/hostname", shown / "own")} == {owner}
    await storage.deactivate(second)


async def test_the_next_daemon_unmounts_a_snapshot_that_was_read(storage: Storage, monkeypatch: Any) -> None:
    name = await container(storage)
    await storage.snapshot(name, "vzdump")
    reading = storage.reading_snapshot(name, "vzdump", FIRST)
    await reading.__aenter__()
    for module in (folder_module, storage_module):
        monkeypatch.setattr(module, "RUN", "0" * 16)
    monkeypatch.setattr(block, "_RUN", "ffffffff")
    await storage.prepare()
    if hasattr(storage, "_mounts"):
        assert mounts_within(storage._mounts) == []
    await storage.delete_snapshot(name, "vzdump")
    with contextlib.suppress(NotFound):  # its device is gone
        await reading.__aexit__(None, None, None)


async def test_disks_go_back_in_time(storage: Storage, tmp_path: Path) -> None:
    for form in sorted(storage.capabilities.snapshots & storage.capabilities.disk_formats):
        name = storage.disk_name(100, 0, form)
        await storage.allocate_disk(name, SIZE)
        before, after = os.urandom(MIB), os.urandom(MIB)
        await fill(storage, name, before, tmp_path)
        await storage.snapshot(name, "one")
        with pytest.raises(AlreadyExists):
            await storage.snapshot(name, "one")
        await fill(storage, name, after, tmp_path)
        assert (await content(storage, name, tmp_path))[:MIB] == after
        assert (await content(storage, name, tmp_path, "one"))[:MIB] == before
        with pytest.raises(NotFound):
            await storage.disk_image(name, "two")
        await storage.rollback(name, "one")
        await storage.rollback(name, "one")
        assert (await content(storage, name, tmp_path))[:MIB] == before
        await storage.delete_snapshot(name, "one")
        await storage.delete_snapshot(name, "one")
        assert list(await storage.snapshots(name)) == []
        await storage.delete(name)


async def test_a_container_becomes_a_base_and_is_cloned(storage: Storage) -> None:
    name = await container(storage)
    await storage.snapshot(name, "one")
    with pytest.raises(WrongState, match="snapshot"):
        await storage.make_base(name)
    await storage.delete_snapshot(name, "one")
    base = await storage.make_base(name)
    assert base == name.replace("subvol-", "basevol-").replace("vm-", "base-")
    assert await storage.make_base(name) == base
    with pytest.raises(NotFound):
        await storage.info(name)
    clone = storage.clone_name(base, 101, 0, "rootdir")
    assert re.fullmatch(rf"({base}/)?(101/)?(vm|subvol)-101-disk-0(\.\w+)?", clone)
    await storage.clone(base, clone)
    with pytest.raises(AlreadyExists):
        await storage.clone(base, clone)
    with pytest.raises(NotFound):
        await storage.clone(base.replace("100", "107"), clone.replace("100", "107").replace("101", "108"))
    assert await get(storage, clone, "etc/hostname") == "first\n"
    await put(storage, clone, "etc/hostname", "clone\n")
    other = storage.clone_name(base, 102, 0, "rootdir")
    await storage.clone(base, other)
    assert await get(storage, other, "etc/hostname") == "first\n"
    assert list(await storage.clones_of(base)) == [clone, other]
    volume = await storage.info(clone)
    assert (volume.volid, volume.parent, volume.vmid, volume.size) == (f"s1:{clone}", f"s1:{base}", 101, SIZE)
    assert {entry.volid for entry in await storage.list()} == {f"s1:{base}", f"s1:{clone}", f"s1:{other}"}
    with pytest.raises(WrongState, match="builds on it"):
        await storage.delete(base)
    # A clone has snapshots of its own, and can be a base itself.
    await storage.snapshot(clone, "one")
    await put(storage, clone, "etc/hostname", "later\n")
    await storage.rollback(clone, "one")
    assert await get(storage, clone, "etc/hostname") == "clone\n"
    await storage.delete_snapshot(clone, "one")
    second = await storage.make_base(clone)
    deep = storage.clone_name(second, 103, 0, "rootdir")
    await storage.clone(second, deep)
    assert await get(storage, deep, "etc/hostname") == "clone\n"
    await put(storage, deep, "etc/hostname", "deep\n")
    assert await get(storage, second, "etc/hostname") == "clone\n"
    # What is copied stands alone, whatever it was copied of.
    await storage.snapshot(deep, "one")
    await put(storage, deep, "etc/hostname", "deeper\n")
    copies = {storage.volume_name(number, 0, SIZE): text for number, text in (
        (104, "clone\n"), (105, "deeper\n"), (106, "deep\n"),
    )}  # fmt: skip
    for copy, (source, taken) in zip(copies, ((second, None), (deep, None), (deep, "one")), strict=True):
        await storage.copy(source, copy, taken, rate=64 * MIB)
    for volume in (deep, second, other, base):
        await storage.delete(volume)
    assert {entry.volid for entry in await storage.list()} == {f"s1:{copy}" for copy in copies}
    for copy, text in copies.items():
        assert await get(storage, copy, "etc/hostname") == text
        assert (await storage.info(copy)).parent is None


async def test_a_disk_becomes_a_base_and_is_cloned(storage: Storage, tmp_path: Path) -> None:
    for form in sorted(storage.capabilities.clones & storage.capabilities.disk_formats):
        name = storage.disk_name(100, 0, form)
        await storage.allocate_disk(name, SIZE)
        before, after = os.urandom(MIB), os.urandom(MIB)
        await fill(storage, name, before, tmp_path)
        base = await storage.make_base(name)
        clone = storage.clone_name(base, 101, 0, "images")
        await storage.clone(base, clone)
        volume = await storage.info(clone)
        assert (volume.size, volume.parent) == (SIZE, f"s1:{base}")
        assert volume.used is None or volume.used < MIB or form == "raw"
        assert (await content(storage, clone, tmp_path))[:MIB] == before
        await fill(storage, clone, after, tmp_path)
        assert (await content(storage, clone, tmp_path))[:MIB] == after
        assert (await content(storage, base, tmp_path))[:MIB] == before
        await storage.resize_disk(clone, 2 * SIZE)
        assert (await storage.info(clone)).size == 2 * SIZE
        # A chain of three.
        second = await storage.make_base(clone)
        deep = storage.clone_name(second, 102, 0, "images")
        await storage.clone(second, deep)
        assert (await content(storage, deep, tmp_path))[:MIB] == after
        with pytest.raises(WrongState, match="builds on it"):
            await storage.delete(second)
        full = storage.disk_name(103, 0, form)
        await storage.copy(deep, full, rate=64 * MIB)
        # As a disk moves to another storage.
        image, moved = await storage.disk_image(deep), storage.disk_name(104, 0, form)
        await storage.import_disk(image, image.format, moved, ours=True)
        for volume in (deep, second, base):
            await storage.delete(volume)
        for alone in (full, moved):
            assert (await content(storage, alone, tmp_path))[:MIB] == after
            assert (await storage.info(alone)).parent is None
            await storage.delete(alone)


async def test_copies_share_nothing_that_could_go(storage: Storage) -> None:
    name = await container(storage)
    await storage.snapshot(name, "one")
    await put(storage, name, "etc/hostname", "second\n")
    seen: list[float] = []
    now, then = storage.volume_name(101, 0, SIZE), storage.volume_name(102, 0, SIZE)
    await storage.copy(name, now, progress=seen.append)
    assert seen[-1] == 100
    await storage.copy(name, then, "one")
    with pytest.raises(AlreadyExists):
        await storage.copy(name, then)
    with pytest.raises(NotFound):
        await storage.copy(name, storage.volume_name(103, 0, SIZE), "missing")
    with pytest.raises(NotFound):
        await storage.info(storage.volume_name(103, 0, SIZE))
    await storage.delete(name)
    assert await get(storage, now, "etc/hostname") == "second\n"
    assert await get(storage, then, "etc/hostname") == "first\n"
    assert (await storage.info(now)).size == SIZE


async def test_guests_are_made_of_a_base(storage: Storage) -> None:
    async with storage.making_base(KEY, 64 * MIB) as folder:
        (folder / "etc").mkdir()
        (folder / "etc/hostname").write_text("base\n")
        (folder / "large").write_bytes(os.urandom(4 * MIB))
        folder.chmod(0o751)
    assert list(await storage.bases()) == [KEY]
    with pytest.raises(AlreadyExists):
        async with storage.making_base(KEY, 64 * MIB):
            pass
    with pytest.raises(ZeroDivisionError):
        async with storage.making_base(OTHER, 64 * MIB):
            raise ZeroDivisionError
    assert list(await storage.bases()) == [KEY]
    assert list(await storage.list()) == []
    names = [storage.volume_name(vmid, 0, SIZE) for vmid in (100, 101)]
    for name in names:
        await storage.from_base(KEY, name, SIZE)
        volume = await storage.info(name)
        assert (volume.size, volume.parent) == (SIZE, None)
        assert volume.used is None or volume.used < 2 * MIB
    with pytest.raises(AlreadyExists):
        await storage.from_base(KEY, names[0], SIZE)
    with pytest.raises(NotFound):
        await storage.from_base(OTHER, storage.volume_name(102, 0, SIZE), SIZE)
    await put(storage, names[0], "etc/hostname", "guest\n")
    assert await get(storage, names[1], "etc/hostname") == "base\n"
    folder = await storage.activate(names[1], FIRST)
    assert folder.stat().st_mode & 0o7777 == 0o751
    assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize >= SIZE * 3 // 4
    await storage.deactivate(names[1])
    await storage.resize(names[1], 2 * SIZE)
    assert (await storage.info(names[1])).size == 2 * SIZE
    assert await get(storage, names[1], "etc/hostname") == "base\n"
    await storage.copy(names[0], whole := storage.volume_name(103, 0, SIZE))
    gone = await storage.drop_base(KEY)
    for name in names:
        assert await get(storage, name, "etc/hostname") is not None
        await storage.delete(name)
    assert await storage.drop_base(KEY)
    assert gone or list(await storage.bases()) == []
    assert await storage.drop_base(OTHER)
    assert await get(storage, whole, "etc/hostname") == "guest\n"
    with pytest.raises((InvalidParameter, NotFound)):
        await storage.from_base("../../../etc", storage.volume_name(100, 0, SIZE), SIZE)


async def test_disks_are_made_of_a_base(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(os.urandom(MIB) + bytes(7 * MIB))
    evil = tmp_path / "evil.qcow2"
    evil.write_bytes(EVIL["backing, absolute"].make(tmp_path, source, 1))
    with pytest.raises(HostFailure, match="image"):
        await storage.import_base(KEY, evil, "qcow2")
    assert list(await storage.bases()) == []
    await storage.import_base(KEY, source, "raw")
    assert list(await storage.bases()) == [KEY]
    for form in sorted(storage.capabilities.clones & storage.capabilities.disk_formats):
        name = storage.disk_name(100, 0, form)
        with pytest.raises(InvalidParameter):
            await storage.from_base(KEY, name, MIB)
        await storage.from_base(KEY, name, SIZE)
        assert (await storage.info(name)).size == SIZE
        assert (await content(storage, name, tmp_path))[: 8 * MIB] == source.read_bytes()
        gone = await storage.drop_base(KEY)
        assert (await content(storage, name, tmp_path))[: 8 * MIB] == source.read_bytes()
        await storage.delete(name)
        if gone:
            await storage.import_base(KEY, source, "raw")
    assert await storage.drop_base(KEY)
    assert list(await storage.bases()) == []


async def test_a_container_shrinks_whole_or_not_at_all(storage: Storage) -> None:
    assert storage.capabilities.shrinks
    name = storage.volume_name(100, 0, 96 * MIB)
    await storage.allocate(name, 96 * MIB)
    await put(storage, name, "big", "x" * (18 * MIB))
    with pytest.raises(InvalidParameter, match="size"):
        await storage.resize(name, 17 * MIB)
    assert (await storage.info(name)).size == 96 * MIB
    await storage.resize(name, 64 * MIB)
    assert (await storage.info(name)).size == 64 * MIB
    assert await get(storage, name, "big") == "x" * (18 * MIB)


async def test_a_header_that_names_another_file_is_refused(storage: Storage, tmp_path: Path) -> None:
    if "qcow2" not in storage.capabilities.disk_formats:
        return
    name = "100/vm-100-disk-0.qcow2"
    await storage.import_base(KEY, await _image(tmp_path), "raw")
    await storage.from_base(KEY, name, SIZE)
    image = await storage.disk_image(name)
    if isinstance(storage, FakeStorage):
        return
    assert image.backing is not None
    assert disk_image.inspect(image.path, "qcow2").backing == "../../.base/" + image.backing.path.name
    image.path.unlink()
    await qemu_img.create_overlay(image.path, "../../../../../etc/shadow", "raw", SIZE)
    with pytest.raises(HostFailure):
        await storage.disk_image(name)


async def _image(tmp_path: Path) -> Path:
    source = tmp_path / "source.raw"
    source.write_bytes(os.urandom(MIB))
    return source
