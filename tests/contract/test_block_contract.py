"""What every storage of block devices does, over tools that answer from memory and real file systems."""

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import (
    AlreadyExists,
    HostFailure,
    InvalidParameter,
    NoSpace,
    NotFound,
    NotSupported,
    WrongState,
)
from bastide.base.units import GIB, MIB
from bastide.host import reflink
from bastide.host.filesystems import mounts_within
from bastide.storage import block
from framework.block_storages import MAKERS
from framework.evil_images import EVIL

pytestmark = [pytest.mark.anyio, pytest.mark.system]

SIZE = 16 * MIB
KEY = "0123456789abcdef"
Made = Any


@pytest.fixture(params=sorted(MAKERS))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    yield from _made(request.param, tmp_path)


@pytest.fixture(params=sorted(set(MAKERS) - {"lvm", "lvm-real"}))
def cloning(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    """A storage that shares blocks."""
    yield from _made(request.param, tmp_path)


def _made(name: str, folder: Path) -> Iterator[Made]:
    made = MAKERS[name](folder)
    yield made
    left = mounts_within(folder)
    for target in left:
        subprocess.run(["umount", str(target)], check=True)
    if name.endswith("-real"):
        asyncio.run(_emptied(made))
    assert left == [], "the test left a volume active"


async def _emptied(storage: Made) -> None:
    for piece in await storage.pool.pieces():
        await storage.pool.remove(piece.name)


async def _disk(storage: Made, label: int = 0, content: bytes = b"first", vmid: int = 100) -> str:
    name = str(storage.disk_name(vmid, label))
    await storage.allocate_disk(name, SIZE)
    await _write(storage, name, content)
    return name


async def _write(storage: Made, name: str, content: bytes) -> None:
    with (await storage.disk_path(name)).open("r+b") as file:
        file.write(content)


async def _read(storage: Made, name: str, snapshot: str | None = None, size: int = 5) -> bytes:
    image = await storage.disk_image(name, snapshot)
    assert (image.format, image.device, image.backing) == ("raw", True, None)
    with image.path.open("rb") as file:
        return bytes(file.read(size))


async def _names(storage: Made, *, all_pieces: bool = False) -> list[str]:
    if all_pieces:
        return sorted(piece.name for piece in await storage.pool.pieces())
    return [volume.volid.partition(":")[2] for volume in await storage.list()]


async def test_a_disk_lives_from_allocation_to_deletion(storage: Made) -> None:
    await storage.prepare()
    name = storage.disk_name(100, 0, "raw")
    assert name == "vm-100-disk-0"
    with pytest.raises(NotFound, match="does not exist"):
        await storage.disk_path(name)
    await storage.allocate_disk(name, SIZE)
    volume = await storage.info(name)
    assert (volume.volid, volume.size, volume.vmid, volume.content) == (f"s1:{name}", SIZE, 100, "images")
    assert (volume.format, volume.parent) == ("raw", None)
    with pytest.raises(AlreadyExists, match="already exists"):
        await storage.allocate_disk(name, SIZE)
    assert [entry.volid for entry in await storage.list("images", 100)] == [f"s1:{name}"]
    assert await storage.list(vmid=101) == []
    assert await _read(storage, name, size=2 * SIZE) == bytes(SIZE) or not storage.pool.abilities.zeroed
    await storage.resize_disk(name, 2 * SIZE)
    await storage.resize_disk(name, 2 * SIZE - 1)
    assert (await storage.info(name)).size == 2 * SIZE
    with pytest.raises(InvalidParameter, match="shrink"):
        await storage.resize_disk(name, SIZE)
    await storage.delete(name)
    await storage.delete(name)
    assert list(await storage.list()) == []
    for form in ("qcow2", "vmdk"):
        with pytest.raises(InvalidParameter, match="raw"):
            storage.disk_name(100, 0, form)


async def test_space_is_told_and_what_cannot_fit_is_refused(storage: Made) -> None:
    await storage.prepare()
    await storage.allocate_disk("vm-100-disk-0", GIB)
    usage = await storage.usage()
    assert usage.active
    assert 0 < usage.available < usage.total
    assert usage.allocated == GIB
    files = storage.volume_name(100, 1, 2 << 40)
    for call in (storage.allocate_disk("vm-100-disk-1", 2 << 40), storage.allocate(files, 2 << 40)):
        with pytest.raises(NoSpace):
            await call
    with pytest.raises(InvalidParameter):
        await storage.allocate_disk("vm-100-disk-1", 0)
    assert await _names(storage, all_pieces=True) == ["vm-100-disk-0"]


async def test_a_missing_or_hanging_pool_is_inactive(storage: Made) -> None:
    if not hasattr(storage, "tools"):
        return
    storage.tools.hang = True
    assert not (await storage.usage()).active
    with pytest.raises(HostFailure):
        await storage.list()


async def test_a_container_volume_lives_from_allocate_to_delete(storage: Made) -> None:
    await storage.prepare()
    name = storage.volume_name(100, 0, SIZE)
    await storage.allocate(name, SIZE)
    volume = await storage.info(name)
    assert (volume.size, volume.format) == (SIZE, storage.capabilities.container_format)
    with pytest.raises(AlreadyExists, match="already exists"):
        await storage.allocate(name, SIZE)
    root = await storage.activate(name)
    (root / "etc").mkdir()
    (root / "etc/hostname").write_text("web\n")
    assert await storage.activate(name) == root
    assert 0 < await storage.used(name) < SIZE
    # Without CAP_SYS_RESOURCE no mounted ext4 grows.
    with contextlib.suppress(NotSupported):
        await storage.resize(name, 2 * SIZE)
    if volume.format == "raw":
        with pytest.raises(InvalidParameter, match="in use"):
            await storage.resize(name, MIB)
    await storage.deactivate(name)
    await storage.deactivate(name)
    await storage.resize(name, 2 * SIZE)
    await storage.resize(name, 2 * SIZE)
    assert (await storage.info(name)).size == 2 * SIZE
    await storage.resize(name, 3 * SIZE)
    assert (await storage.activate(name) / "etc/hostname").read_text() == "web\n"
    assert [volume.volid for volume in await storage.list("rootdir")] == [f"s1:{name}"]
    await storage.delete(name)
    await storage.delete(name)
    assert await _names(storage, all_pieces=True) == []
    with pytest.raises(NotFound):
        await storage.activate(name)
    await storage.deactivate(name)


async def test_a_container_volume_shrinks_as_far_as_its_files_allow(storage: Made) -> None:
    await storage.prepare()
    name = storage.volume_name(100, 0, SIZE)
    await storage.allocate(name, 4 * SIZE)
    root = await storage.activate(name)
    (root / "data").write_bytes(bytes(range(256)) * 4096 * 20)
    await storage.deactivate(name)
    with pytest.raises(InvalidParameter, match="shrink") as error:
        await storage.resize(name, SIZE)
    assert list(error.value.errors) == ["size"]
    assert (await storage.info(name)).size == 4 * SIZE
    assert await _names(storage, all_pieces=True) == [name]
    await storage.resize(name, 3 * SIZE)
    assert (await storage.info(name)).size == 3 * SIZE
    assert (await storage.activate(name) / "data").read_bytes() == bytes(range(256)) * 4096 * 20
    await storage.deactivate(name)
    assert await _names(storage, all_pieces=True) == [name]


async def test_an_image_becomes_a_disk_or_nothing(storage: Made, tmp_path: Path) -> None:
    await storage.prepare()
    source = tmp_path / "source.raw"
    source.write_bytes(b"x" * (SIZE - 512))
    seen: list[float] = []
    await storage.import_disk(source, "raw", "vm-100-disk-0", seen.append)
    assert seen[-1] == 100
    assert await _read(storage, "vm-100-disk-0", size=SIZE) == source.read_bytes() + bytes(512)
    with pytest.raises(AlreadyExists):
        await storage.import_disk(source, "raw", "vm-100-disk-0")
    image = tmp_path / "evil.qcow2"
    for evil in ("backing, absolute", "data file, raw", "one EiB"):
        image.write_bytes(EVIL[evil].make(tmp_path, source, 1))
        with pytest.raises(HostFailure, match="image"):
            await storage.import_disk(image, "qcow2", "vm-100-disk-1")
        with pytest.raises(HostFailure, match="image"):
            await storage.import_base(KEY, image, "qcow2")
    image.write_bytes(EVIL["qcow2 as raw"].make(tmp_path, source, 1))
    with pytest.raises(HostFailure, match="header of qcow2"):
        await storage.import_disk(image, "raw", "vm-100-disk-1")
    assert await _names(storage, all_pieces=True) == ["vm-100-disk-0"]
    await storage.import_disk(image, "raw", "vm-100-disk-1", ours=True)
    assert (await _read(storage, "vm-100-disk-1", size=SIZE)).startswith(image.read_bytes())


async def test_a_small_file_is_written_and_written_over(storage: Made) -> None:
    await storage.prepare()
    name = storage.disk_name(100, "cloudinit", "raw")
    assert name == "vm-100-cloudinit"
    await storage.write_file(name, b"first" * 100)
    await storage.write_file(name, b"second")
    assert await _read(storage, name, size=500) == b"second" + bytes(494)
    await storage.write_file(name, b"x" * SIZE)
    assert await _read(storage, name, size=SIZE) == b"x" * SIZE
    await storage.delete(name)
    assert await _names(storage, all_pieces=True) == []


@pytest.mark.parametrize(
    "name",
    ["iso/a.iso", "100/vm-100-disk-0.raw", "../vm-100-disk-0", "vm-100-disk-0\n", "vm-1-disk-0", "pool", "root", "",
     "bastide-base-0123456789abcdef", "snap_vm-100-disk-0_x", "vm-100-", "-vm-100-disk-0", "vm-100-disk-0@x"],
)  # fmt: skip
async def test_what_is_no_volume_of_ours_is_refused(storage: Made, name: str, tmp_path: Path) -> None:
    await storage.prepare()
    (tmp_path / "x").write_bytes(b"x" * 512)
    for call in (
        storage.allocate_disk(name, SIZE),
        storage.allocate(name, SIZE),
        storage.disk_path(name),
        storage.activate(name),
        storage.resize_disk(name, SIZE),
        storage.import_disk(tmp_path / "x", "raw", name),
        storage.write_file(name, b""),
        storage.delete(name),
        storage.info(name),
        storage.copy("vm-100-disk-0", name),
    ):
        with pytest.raises(InvalidParameter):
            await call
    assert await _names(storage) == []


async def test_snapshots_bring_a_disk_back(cloning: Made) -> None:
    await cloning.prepare()
    name = await _disk(cloning, content=b"first")
    await cloning.snapshot(name, "one")
    await _write(cloning, name, b"other")
    await cloning.snapshot(name, "two")
    await _write(cloning, name, b"third")
    with pytest.raises(AlreadyExists, match="already exists"):
        await cloning.snapshot(name, "two")
    assert await cloning.snapshots(name) == ["one", "two"]
    assert await _read(cloning, name, "one") == b"first"
    assert await _names(cloning) == [name], "a snapshot is no volume"
    await cloning.rollback(name, "two")
    assert await _read(cloning, name) == b"other"
    if cloning.capabilities.latest_only:
        with pytest.raises(WrongState, match="newer"):
            await cloning.rollback(name, "one")
        await cloning.delete_snapshot(name, "two")
    for _ in range(2):
        await cloning.rollback(name, "one")
        assert await _read(cloning, name) == b"first"
    with pytest.raises(NotFound):
        await cloning.rollback(name, "three")
    await cloning.delete_snapshot(name, "one")
    await cloning.delete_snapshot(name, "one")
    assert await cloning.snapshots(name) in (["two"], [])
    assert (await cloning.info(name)).size == SIZE
    await cloning.delete(name)
    assert await _names(cloning, all_pieces=True) == []
    with pytest.raises(NotFound):
        await cloning.snapshots(name)


async def test_snapshots_bring_a_container_back(cloning: Made) -> None:
    await cloning.prepare()
    name = cloning.volume_name(100, 0, SIZE)
    await cloning.allocate(name, SIZE)
    root = await cloning.activate(name)
    (root / "a").write_text("before")
    await cloning.snapshot(name, "one")
    (root / "a").write_text("after")
    await cloning.deactivate(name)
    await cloning.rollback(name, "one")
    assert (await cloning.activate(name) / "a").read_text() == "before"
    await cloning.deactivate(name)
    await cloning.delete(name)


async def test_a_linked_clone_goes_its_own_way(cloning: Made) -> None:
    await cloning.prepare()
    name = await _disk(cloning)
    with pytest.raises(InvalidParameter):
        await cloning.clone(name, "vm-101-disk-0")
    base = await cloning.make_base(name)
    assert base == "base-100-disk-0"
    assert await cloning.make_base(name) == base
    assert await cloning.make_base(base) == base
    clone = cloning.clone_name(base, 101, 0, "images")
    assert clone in ("vm-101-disk-0", "base-100-disk-0/vm-101-disk-0")
    await cloning.clone(base, clone)
    assert (await cloning.info(clone)).parent == f"s1:{base}"
    assert sorted(await _names(cloning)) == sorted([base, clone])
    assert await cloning.clones_of(base) == [clone]
    await _write(cloning, clone, b"clone")
    assert await _read(cloning, base) == b"first"
    with pytest.raises(WrongState, match="builds on it"):
        await cloning.delete(base)
    with pytest.raises(AlreadyExists):
        await cloning.clone(base, clone)
    await cloning.snapshot(clone, "one")
    await cloning.rollback(clone, "one")
    assert await cloning.clones_of(base) == [clone]
    await cloning.delete(clone)
    await cloning.delete(base)
    assert await _names(cloning, all_pieces=True) == []


async def test_a_base_must_have_no_snapshots(cloning: Made) -> None:
    name = await _disk(cloning)
    await cloning.snapshot(name, "one")
    with pytest.raises(WrongState, match="snapshots"):
        await cloning.make_base(name)
    assert await _names(cloning) == [name]


async def test_copies_stand_alone(storage: Made) -> None:
    await storage.prepare()
    name = await _disk(storage)
    seen: list[float] = []
    await storage.copy(name, "vm-101-disk-0", progress=seen.append)
    assert seen[-1] == 100
    await _write(storage, name, b"other")
    assert await _read(storage, "vm-101-disk-0") == b"first"
    if storage.capabilities.snapshots:
        await storage.snapshot(name, "one")
        await _write(storage, name, b"third")
        await storage.copy(name, "vm-102-disk-0", "one")
        assert await _read(storage, "vm-102-disk-0") == b"other"
        with pytest.raises(NotFound):
            await storage.copy(name, "vm-103-disk-0", "two")
    base = await storage.make_base("vm-101-disk-0")
    await storage.copy(base, "vm-104-disk-0")
    await storage.delete(base)
    assert await _read(storage, "vm-104-disk-0") == b"first"
    with pytest.raises(AlreadyExists):
        await storage.copy(name, "vm-104-disk-0")


async def test_what_cannot_share_says_so(tmp_path: Path) -> None:
    thick = MAKERS["lvm"](tmp_path)
    name = await _disk(thick)
    for call in (thick.snapshot(name, "one"), thick.rollback(name, "one"), thick.snapshots(name)):
        with pytest.raises(NotSupported):
            await call
    base = await thick.make_base(name)
    with pytest.raises(NotSupported):
        await thick.clone(base, "vm-101-disk-0")
    assert thick.capabilities.copy_on_write is None


async def test_guests_are_made_of_a_base(storage: Made, tmp_path: Path) -> None:
    await storage.prepare()
    async with storage.making_base(KEY, SIZE) as root:
        (root / "hello").write_text("world")
        assert await storage.bases() == []
    assert await storage.bases() == [KEY]
    assert await _names(storage) == []
    assert (await storage.usage()).allocated == 0
    with pytest.raises(AlreadyExists):
        async with storage.making_base(KEY, SIZE):
            pass
    name = storage.volume_name(100, 0, SIZE)
    await storage.from_base(KEY, name, 4 * SIZE)
    root = await storage.activate(name)
    assert (root / "hello").read_text() == "world"
    (root / "big").write_bytes(b"x" * 2 * SIZE)
    await storage.deactivate(name)
    assert (await storage.info(name)).size == 4 * SIZE
    with pytest.raises(AlreadyExists):
        await storage.from_base(KEY, name, 4 * SIZE)
    source = tmp_path / "image"
    source.write_bytes(b"image" + bytes(SIZE - 5))
    other = "fedcba9876543210"
    await storage.import_base(other, source, "raw")
    with pytest.raises(AlreadyExists):
        await storage.import_base(other, source, "raw")
    await storage.from_base(other, "vm-101-disk-0", 2 * SIZE)
    assert await _read(storage, "vm-101-disk-0") == b"image"
    assert (await storage.info("vm-101-disk-0")).size == 2 * SIZE
    with pytest.raises(InvalidParameter):
        await storage.from_base(other, "vm-101-disk-1", MIB)
    with pytest.raises(NotFound):
        await storage.from_base("0" * 16, "vm-101-disk-1", SIZE)
    if not await storage.drop_base(other):
        await storage.delete("vm-101-disk-0")
        assert await storage.drop_base(other)
    await storage.delete(name)
    assert await storage.drop_base(KEY)
    assert await storage.drop_base(KEY)
    assert await storage.bases() == []


async def test_a_base_that_failed_is_none(storage: Made) -> None:
    await storage.prepare()
    with pytest.raises(ZeroDivisionError):
        async with storage.making_base(KEY, SIZE):
            raise ZeroDivisionError
    assert await _names(storage, all_pieces=True) == []


async def test_the_next_daemon_clears_what_this_one_left(storage: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    await storage.prepare()
    name = await _disk(storage)
    await storage.pool.make(storage._temporary(), SIZE, 100)
    await storage.pool.make("bastide-new-00000000-00000000-00000000", SIZE)
    await storage.prepare()
    assert len(await _names(storage, all_pieces=True)) == 3, "its own work goes on"
    monkeypatch.setattr(block, "_RUN", "ffffffff")
    await storage.prepare()
    assert await _names(storage, all_pieces=True) == ["bastide-new-00000000-00000000-00000000", name]


@pytest.mark.parametrize("removed", [False, True])
async def test_the_next_daemon_finishes_a_swap(storage: Made, monkeypatch: pytest.MonkeyPatch, removed: bool) -> None:
    name = await _disk(storage)
    ready = f"bastide-swap-{storage._host}-{block._RUN}-{name}"
    await storage.pool.make(ready, SIZE, 100)
    with (await storage.pool.device(ready)).open("r+b") as file:
        file.write(b"newer")
    if removed:
        await storage.pool.remove(name, alone=True)
    monkeypatch.setattr(block, "_RUN", "ffffffff")
    await storage.prepare()
    assert await _names(storage, all_pieces=True) == [name]
    assert await _read(storage, name) == b"newer"


async def test_the_next_daemon_thaws_what_this_one_froze(cloning: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a snapshot needs that, the file system stands still, and whatever happens it goes on."""
    name = cloning.volume_name(100, 0, SIZE)
    await cloning.allocate(name, SIZE)
    folder = await cloning.activate(name)
    still = cloning._still(cloning._parse(name).piece)
    await still.__aenter__()
    monkeypatch.setattr(block, "_RUN", "ffffffff")
    await cloning.prepare()
    assert not reflink.thaw(folder), "it was frozen still"
    assert not [*folder.parent.glob("*.frozen")]
    with contextlib.suppress(OSError):  # it cannot be thawed twice
        await still.__aexit__(None, None, None)
    with contextlib.suppress(OSError):
        async with cloning._still(cloning._parse(name).piece):
            assert reflink.thaw(folder) is not cloning.pool.abilities.settles
    await cloning.deactivate(name)
