"""Images that build on others, and snapshots inside images: qemu-img and the checks before it."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bastide.base.errors import AlreadyExists, HostFailure, NotFound
from bastide.base.units import MIB
from bastide.host import disk_headers, disk_image, qemu_img
from bastide.host.disk_headers import Window
from bastide.host.run import run
from bastide.model.storage import DiskImage
from framework.evil_images import qcow2

pytestmark = [pytest.mark.anyio, pytest.mark.system]


async def chain(folder: Path) -> tuple[DiskImage, bytes]:
    """A raw base, an overlay of it, and a larger one of that; and what a guest sees, without the larger one's end."""
    content = os.urandom(MIB)
    (folder / "100").mkdir()
    (folder / "101").mkdir()
    (folder / "100/base.raw").write_bytes(content)
    middle, top = folder / "100/middle.qcow2", folder / "101/top.qcow2"
    await qemu_img.create_overlay(middle, "base.raw", "raw", MIB)
    await write(middle, "a" * 65536, 0)
    await qemu_img.create_overlay(top, "../100/middle.qcow2", "qcow2", 2 * MIB)
    await write(top, "b" * 65536, 65536)
    base = DiskImage(folder / "100/base.raw", "raw")
    image = DiskImage(top, "qcow2", backing=DiskImage(middle, "qcow2", backing=base))
    return image, b"a" * 65536 + b"b" * 65536 + content[2 * 65536 :]


async def write(path: Path, text: str, at: int) -> None:
    pattern = f"write -q -P {ord(text[0])} {at} {len(text)}"
    await run(["qemu-io", "-f", "qcow2", "-c", pattern, str(path)])


async def test_a_chain_is_copied_whole(tmp_path: Path) -> None:
    image, seen = await chain(tmp_path)
    await qemu_img.convert(image, "qcow2", tmp_path / "copy", "raw")
    assert (tmp_path / "copy").read_bytes() == seen + bytes(MIB)
    with pytest.raises(HostFailure, match="builds on another file"):
        await qemu_img.convert(image.path, "qcow2", tmp_path / "other", "raw")
    await qemu_img.convert(image, "qcow2", tmp_path / "slow", "qcow2", rate=100 * MIB)
    await qemu_img.convert(tmp_path / "slow", "qcow2", tmp_path / "again", "raw")
    assert (tmp_path / "again").read_bytes() == seen + bytes(MIB)


async def test_a_chain_is_copied_onto_a_device(tmp_path: Path) -> None:
    image, seen = await chain(tmp_path)
    (tmp_path / "disk").write_bytes(b"x" * 3 * MIB)
    device = Path((await run(["losetup", "--find", "--show", str(tmp_path / "disk")])).text.strip())
    try:
        await qemu_img.convert_onto(image, "qcow2", device)
        assert device.read_bytes()[: 2 * MIB] == seen + bytes(MIB)
        await qemu_img.convert(DiskImage(device, "raw", device=True), "raw", tmp_path / "back", "raw")
        assert (tmp_path / "back").read_bytes()[: 2 * MIB] == seen + bytes(MIB)
    finally:
        await run(["losetup", "--detach", str(device)])


@pytest.mark.parametrize("named", ["/etc/shadow", "../100/other.qcow2", "json:{}", "../100/middle.qcow2\0/etc/shadow"])
async def test_a_link_that_leads_elsewhere_is_refused(tmp_path: Path, named: str) -> None:
    image, _ = await chain(tmp_path)
    image.path.write_bytes(qcow2(backing=named.encode()))
    with pytest.raises(HostFailure, match="builds on another file"), disk_image.opened_chain(image):
        pass
    with pytest.raises(HostFailure, match="builds on another file"):
        await qemu_img.convert(image, "qcow2", tmp_path / "copy", "raw")
    assert not (tmp_path / "copy").exists()


async def test_every_link_of_a_chain_is_checked(tmp_path: Path) -> None:
    image, _ = await chain(tmp_path)
    (tmp_path / "100/middle.qcow2").write_bytes(qcow2(backing=b"/etc/shadow"))
    with pytest.raises(HostFailure, match="builds on another file"), disk_image.opened_chain(image):
        pass
    (tmp_path / "100/middle.qcow2").write_bytes(qcow2())
    with pytest.raises(HostFailure, match=r"does not build on 'base\.raw'"), disk_image.opened_chain(image):
        pass
    (tmp_path / "100/middle.qcow2").unlink()
    (tmp_path / "100/middle.qcow2").symlink_to("/etc/passwd")
    with pytest.raises(HostFailure), disk_image.opened_chain(image):
        pass


async def test_only_the_first_of_a_chain_is_written(tmp_path: Path) -> None:
    image, _ = await chain(tmp_path)
    with disk_image.opened_chain(image, writable=True) as numbers:
        assert len(numbers) == 3
        os.pwrite(numbers[0], b"Q", 0)
        for number in numbers[1:]:
            with pytest.raises(OSError, match="Bad file"):
                os.write(number, b"x")


async def test_snapshots_lie_inside(tmp_path: Path) -> None:
    """The base is neither opened nor needed for them: it is gone meanwhile."""
    image, seen = await chain(tmp_path)
    (tmp_path / "100/base.raw").rename(tmp_path / "away")
    await qemu_img.snapshot_create(image.path, "one")
    with pytest.raises(AlreadyExists):
        await qemu_img.snapshot_create(image.path, "one")
    await qemu_img.resize(image.path, "qcow2", 3 * MIB)
    await qemu_img.snapshot_create(image.path, "two")
    assert await qemu_img.snapshot_list(image.path) == ["one", "two"]
    (tmp_path / "away").rename(tmp_path / "100/base.raw")
    await run(["qemu-io", "-c", "write -q -P 120 0 1M", str(image.path)])
    kept = DiskImage(image.path, "qcow2", backing=image.backing, inside="one")
    await qemu_img.convert(kept, "qcow2", tmp_path / "copy", "raw")
    assert (tmp_path / "copy").read_bytes()[:MIB] == seen
    await qemu_img.snapshot_apply(image.path, "one")
    await qemu_img.snapshot_apply(image.path, "one")
    assert disk_image.inspect(image.path, "qcow2").virtual_size == 2 * MIB
    await qemu_img.convert(image, "qcow2", tmp_path / "back", "raw")
    assert (tmp_path / "back").read_bytes() == seen + bytes(MIB)
    await qemu_img.snapshot_delete(image.path, "one")
    await qemu_img.snapshot_delete(image.path, "one")
    with pytest.raises(NotFound):
        await qemu_img.snapshot_apply(image.path, "one")
    assert await qemu_img.snapshot_list(image.path) == ["two"]
    assert disk_image.check_link(image.path, image).backing == "../100/middle.qcow2"
    for name in ("a b", "x,snapshot.id=1", "-l", "1"):
        with pytest.raises(HostFailure):
            await qemu_img.snapshot_create(image.path, name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8), cut=st.integers(0, 400))
def test_a_faulty_table_of_snapshots_is_refused_and_nothing_else(
    made: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    at = int.from_bytes(made[64:72])
    data = bytearray(made[: len(made) - cut])
    for place, value in changes:
        if at + place < len(data):
            data[at + place] = value
    with contextlib.suppress(HostFailure):
        names = disk_headers.snapshots(Window(len(data), lambda offset, size: bytes(data[offset : offset + size])))
        assert len(names) == 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    image = tmp_path_factory.mktemp("table") / "image"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1M"], check=True)
    for name in ("one", "two"):
        subprocess.run(["qemu-img", "snapshot", "-c", name, str(image)], check=True)
    return image.read_bytes()
