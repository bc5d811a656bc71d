"""What every storage does, whatever it keeps its volumes in."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import AlreadyExists, HostFailure, InvalidParameter, NotFound, WrongState
from bastide.base.layout import Layout
from bastide.base.units import MIB
from bastide.host.filesystems import mounts_within
from bastide.model.storage import StorageConfig
from bastide.storage.dir import DirStorage
from bastide.storage.fake import FakeStorage
from framework.evil_images import EVIL
from framework.tmpfs_share import TmpfsShare

CONTENT = "vztmpl,iso,rootdir,images,snippets,backup,import"
SIZE = 16 * MIB

Made = Any


def _dir(folder: Path, form: str | None) -> Made:
    config = StorageConfig(storage="s1", type="dir", path=str(folder / "disk"), content=CONTENT, format=form)
    return DirStorage(config, Layout(folder))


def _fake(folder: Path) -> Made:
    return FakeStorage(
        StorageConfig(storage="s1", type="dir", path=str(folder / "disk"), content=CONTENT), Layout(folder)
    )


MAKERS: dict[str, Callable[[Path], Made]] = {
    "dir-subvol": lambda folder: _dir(folder, "subvol"),
    "dir-raw": lambda folder: _dir(folder, "raw"),
    "mounted": lambda folder: TmpfsShare.below(folder, "s1", CONTENT),
    "fake": _fake,
}


@pytest.fixture(
    params=[
        pytest.param("dir-subvol"),
        pytest.param("dir-raw", marks=pytest.mark.system),
        pytest.param("mounted", marks=pytest.mark.system),
        pytest.param("fake"),
    ]
)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    yield MAKERS[request.param](tmp_path)
    if request.param == "mounted":
        subprocess.run(["umount", tmp_path / "state/mnt/s1"], check=False, stderr=subprocess.DEVNULL)
    assert mounts_within(tmp_path) == [], "the test left a volume active"


async def _publish(storage: Made, name: str, data: bytes = b"data") -> None:
    incoming = storage.incoming(name)
    incoming.write_bytes(data)
    await storage.publish(incoming, name)


@pytest.mark.anyio
async def test_a_file_appears_under_its_name_whole_and_only_once(storage: Made) -> None:
    await storage.prepare()
    name = "vztmpl/alpine-3.20_1_amd64.tar.xz"
    with pytest.raises(NotFound, match="does not exist"):
        await storage.info(name)
    await _publish(storage, name, b"first")
    volume = await storage.info(name)
    assert (volume.volid, volume.content, volume.format, volume.size) == (f"s1:{name}", "vztmpl", "txz", 5)
    assert volume.vmid is None
    assert (await storage.file_path(name)).read_bytes() == b"first"
    second = storage.incoming(name)
    second.write_bytes(b"second")
    with pytest.raises(AlreadyExists, match="already exists"):
        await storage.publish(second, name)
    assert (await storage.file_path(name)).read_bytes() == b"first"
    await storage.delete(name)
    await storage.delete(name)
    assert list(await storage.list()) == []
    assert not (await storage.file_path(name)).exists()


@pytest.mark.anyio
async def test_volumes_are_listed_by_content_and_guest(storage: Made) -> None:
    await storage.prepare()
    await _publish(storage, "iso/a.iso")
    await _publish(storage, "snippets/hook.sh")
    await _publish(storage, "backup/vzdump-lxc-100-2026_01_01-00_00_00.tar.zst")
    for vmid in (100, 101):
        await storage.allocate(storage.volume_name(vmid, 0, SIZE), SIZE)
    assert [volume.content for volume in await storage.list("iso")] == ["iso"]
    owned = await storage.list(vmid=100)
    assert {volume.content for volume in owned} in ({"backup", "rootdir"}, {"backup", "images"})
    assert {volume.vmid for volume in owned} == {100}
    assert len(await storage.list("rootdir")) == 2
    assert len(await storage.list()) == 5
    assert await storage.list("vztmpl") == []


@pytest.mark.anyio
async def test_a_container_volume_lives_from_allocate_to_delete(storage: Made) -> None:
    await storage.prepare()
    name = storage.volume_name(100, 0, SIZE)
    assert name.startswith("100/vm-100-disk-0.")
    await storage.allocate(name, SIZE)
    assert (await storage.info(name)).size == SIZE
    with pytest.raises(AlreadyExists, match="already exists"):
        await storage.allocate(name, SIZE)
    root = await storage.activate(name)
    (root / "etc").mkdir()
    (root / "etc/hostname").write_text("web\n")
    assert await storage.activate(name) == root
    await storage.deactivate(name)
    await storage.deactivate(name)
    await storage.resize(name, 2 * SIZE)
    await storage.resize(name, 2 * SIZE)
    assert (await storage.info(name)).size == 2 * SIZE
    assert (await storage.activate(name) / "etc/hostname").read_text() == "web\n"
    (root / "big").write_bytes(b"x" * MIB)
    with pytest.raises(InvalidParameter, match="shrink"):
        await storage.resize(name, MIB)
    await storage.delete(name)
    await storage.delete(name)
    assert list(await storage.list()) == []
    with pytest.raises(NotFound):
        await storage.activate(name)
    await storage.deactivate(name)


@pytest.mark.anyio
async def test_a_protected_volume_stays_and_notes_are_kept(storage: Made) -> None:
    await storage.prepare()
    name = "backup/vzdump-lxc-100-2026_01_01-00_00_00.tar.zst"
    await _publish(storage, name)
    await storage.annotate(name, notes="before the upgrade\nof everything", protected=True)
    volume = await storage.info(name)
    assert (volume.notes, volume.protected) == ("before the upgrade\nof everything", True)
    with pytest.raises(WrongState, match="protected"):
        await storage.delete(name)
    await storage.annotate(name, protected=False)
    await storage.annotate(name, notes="")
    volume = await storage.info(name)
    assert (volume.notes, volume.protected) == (None, False)
    assert len(await storage.list()) == 1
    await storage.delete(name)
    with pytest.raises(NotFound):
        await storage.annotate(name, notes="x")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "form"), [("lxc", "tar.zst"), ("lxc", "tgz"), ("lxc", "tar"), ("qemu", "vma.lzo"), ("qemu", "vma")]
)
async def test_a_backup_is_what_its_name_says_and_its_log_goes_with_it(storage: Made, kind: str, form: str) -> None:
    await storage.prepare()
    name = f"backup/vzdump-{kind}-100-2026_01_02-03_04_05.{form}"
    await _publish(storage, name)
    await storage.keep_log(name, "INFO: done\n")
    volume = await storage.info(name)
    assert (volume.format, volume.subtype, volume.vmid) == (form, kind, 100)
    assert volume.ctime == time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))
    log = (await storage.file_path(name)).parent / f"vzdump-{kind}-100-2026_01_02-03_04_05.log"
    assert log.read_text() == "INFO: done\n"
    assert [volume.volid for volume in await storage.list()] == [f"{storage.config.storage}:{name}"]
    await storage.delete(name)
    assert not log.exists()


@pytest.mark.anyio
async def test_a_checksum_lies_beside_its_file_and_goes_with_it(storage: Made) -> None:
    await storage.prepare()
    name, digest = "backup/vzdump-lxc-100-2026_01_02-03_04_05.tar.zst", "0123456789abcdef" * 4
    with pytest.raises(NotFound):
        await storage.keep_checksum(name, digest)
    await _publish(storage, name)
    assert await storage.checksum(name) is None
    await storage.keep_checksum(name, digest)
    assert await storage.checksum(name) == digest
    path = await storage.file_path(name)
    beside = path.with_name(f"{path.name}.sha256")
    assert beside.read_text() == f"{digest}  {path.name}\n"
    assert len(await storage.list("backup")) == 1
    beside.write_text("something else\n")
    assert await storage.checksum(name) is None
    await storage.delete(name)
    assert not beside.exists()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name",
    [
        "vztmpl/../../etc/passwd.tar.gz",
        "vztmpl/a/b.tar.gz",
        "../x.tar.gz",
        "/etc/passwd",
        "vztmpl/.hidden.tar.gz",
        "vztmpl/-rf.tar.gz",
        "vztmpl/a.exe",
        "iso/a.tar.gz",
        "100/vm-101-disk-0.raw",
        "100/../101/vm-101-disk-0.raw",
        "backup/a.tar.zst.notes",
        "vztmpl/a\n.tar.gz",
        "",
    ],
)
async def test_no_name_leaves_the_storage(storage: Made, name: str) -> None:
    await storage.prepare()
    with pytest.raises(InvalidParameter):
        await storage.file_path(name)
    with pytest.raises(InvalidParameter):
        await storage.info(name)
    with pytest.raises(InvalidParameter):
        await storage.delete(name)


@pytest.mark.anyio
async def test_files_are_not_container_volumes(storage: Made) -> None:
    await storage.prepare()
    await _publish(storage, "iso/a.iso")
    with pytest.raises(InvalidParameter):
        await storage.activate("iso/a.iso")
    with pytest.raises(InvalidParameter):
        await storage.allocate("iso/b.iso", SIZE)


@pytest.mark.anyio
async def test_space_is_told(storage: Made) -> None:
    await storage.prepare()
    usage = await storage.usage()
    assert usage.active
    assert 0 <= usage.available <= usage.total
    assert usage.used <= usage.total


@pytest.mark.anyio
@pytest.mark.system
async def test_a_disk_lives_from_allocation_to_deletion(storage: Made) -> None:
    await storage.prepare()
    for form in sorted(storage.capabilities.disk_formats):
        name = storage.disk_name(100, 0, form)
        assert name == f"100/vm-100-disk-0.{form}"
        with pytest.raises(NotFound, match="does not exist"):
            await storage.disk_path(name)
        await storage.allocate_disk(name, SIZE)
        volume = await storage.info(name)
        assert (volume.size, volume.vmid, volume.content, volume.format) == (SIZE, 100, "images", form)
        assert volume.used is None or volume.used < SIZE
        with pytest.raises(AlreadyExists, match="already exists"):
            await storage.allocate_disk(name, SIZE)
        path = await storage.disk_path(name)
        assert path.is_file()
        assert [entry.volid for entry in await storage.list("images", 100)] == [f"s1:{name}"]
        if form != "vmdk":
            await storage.resize_disk(name, 2 * SIZE)
            await storage.resize_disk(name, 2 * SIZE)
            assert (await storage.info(name)).size == 2 * SIZE
            with pytest.raises(InvalidParameter, match="shrink"):
                await storage.resize_disk(name, SIZE)
        await storage.delete(name)
        assert not path.exists()
        assert list(await storage.list()) == []


@pytest.mark.anyio
@pytest.mark.system
async def test_an_image_becomes_a_disk_or_nothing(storage: Made, tmp_path: Path) -> None:
    await storage.prepare()
    source = tmp_path / "source.raw"
    source.write_bytes(b"x" * SIZE)
    seen: list[float] = []
    await storage.import_disk(source, "raw", "100/vm-100-disk-0.raw", seen.append)
    assert seen[-1] == 100
    assert (await storage.disk_path("100/vm-100-disk-0.raw")).read_bytes() == source.read_bytes()
    with pytest.raises(AlreadyExists):
        await storage.import_disk(source, "raw", "100/vm-100-disk-0.raw")
    image = tmp_path / "evil.qcow2"
    for evil in ("backing, absolute", "data file, raw", "one EiB", "table bomb"):
        image.write_bytes(EVIL[evil].make(tmp_path, source, 1))
        with pytest.raises(HostFailure, match="image"):
            await storage.import_disk(image, "qcow2", "100/vm-100-disk-1.raw")
    image.write_bytes(EVIL["qcow2 as raw"].make(tmp_path, source, 1))
    with pytest.raises(HostFailure, match="header of qcow2"):
        await storage.import_disk(image, "raw", "100/vm-100-disk-1.raw")
    with pytest.raises(HostFailure):
        await storage.import_disk(tmp_path / "missing", "raw", "100/vm-100-disk-1.raw")
    assert len(await storage.list()) == 1
    # A guest's own raw disk may hold anything, and stays what it is.
    await storage.import_disk(image, "raw", "100/vm-100-disk-1.raw", ours=True)
    assert (await storage.disk_path("100/vm-100-disk-1.raw")).read_bytes() == image.read_bytes()


@pytest.mark.anyio
async def test_a_small_file_is_written_and_replaced(storage: Made) -> None:
    await storage.prepare()
    name = storage.disk_name(100, "cloudinit", "raw")
    assert name == "100/vm-100-cloudinit.raw"
    await storage.write_file(name, b"first" * 100)
    await storage.write_file(name, b"second")
    assert (await storage.disk_path(name)).read_bytes() == b"second"
    assert (await storage.info(name)).size == 6
    with pytest.raises(InvalidParameter):
        await storage.write_file("100/vm-100-cloudinit.qcow2", b"x")
    await storage.delete(name)
    assert list(await storage.list()) == []


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["iso/a.iso", "100/vm-100-disk-0.subvol", "import/a.qcow2", "../vm-100-disk-0.raw"])
async def test_what_is_no_disk_is_refused(storage: Made, name: str, tmp_path: Path) -> None:
    await storage.prepare()
    (tmp_path / "x").write_bytes(b"x" * 512)
    for call in (
        storage.allocate_disk(name, SIZE),
        storage.disk_path(name),
        storage.resize_disk(name, SIZE),
        storage.import_disk(tmp_path / "x", "raw", name),
        storage.write_file(name, b""),
    ):
        with pytest.raises(InvalidParameter):
            await call
    with pytest.raises(InvalidParameter):
        storage.disk_name(100, "../x", "raw")
    with pytest.raises(InvalidParameter):
        await storage.allocate_disk("100/vm-100-disk-0.raw", 0)
