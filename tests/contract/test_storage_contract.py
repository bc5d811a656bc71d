"""What every storage does, whatever it keeps its volumes in."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import AlreadyExists, InvalidParameter, NotFound, WrongState
from bastide.base.layout import Layout
from bastide.base.units import MIB
from bastide.host.filesystems import mounts_within
from bastide.model.storage import StorageConfig
from bastide.storage.dir import DirStorage
from bastide.storage.fake import FakeStorage

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
    "dir-subvol": lambda folder: _dir(folder, None),
    "dir-raw": lambda folder: _dir(folder, "raw"),
    "fake": _fake,
}


@pytest.fixture(
    params=[
        pytest.param("dir-subvol"),
        pytest.param("dir-raw", marks=pytest.mark.system),
        pytest.param("fake"),
    ]
)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    yield MAKERS[request.param](tmp_path)
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
    assert storage.path(name).read_bytes() == b"first"
    second = storage.incoming(name)
    second.write_bytes(b"second")
    with pytest.raises(AlreadyExists, match="already exists"):
        await storage.publish(second, name)
    assert storage.path(name).read_bytes() == b"first"
    await storage.delete(name)
    await storage.delete(name)
    assert list(await storage.list()) == []
    assert not storage.path(name).exists()


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
    with pytest.raises(InvalidParameter, match="shrink"):
        await storage.resize(name, SIZE)
    assert (await storage.activate(name) / "etc/hostname").read_text() == "web\n"
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
        storage.path(name)
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
