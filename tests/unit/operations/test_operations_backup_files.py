"""Single files out of backups: of a container's archive, and of the disks in a VM's."""

import asyncio
import io
import os
import subprocess
import tarfile
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bastide.backup import vma_stages
from bastide.base.errors import HostFailure, InvalidParameter, NoSpace, NotFound
from bastide.host import qemu_nbd
from bastide.host.pipeline import Stage, run_pipeline
from bastide.model.backup import BackupName, DiskExport
from bastide.operations.backup import disks, files
from bastide.operations.backup.archives import Archive, FileArchive, open_archive
from bastide.operations.rooms import Rooms
from framework.rooms import fake_rooms
from framework.vma_files import vma

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.geteuid() != 0, reason="the sandbox is made by root")]

_NAME = "vzdump-lxc-100-2026_11_23-01_02_03.tar.zst"
_SECRET = b"what is written here is nobody's business\n" * 1000


@pytest.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[Rooms]:
    made = await fake_rooms(tmp_path)
    yield made
    await made.views.close()


@pytest.fixture
async def container(rooms: Rooms, tmp_path: Path) -> Archive:
    """The archive of a container with a few files."""
    return await open_archive(rooms, str(_packed(tmp_path)))


def _packed(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/hostname").write_bytes(b"one\n")
    os.link(tree / "etc/hostname", tree / "etc/zz-same")
    (tree / "srv").mkdir()
    (tree / "srv/secret").write_bytes(_SECRET)
    (tree / "srv/with space ü").write_bytes(b"1")
    target = tmp_path / _NAME
    subprocess.run(["tar", "-C", tree, "--zstd", "-cf", target, "."], check=True)
    return target


async def _fetched(rooms: Rooms, archive: Archive, path: str, pack: files.Pack = "tar") -> tuple[str, bytes]:
    found = await files.fetch(rooms, archive, path, pack)
    return found.name, b"".join([part async for part in found.parts])


async def test_a_containers_folders_are_listed(rooms: Rooms, container: Archive) -> None:
    assert [(e.path, e.type) for e in await files.list_folder(rooms, container, "/")] == [("/etc", "d"), ("/srv", "d")]
    found = await files.list_folder(rooms, container, "srv/")
    assert [(entry.path, entry.size) for entry in found] == [("/srv/secret", len(_SECRET)), ("/srv/with space ü", 1)]
    with pytest.raises(NotFound, match="'/nowhere' does not exist"):
        await files.list_folder(rooms, container, "/nowhere")


async def test_a_containers_files_come_out_one_by_one_or_as_an_archive(rooms: Rooms, container: Archive) -> None:
    assert await _fetched(rooms, container, "/srv/secret") == ("secret", _SECRET)
    assert await _fetched(rooms, container, "/etc/zz-same") == ("zz-same", b"one\n")
    name, packed = await _fetched(rooms, container, "/srv")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert (name, sorted(archive.getnames())) == ("srv.tar", [".", "secret", "with space ü"])
    name, packed = await _fetched(rooms, container, "/srv", "zip")
    with zipfile.ZipFile(io.BytesIO(packed)) as made:
        assert (name, made.read("secret")) == ("srv.zip", _SECRET)


@pytest.mark.parametrize("path", ["/none", "/srv/secret/deeper"])
async def test_what_is_not_in_a_backup_is_told_before_anything_is_sent(
    rooms: Rooms, container: Archive, path: str
) -> None:
    with pytest.raises(NotFound, match="in this backup"):
        await files.fetch(rooms, container, path, "zip")


async def test_links_and_other_kinds_are_told(rooms: Rooms, tmp_path: Path) -> None:
    archive = tmp_path / _NAME.removesuffix(".zst")
    with tarfile.open(archive, "w") as made:
        for name, kind, target in (
            ("./bin", tarfile.SYMTYPE, "usr/bin"),
            ("./a", tarfile.LNKTYPE, "./b"),
            ("./b", tarfile.LNKTYPE, "./a"),
            ("./pipe", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            made.addfile(info)
    container = await open_archive(rooms, str(archive))
    for path, words in (
        ("/bin/ls", "leads by a symbolic link to '/usr/bin/ls'"),
        ("/a", "neither a file nor a folder"),
        ("/pipe", "neither a file nor a folder"),
    ):
        with pytest.raises(InvalidParameter, match=words):
            await files.fetch(rooms, container, path, "tar")
    for path, words in (("/bin/", "to '/usr/bin'"), ("/pipe/", "is not a folder")):
        with pytest.raises(InvalidParameter, match=words):
            await files.list_folder(rooms, container, path)


async def test_a_way_out_of_the_backup_is_refused(rooms: Rooms, container: Archive) -> None:
    for path in ("/../etc/passwd", "etc/../../x", "/a\nb"):
        with pytest.raises(InvalidParameter, match="not a plain path"):
            await files.fetch(rooms, container, path, "tar")


async def test_a_truncated_archive_is_an_error(rooms: Rooms, container: Archive, tmp_path: Path) -> None:
    assert isinstance(container, FileArchive)
    whole = container.path.read_bytes()
    container.path.write_bytes(whole[: len(whole) - 20])
    with pytest.raises(HostFailure):
        await files.list_folder(rooms, container, "/")


@dataclass
class _Disks:
    """A VM's archive whose disks can be read at any place."""

    images: Mapping[str, Path]
    volid: str = "local:backup/vzdump-qemu-101-2026_11_23-01_02_03"
    name: BackupName = field(default_factory=lambda: BackupName("qemu", 101, 0))
    size: int = 0
    random_access: bool = True
    opened: int = 0

    async def config(self) -> str:
        return ""

    async def entries(self, path: str) -> None:
        raise AssertionError("no container")

    def stream(self, paths: object = ()) -> AbstractAsyncContextManager[tuple[object, int | None]]:
        raise AssertionError("not a stream")

    @asynccontextmanager
    async def disks(self) -> AsyncIterator[Mapping[str, Path]]:
        self.opened += 1
        yield self.images


def _disk(path: Path, files: Mapping[str, bytes], *, partitioned: bool) -> Path:
    """A raw disk with an ext4 file system that holds files, in its second partition or all over it."""
    tree = path.with_suffix(".tree")
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    system = path.with_suffix(".ext4")
    with system.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-d", tree, system], check=True)
    if not partitioned:
        return system
    with path.open("wb") as file:
        file.truncate(32 << 20)
    layout = b"label: gpt\nsize=2M\nsize=16M\n"
    subprocess.run(["sfdisk", "-q", path], input=layout, check=True, capture_output=True)
    with path.open("r+b") as file:
        file.seek(3 << 20)
        file.write(system.read_bytes())
    return path


async def test_files_come_out_of_a_vms_disks(rooms: Rooms, tmp_path: Path) -> None:
    disks = {
        "scsi0": _disk(tmp_path / "one.raw", {"etc/hostname": b"vm\n", "srv/secret": _SECRET}, partitioned=True),
        "virtio1": _disk(tmp_path / "two.raw", {"data/ü 1": b"2"}, partitioned=False),
    }
    archive = _Disks(disks)
    assert [(e.path, e.type) for e in await files.list_folder(rooms, archive, "/")] == [
        ("/scsi0-part2", "v"),
        ("/virtio1", "v"),
    ]
    found = {e.path: (e.type, e.size) for e in await files.list_folder(rooms, archive, "/scsi0-part2/srv")}
    assert found == {"/scsi0-part2/srv/secret": ("f", len(_SECRET))}
    assert await _fetched(rooms, archive, "/scsi0-part2/srv/secret") == ("secret", _SECRET)
    assert await _fetched(rooms, archive, "/virtio1/data/ü 1") == ("ü 1", b"2")
    assert archive.opened == 1, "each look opened the disks anew"
    with pytest.raises(NotFound, match="file system '/sda' does not exist"):
        await files.list_folder(rooms, archive, "/sda")
    with pytest.raises(NotFound, match=r"folder .* does not exist"):
        await files.list_folder(rooms, archive, "/virtio1/none")
    with pytest.raises(NotFound, match="'/etc/none' does not exist"):
        await files.fetch(rooms, archive, "/scsi0-part2/etc/none", "tar")
    with pytest.raises(InvalidParameter, match="one by one"):
        await files.fetch(rooms, archive, "/scsi0-part2/etc", "tar")


async def test_files_come_out_of_a_vma_stream_whose_disks_are_unpacked_once(rooms: Rooms, tmp_path: Path) -> None:
    disk = _disk(tmp_path / "one.raw", {"etc/hostname": b"vm\n", "srv/secret": _SECRET}, partitioned=True)
    target = tmp_path / "vzdump-qemu-101-2026_11_23-01_02_03.vma.zst"
    async with qemu_nbd.serving(disk, folder=tmp_path) as socket:
        export = DiskExport("scsi0", socket, disk.stat().st_size)
        with (
            vma_stages.pack_stage([export], {"qemu-server.conf": b"memory: 16\n"}) as packing,
            target.open("wb") as out,
        ):
            await run_pipeline([packing, Stage(["zstd", "-q"], "compressed")], stdout=out.fileno())
    archive = await open_archive(rooms, str(target))
    assert [entry.path for entry in await files.list_folder(rooms, archive, "/")] == ["/scsi0-part2"]
    assert await _fetched(rooms, archive, "/scsi0-part2/srv/secret") == ("secret", _SECRET)
    unpacked = rooms.layout.state / "backup-views"
    assert [path.name for path in unpacked.rglob("*.raw")] == ["0.raw"]
    await rooms.views.close()
    assert not [*unpacked.rglob("*.raw")]


async def test_two_backups_of_one_name_are_unpacked_apart(rooms: Rooms, tmp_path: Path) -> None:
    """On two storages, as two hosts make them, or packed in two ways."""
    found = []
    for place in ("one", "two"):
        disk = _disk(tmp_path / f"{place}.raw", {f"of/{place}": place.encode()}, partitioned=False)
        target = tmp_path / place / "vzdump-qemu-101-2026_11_23-01_02_03.vma"
        target.parent.mkdir()
        target.write_bytes(vma({"qemu-server.conf": b"memory: 16\n"}, {"drive-scsi0": disk.read_bytes()}))
        found.append(await open_archive(rooms, str(target)))
    listed = await asyncio.gather(*(files.list_folder(rooms, archive, "/scsi0/of") for archive in found))
    assert [[entry.name for entry in each] for each in listed] == [["one"], ["two"]]
    await rooms.views.close()


async def test_what_has_no_room_to_be_unpacked_says_so(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "vzdump-qemu-101-2026_11_23-01_02_03.vma"
    target.write_bytes(vma({"qemu-server.conf": b"memory: 16\n"}, {"drive-scsi0": os.urandom(1 << 20)}))

    async def full(*_arguments: object, **_options: object) -> None:
        raise NoSpace("the volume is full")

    monkeypatch.setattr(disks, "run_pipeline", full)
    with pytest.raises(NoSpace, match="no room"):
        await files.list_folder(rooms, await open_archive(rooms, str(target)), "/")
    assert not [*(rooms.layout.state / "backup-views").rglob("*.raw")]


async def test_a_damaged_vma_stream_leaves_nothing_unpacked(rooms: Rooms, tmp_path: Path) -> None:
    target = tmp_path / "vzdump-qemu-101-2026_11_23-01_02_03.vma"
    target.write_bytes(b"VMA\0" + b"\x07" * 20000)
    archive = await open_archive(rooms, str(target))
    for _ in range(2):
        with pytest.raises(HostFailure):
            await files.list_folder(rooms, archive, "/")
    assert not [*(rooms.layout.state / "backup-views").rglob("*.raw")]
