"""What makes a disk boot: partitions that do not overlap, boot sectors that point at each other, menus."""

import itertools
import struct

import pytest

from bastide.base.errors import HostFailure
from bastide.base.units import GIB, MIB
from bastide.host import boot_disk

UUID = "61ef9e18-d087-489f-998e-a29760250113"


def test_partitions_do_not_overlap_and_the_root_is_the_last() -> None:
    parts = boot_disk.layout(3 * GIB)
    by_start = sorted(parts.values(), key=lambda part: part.start)
    assert by_start[0].start >= MIB
    for first, second in itertools.pairwise(by_start):
        assert first.start + first.size <= second.start
    assert by_start[-1] is parts["root"]
    assert 3 * GIB - MIB <= parts["root"].start + parts["root"].size <= 3 * GIB - 34 * 512
    script = boot_disk.partition_script(parts).splitlines()
    assert script[0] == "label: gpt"
    assert script[2].startswith("1 : start=262144, size=6027264, type=0FC63DAF-")
    assert len(script) == 5


def test_the_boot_sector_points_at_the_core_and_keeps_the_partition_table() -> None:
    boot = bytes(510) + b"\x55\xaa"
    mbr = bytes(range(256)) + bytes(range(254)) + b"\x55\xaa"
    sector = boot_disk.boot_sector(boot, mbr, MIB)
    assert len(sector) == 512
    assert struct.unpack_from("<Q", sector, 0x5C)[0] == 2048
    assert sector[0x66:0x68] == b"\x90\x90"
    assert sector[0x1B8:] == mbr[0x1B8:]
    assert sector[:0x5C] == boot[:0x5C]


@pytest.mark.parametrize(
    ("boot", "mbr"), [(b"", bytes(512)), (bytes(512), bytes(512)), (bytes(510) + b"\x55\xaa", b"")]
)
def test_a_strange_boot_sector_is_refused(boot: bytes, mbr: bytes) -> None:
    with pytest.raises(HostFailure):
        boot_disk.boot_sector(boot, mbr, MIB)


@pytest.mark.parametrize(("size", "sectors"), [(513, 1), (1024, 1), (1025, 2), (512 + 60 * 512, 60)])
def test_the_core_knows_where_its_rest_lies(size: int, sectors: int) -> None:
    core = boot_disk.boot_core(bytes(size), MIB, 3 * MIB)
    assert struct.unpack_from("<QHH", core, 500) == (2049, sectors, 0x820)
    assert len(core) == size


@pytest.mark.parametrize("size", [0, 512, 3 * MIB + 1])
def test_a_core_that_does_not_fit_is_refused(size: int) -> None:
    with pytest.raises(HostFailure, match=r"core\.img"):
        boot_disk.boot_core(bytes(size), MIB, 3 * MIB)


def test_menus_and_fstab_name_the_file_systems() -> None:
    menu = boot_disk.menu("Debian 12", UUID, "6.1.0-1-amd64")
    assert f"linux /boot/vmlinuz-6.1.0-1-amd64 root=UUID={UUID} ro console=tty0 console=ttyS0,115200" in menu
    assert "initrd /boot/initrd.img-6.1.0-1-amd64" in menu
    assert "set timeout=0" in menu
    assert f"search.fs_uuid {UUID} root" in boot_disk.esp_menu(UUID)
    fstab = boot_disk.fstab(UUID, "0a1b2c3d")
    assert f"UUID={UUID} / ext4" in fstab
    assert "UUID=0A1B-2C3D /boot/efi vfat" in fstab
