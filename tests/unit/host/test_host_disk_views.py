"""Disks as folders of segments and back, with a server and file systems that are real."""

import asyncio
import mmap
import os
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import HostFailure
from bastide.host import disk_views, filesystems, qemu_nbd
from bastide.host.disk_views import NEWEST, SEGMENT, SegmentsOf
from bastide.host.disk_views_helper import digest
from bastide.model.backup import DiskExport

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts FUSE file systems"),
]


@asynccontextmanager
async def shown(root: Path, disks: Mapping[str, Path], name: str = "segments") -> AsyncIterator[Path]:
    """The segments of raw images."""
    sockets = root / f"{name}.nbd"
    sockets.mkdir()
    async with qemu_nbd.serving(next(iter(disks.values())), folder=sockets) as socket:
        exports = [DiskExport(key, socket, path.stat().st_size) for key, path in disks.items()]
        async with disk_views.segments(SegmentsOf.exports(exports), root / name) as folder:
            yield folder


def image(path: Path, size: int, parts: Mapping[int, bytes]) -> Path:
    """A sparse file with some content."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, content in parts.items():
            file.seek(offset)
            file.write(content)
    return path


def read(path: Path) -> bytes:
    return path.read_bytes()


async def test_segments_hold_what_the_disk_holds(tmp_path: Path) -> None:
    size = 5 * SEGMENT + 512
    disk = image(tmp_path / "disk", size, {100: b"first", 3 * SEGMENT - 2: b"over", size - 3: b"end"})
    async with shown(tmp_path, {"scsi0": disk}) as folder:
        names = sorted(await asyncio.to_thread(os.listdir, folder / "scsi0"))
        assert names == ["00000000", "00000002", "00000003", "00000005"]
        whole = await asyncio.to_thread(read, disk)
        for name in names:
            at = int(name, 16) * SEGMENT
            assert await asyncio.to_thread(read, folder / "scsi0" / name) == whole[at : at + SEGMENT]
        assert not await asyncio.to_thread((folder / "scsi0" / "00000001").exists)
    assert filesystems.mount_at(tmp_path / "segments") is None


async def test_a_segment_looks_the_same_as_long_as_its_content_is(tmp_path: Path) -> None:
    disk = image(tmp_path / "disk", 4 * SEGMENT, {0: b"a", SEGMENT: b"b", 2 * SEGMENT: b"c"})
    before = await _looks(tmp_path, disk, "one")
    with disk.open("r+b") as file:
        file.seek(SEGMENT + 7)
        file.write(b"changed")
    after = await _looks(tmp_path, disk, "two")
    assert [name for name in before if before[name] == after[name]] == ["00000000", "00000002"]
    assert all(0 < time < NEWEST for _, time, _ in after.values())


async def _looks(root: Path, disk: Path, name: str) -> dict[str, tuple[int, int, int]]:
    async with shown(root, {"scsi0": disk}, name) as folder:
        found = {}
        for entry in sorted(await asyncio.to_thread(os.listdir, folder / "scsi0")):
            status = await asyncio.to_thread(os.stat, folder / "scsi0" / entry)
            found[entry] = (status.st_ino, status.st_mtime_ns, status.st_size)
        return found


async def test_zeros_that_are_written_are_an_empty_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(SEGMENT) + b"x" * 512)
    async with shown(tmp_path, {"scsi0": disk}) as folder:
        sizes = {
            entry: (await asyncio.to_thread(os.stat, folder / "scsi0" / entry)).st_size
            for entry in await asyncio.to_thread(os.listdir, folder / "scsi0")
        }
    assert sizes.get("00000000", 0) == 0
    assert sizes["00000001"] == 512


async def test_segments_in_any_order_and_twice(tmp_path: Path) -> None:
    disk = image(tmp_path / "disk", 40 * SEGMENT, {number * SEGMENT: b"%d" % number for number in range(40)})
    async with shown(tmp_path, {"scsi0": disk}) as folder:
        for number in (3, 39, 0, 20, 20, 19, 38, 1):
            content = await asyncio.to_thread(read, folder / "scsi0" / f"{number:08x}")
            assert content.rstrip(b"\0") == b"%d" % number
            assert len(content) == SEGMENT


async def test_joined_is_the_disk_again(tmp_path: Path) -> None:
    size = 4 * SEGMENT + 1024
    disk = image(tmp_path / "disk", size, {5: b"first", 2 * SEGMENT: os.urandom(SEGMENT), size - 4: b"last"})
    async with (
        shown(tmp_path, {"scsi0": disk}) as folder,
        disk_views.joined(folder, {"scsi0": size}, tmp_path / "joined") as files,
    ):
        assert await asyncio.to_thread(read, files["scsi0"]) == await asyncio.to_thread(read, disk)


async def test_joined_shows_nothing_that_lies_elsewhere(tmp_path: Path) -> None:
    """What is in a repository may come from anybody: a link, a device or a pipe is no segment of a disk."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "00000000").write_bytes(b"secret")
    disk = tmp_path / "disks/scsi0"
    disk.mkdir(parents=True)
    (tmp_path / "disks/scsi1").symlink_to(secret)
    (disk / "00000000").symlink_to(secret / "00000000")
    os.mknod(disk / "00000001", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    os.mkfifo(disk / "00000002")
    (disk / "00000003").write_bytes(b"x" * (SEGMENT + 1))
    (disk / "00000004").write_bytes(b"whole")
    async with disk_views.joined(tmp_path / "disks", {"scsi0": 5 * SEGMENT}, tmp_path / "joined") as files:
        for number in range(4):
            with pytest.raises(OSError, match="Input/output error"):
                await asyncio.to_thread(piece, files["scsi0"], number)
        assert (await asyncio.to_thread(piece, files["scsi0"], 4))[:5] == b"whole"
    (tmp_path / "link").symlink_to(tmp_path / "disks")
    for folder, key in (("disks", "scsi1"), ("link", "scsi0"), ("disks", "scsi2")):
        with pytest.raises(HostFailure, match="cannot be shown as files"):
            async with disk_views.joined(tmp_path / folder, {key: SEGMENT}, tmp_path / f"{folder}-{key}"):
                pass


def piece(path: Path, number: int) -> bytes:
    """The beginning of a segment, read by itself."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4096) as page:
            os.preadv(descriptor, [page], number * SEGMENT)
            return page[:]
    finally:
        os.close(descriptor)


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    export = DiskExport("scsi0", tmp_path / "none", SEGMENT)
    with pytest.raises(HostFailure, match="cannot be shown as files"):
        async with disk_views.segments(SegmentsOf.exports([export]), tmp_path / "view"):
            pass
    assert filesystems.mount_at(tmp_path / "view") is None


async def test_what_a_killed_daemon_left_is_released(tmp_path: Path) -> None:
    disk = image(tmp_path / "disk", SEGMENT, {0: b"a"})
    async with shown(tmp_path, {"scsi0": disk}) as folder:
        disk_views.release(tmp_path)
        assert filesystems.mount_at(folder) is None


@given(st.binary(min_size=1, max_size=4096), st.binary(min_size=1, max_size=4096))
def test_a_digest_tells_contents_apart(one: bytes, other: bytes) -> None:
    assert (digest(one) is None) == (not any(one))
    if any(one) and any(other):
        assert (digest(one) == digest(bytearray(other))) == (one == other)
