"""What makes a disk boot, as bytes and text: partitions, GRUB's boot sectors, its menu. Pure.

Sources: sfdisk(8) for partition scripts; UEFI Specification 13.3 for the removable path; GRUB's `boot.S` and
`diskboot.S` for the fields in its boot sectors, and its manual for the commands in a menu.
"""

import struct
from dataclasses import dataclass

from bastide.base.errors import HostFailure
from bastide.base.units import MIB

SECTOR = 512

_KERNEL_SECTOR = 0x5C  # boot.img: where its next stage lies, in sectors of the disk
_DRIVE_CHECK = 0x66  # boot.img: a jump that is only meant for floppies
_DISK_SIGNATURE = 0x1B8  # from here on the sector belongs to the partition table
_BLOCK_LIST = SECTOR - 12  # core.img: start, length and segment of what follows its first sector
_LOAD_SEGMENT = 0x820

CONSOLE = "console=tty0 console=ttyS0,115200 consoleblank=0"
"""Kernel parameters: messages on the screen and on the first serial port, which is /dev/console and gets a login."""


@dataclass(frozen=True, slots=True)
class Part:
    """A partition: its number, the first byte, its size in bytes, its GPT type and name."""

    number: int
    start: int
    size: int
    type: str
    name: str


def layout(size: int) -> dict[str, Part]:
    """The partitions `root`, `bios` and `esp` of a disk of `size` bytes.

    The root partition is the last on the disk, so that it grows with it, and has the number that people expect.
    """
    root = 128 * MIB
    return {
        "root": Part(1, root, size - root - MIB, "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "root"),
        "bios": Part(14, MIB, 3 * MIB, "21686148-6449-6E6F-744E-656564454649", "bios"),
        "esp": Part(15, 4 * MIB, 124 * MIB, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "esp"),
    }


def partition_script(parts: dict[str, Part]) -> str:
    """What sfdisk reads to make the partitions."""
    lines = ["label: gpt", "first-lba: 34"]
    for part in parts.values():
        place = f"start={part.start // SECTOR}, size={part.size // SECTOR}"
        lines.append(f"{part.number} : {place}, type={part.type}, name={part.name}")
    return "\n".join(lines) + "\n"


def boot_sector(boot: bytes, mbr: bytes, core_at: int) -> bytes:
    """The first sector of the disk: GRUB's `boot.img` with the partition table of `mbr`, the next stage at `core_at`.

    `core_at` is in bytes. Raises HostFailure when `boot` is not of the known form.
    """
    if len(boot) != SECTOR or boot[-2:] != b"\x55\xaa" or len(mbr) != SECTOR:
        raise HostFailure("GRUB's boot.img is not of the known form")
    sector = bytearray(boot)
    struct.pack_into("<Q", sector, _KERNEL_SECTOR, core_at // SECTOR)
    sector[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"
    sector[_DISK_SIGNATURE:] = mbr[_DISK_SIGNATURE:]
    return bytes(sector)


def boot_core(core: bytes, at: int, room: int) -> bytes:
    """GRUB's `core.img` as it lies at the byte `at` of the disk. Raises HostFailure when it is longer than `room`."""
    if not SECTOR < len(core) <= room:
        raise HostFailure(f"GRUB's core.img has {len(core)} bytes, and there is room for {room}")
    image = bytearray(core)
    sectors = -(-(len(core) - SECTOR) // SECTOR)
    struct.pack_into("<QHH", image, _BLOCK_LIST, at // SECTOR + 1, sectors, _LOAD_SEGMENT)
    return bytes(image)


def menu(title: str, uuid: str, release: str) -> str:
    """GRUB's menu: the kernel `release` on the file system `uuid`, at once. `update-grub` in the guest replaces it."""
    return (
        "set default=0\nset timeout=0\n"
        f"search --no-floppy --fs-uuid --set=root {uuid}\n"
        f"menuentry '{title}' {{\n"
        f"\tlinux /boot/vmlinuz-{release} root=UUID={uuid} ro {CONSOLE}\n"
        f"\tinitrd /boot/initrd.img-{release}\n"
        "}\n"
    )


def esp_menu(uuid: str) -> str:
    """The menu on the ESP, where the signed GRUB looks for one: it goes on to the one on the root file system."""
    return (
        f"search.fs_uuid {uuid} root\n"
        "set prefix=($root)'/boot/grub'\n"
        "configfile $prefix/grub.cfg\n"
    )  # fmt: skip


def fstab(uuid: str, esp_serial: str) -> str:
    """The guest's file systems. `esp_serial` is eight hexadecimal digits.

    The ESP is mounted when something looks into it: only an upgrade of GRUB does, and no boot has to wait for it.
    """
    esp = f"{esp_serial[:4]}-{esp_serial[4:]}".upper()
    return (
        f"UUID={uuid} / ext4 discard,errors=remount-ro,x-systemd.growfs 0 1\n"
        f"UUID={esp} /boot/efi vfat umask=0077,noauto,nofail,x-systemd.automount 0 0\n"
    )
