"""Raw disks written through a descriptor: files and block devices, up to what must stay free."""

import os
import subprocess
from pathlib import Path

import pytest

from bastide.base.units import MIB
from bastide.host.raw_disk import RawDisk

JUNK = b"junk" * (MIB // 4)


def written(path: Path) -> bytes:
    """Write here and there; what is to be seen then."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        disk = RawDisk(descriptor)
        assert disk.size == 8 * MIB
        disk.write(100, b"x" * 5000)
        disk.write_zeroes(MIB, 2 * MIB)
        disk.write_zeroes(5 * MIB + 1, 1000)
        disk.write(8 * MIB - 3, b"end")
        disk.flush()
        for offset, length in ((8 * MIB - 1, 2), (-1, 1)):
            with pytest.raises(ValueError, match="of a disk of 8388608 bytes"):
                disk.write(offset, bytes(length))
            with pytest.raises(ValueError, match="of a disk of 8388608 bytes"):
                disk.write_zeroes(offset, length)
    finally:
        os.close(descriptor)
    wanted = bytearray(8 * JUNK)
    wanted[100:5100] = b"x" * 5000
    wanted[MIB : 3 * MIB] = bytes(2 * MIB)
    wanted[5 * MIB + 1 : 5 * MIB + 1001] = bytes(1000)
    wanted[-3:] = b"end"
    return bytes(wanted)


def test_a_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(8 * JUNK)
    assert written(disk) == disk.read_bytes()
    assert disk.stat().st_blocks * 512 < 7 * MIB


@pytest.mark.system
def test_a_block_device(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(8 * JUNK)
    done = subprocess.run(["losetup", "--show", "-f", disk], check=True, capture_output=True, text=True)
    try:
        assert written(Path(done.stdout.strip())) == Path(done.stdout.strip()).read_bytes()
    finally:
        subprocess.run(["losetup", "-d", done.stdout.strip()], check=True)


@pytest.mark.system
def test_room_is_left_for_others(tmp_path: Path) -> None:
    small, disk = tmp_path / "small", tmp_path / "small/disk"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", small], check=True)
    try:
        disk.touch()
        os.truncate(disk, 200 * MIB)
        (small / "other").write_bytes(bytes(61 * MIB))
        with disk.open("r+b") as file, pytest.raises(OSError, match="No space left on device"):
            RawDisk(file.fileno()).write(0, b"x")
        assert disk.stat().st_blocks == 0
    finally:
        subprocess.run(["umount", small], check=True)
