"""Growing ext4 in images, through the kernel that has them mounted."""

import asyncio
import os
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure, NotSupported
from bastide.base.units import MIB
from bastide.host import filesystems

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="loop devices are made by root"),
]


@pytest.fixture
async def mounted(tmp_path: Path) -> tuple[Path, Path]:
    """An image of 8 MiB with an ext4, and where it is to be mounted."""
    image, target = tmp_path / "vm-100-disk-0.raw", tmp_path / "mnt"
    await filesystems.make_ext4(image, 8 * MIB)
    target.mkdir()
    return image, target


@pytest.fixture
def resized(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the kernel is asked for: bytes, and the size of the device then. Not every kernel lets a test grow one."""
    asked: list[tuple[int, int]] = []

    def told(target: Path, size: int) -> None:
        asked.append((size, _device_size(target)))

    monkeypatch.setattr(filesystems, "_resize_ext4", told)
    return asked


def _device_size(target: Path) -> int:
    mounted = filesystems.mount_at(target)
    assert mounted is not None
    with open(mounted.source, "rb") as device:
        return device.seek(0, os.SEEK_END)


async def test_a_mounted_one_grows_where_it_is_mounted(mounted, resized):
    image, target = mounted
    await filesystems.mount_loop(image, target)
    try:
        await filesystems.grow_ext4(image, 12 * MIB)
    finally:
        await filesystems.unmount(target)
    assert resized == [(12 * MIB, 12 * MIB)]
    assert image.stat().st_size == 12 * MIB


async def test_a_mounted_one_has_grown_or_is_as_it_was(mounted):
    """Without CAP_SYS_RESOURCE over the kernel itself it must not grow: then its image and device are as they were."""
    image, target = mounted
    await filesystems.mount_loop(image, target)
    grown = True
    try:
        before = filesystems.space(target)[0]
        try:
            await filesystems.grow_ext4(image, 12 * MIB)
        except NotSupported:
            grown = False
        assert (filesystems.space(target)[0] > before) == grown
        assert _device_size(target) == (12 if grown else 8) * MIB
    finally:
        await filesystems.unmount(target)
    assert image.stat().st_size == (12 if grown else 8) * MIB


async def test_one_that_is_mounted_elsewhere_is_left_alone(mounted, monkeypatch):
    image, _ = mounted
    monkeypatch.setattr(filesystems, "loop_devices", lambda _image: ["/dev/loop99999"])
    monkeypatch.setattr(filesystems, "_RELEASE_DEADLINE", 0.1)
    with pytest.raises(HostFailure, match=r"vm-100-disk-0\.raw is in use by /dev/loop99999"):
        await filesystems.grow_ext4(image, 12 * MIB)
    assert image.stat().st_size == 8 * MIB


async def test_a_device_that_somebody_looks_at_is_waited_for(mounted):
    """Whoever lists disks holds the device of one that was unmounted for a moment."""
    image, target = mounted
    await filesystems.mount_loop(image, target)
    (device,) = filesystems.loop_devices(image)
    looking = os.open(device, os.O_RDONLY)
    await filesystems.unmount(target)
    assert filesystems.loop_devices(image) == [device]
    growing = asyncio.create_task(filesystems.grow_ext4(image, 12 * MIB))
    await asyncio.sleep(0.2)
    assert not growing.done()
    os.close(looking)
    await growing
    assert image.stat().st_size == 12 * MIB
