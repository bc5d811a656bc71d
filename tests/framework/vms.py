"""Small VMs for tests of the engine: SeaBIOS alone, or a boot sector that echoes its serial port."""

import contextlib
import struct
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bastide.base.layout import Layout
from bastide.guest.vm_protocol import ImageFormat, PlannedDisk, VmEngine, VmPlan
from bastide.host import processes
from bastide.model.vm import VmConfig
from bastide.model.vm_disks import Drive
from framework.groups import groups_of

SECTOR = 512

# 16-bit code at 0x7c00: wait for a byte at COM1 (port 0x3f8), send it back, for ever.
_LOGIN = (
    bytes.fromhex("31c08ed8be227cac84c0741288c4bafd03eca82074fb88e0baf803eeebe9fbf4ebe2") + b"\r\nlocalhost login: \0"
)
"""Asks for a login on the serial port at each tick of the clock: what COM1 takes, byte by byte, then `sti; hlt`."""

_ECHO = bytes.fromhex(
    "fa"  # cli
    "bafd03"  # mov dx, 0x3fd
    "ec"  # in al, dx
    "a801"  # test al, 1
    "74fb"  # jz -5
    "baf803"  # mov dx, 0x3f8
    "ec"  # in al, dx
    "ee"  # out dx, al
    "ebf1"  # jmp -15
)

# Write sector after sector, from number 2048 on, by the BIOS (int 13h, extended write), for ever.
_WRITE = bytes.fromhex(
    "31c08ed88ec0bc007c"  # xor ax, ax; mov ds, ax; mov es, ax; mov sp, 0x7c00
    "be407c"  # mov si, 0x7c40 (the packet)
    "b800"  # mov ax, 0x4300
    "43"
    "b280"  # mov dl, 0x80
    "cd13"  # int 0x13
    "8306487c40"  # add word [0x7c48], 64
    "8316" "4a7c00"  # adc word [0x7c4a], 0
    "ebea"  # jmp back to mov si
)  # fmt: skip
# The same with a number that counts up in the first four bytes of each 64 sectors, and in the next four one that tells
# the boot: what is on the disk says how far the guest was, and whether it has started anew.
_COUNT = bytes.fromhex(
    "31c08ed88ec0bc007c"  # xor ax, ax; mov ds, ax; mov es, ax; mov sp, 0x7c00
    "0f3166a30480"  # rdtsc; mov [0x8004], eax
    "6631c066a30080"  # xor eax, eax; mov [0x8000], eax
    "66ff060080"  # inc dword [0x8000]
    "be407cb80043b280cd13"  # mov si, 0x7c40; mov ax, 0x4300; mov dl, 0x80; int 0x13
    "8306487c4083164a7c00"  # add word [0x7c48], 64; adc word [0x7c4a], 0
    "ebe5"  # jmp back to inc
)
_PACKET_AT = 0x40
# Size, reserved, 64 sectors, to 0000:8000, from sector 2048 on.
_PACKET = bytes.fromhex("1000 4000 0080 0000 0008000000000000")

# Wait for the power button's status, looking at each tick of the clock, and go to sleep state 5.
_POWER = bytes.fromhex(
    "31c08ed8"  # xor ax, ax; mov ds, ax
    "ba0206b80001ef"  # mov dx, 0x602; mov ax, 0x100; out dx, ax
    "ba0006"  # mov dx, 0x600
    "fbf4edf6c40174f8"  # sti; hlt; in ax, dx; test ah, 1; jz back to sti
    "ba0406b80020efebfe"  # mov dx, 0x604; mov ax, 0x2000; out dx, ax; jmp here
)

# One byte of state, at 0x8000: `i` at the serial port adds one to it, `w` writes it to sector 8 of the first disk by
# the BIOS, `r` reads it back from there, and whatever comes is answered with it.
_STATE = bytes.fromhex(
    "31c08ed88ec08ed0bc007c"  # xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 0x7c00
    "c606008000"  # mov byte [0x8000], 0
    "bafd03eca80174fb"  # mov dx, 0x3fd; in al, dx; test al, 1; jz -5
    "baf803ec"  # mov dx, 0x3f8; in al, dx
    "be507cb280"  # mov si, 0x7c50 (the packet); mov dl, 0x80
    "3c697504fe060080"  # cmp al, 'i'; jne +4; inc byte [0x8000]
    "3c777505b80043eb06"  # cmp al, 'w'; jne +5; mov ax, 0x4300; jmp int13
    "3c727504b442"  # cmp al, 'r'; jne answer; mov ah, 0x42
    "cd13"  # int 0x13
    "baf803a00080ee"  # mov dx, 0x3f8; mov al, [0x8000]; out dx, al
    "ebcd"  # jmp back to the wait
)
_STATE_PACKET = bytes.fromhex("1000 0100 0080 0000 0800000000000000")


def boot_sector(code: bytes, packet: bytes = b"") -> bytes:
    """A sector that the firmware starts."""
    sector = bytearray(code.ljust(_PACKET_AT, b"\0") + packet)
    return bytes(sector.ljust(510, b"\0")) + b"\x55\xaa"


def echo_disk(path: Path) -> Path:
    """A raw disk whose boot sector sends back what comes over the serial port."""
    path.write_bytes(boot_sector(_ECHO).ljust(1 << 20, b"\0"))
    return path


def login_disk() -> bytes:
    """A disk of 1 MiB whose boot sector asks for a login on the serial port."""
    return boot_sector(_LOGIN).ljust(1 << 20, b"\0")


def counting_disk(path: Path, size: int) -> Path:
    """A sparse raw disk whose boot sector writes one numbered block of 32 KiB after another, from 1 MiB on."""
    with path.open("wb") as file:
        file.write(boot_sector(_COUNT, _PACKET))
        file.truncate(size)
    return path


def counted(path: Path) -> list[tuple[int, int]]:
    """What such a guest has written to a raw disk: each block's number, and what tells the boot."""
    found = []
    with path.open("rb") as file:
        file.seek(2048 * SECTOR)
        while (head := file.read(64 * SECTOR)[:8]) and any(head):
            found.append(struct.unpack("<II", head))
    return found


def state_disk(path: Path) -> Path:
    """A raw disk whose boot sector has a byte of memory and a byte on the disk: see `_STATE`."""
    path.write_bytes(boot_sector(_STATE.ljust(0x50, b"\0") + _STATE_PACKET).ljust(1 << 20, b"\0"))
    return path


def writing_disk(path: Path, size: int) -> Path:
    """A sparse raw disk whose boot sector writes one sector after another."""
    with path.open("wb") as file:
        file.write(boot_sector(_WRITE, _PACKET))
        file.truncate(size)
    return path


def plan_vm(
    engine: VmEngine,
    vmid: int,
    options: Mapping[str, Any] | None = None,
    files: Mapping[str, Path] | None = None,
    *,
    taps: Mapping[int, str] | None = None,
    formats: Mapping[str, ImageFormat] | None = None,
) -> VmPlan:
    """A VM of 32 MiB with those options; `files` are the images of its drives by key."""
    config = VmConfig.parse({"memory": "32", **(options or {})})
    files, disks = files or {}, []
    for key, volume in config.volumes():
        path = files.get(key)
        size = path.stat().st_size if path is not None and path.exists() else 0
        form: ImageFormat = (formats or {}).get(key, "raw")
        cdrom = isinstance(volume, Drive) and volume.is_cdrom
        disks.append(PlannedDisk(key, volume, path, form, size, read_only=cdrom))
    return VmPlan(
        vmid=vmid,
        name=f"vm{vmid}",
        config=config,
        disks=disks,
        taps=taps or {},
        uid=engine.choose_uid(vmid, []),
        machine=engine.pin_machine(config),
        uuid=str(uuid.uuid4()),
    )


def traces(layout: Layout) -> list[str]:
    """What an instance has left on the machine: groups, mounts, processes."""
    found = [str(path) for path in groups_of(layout.instance)]
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        # A zombie is init's to bury.
        with contextlib.suppress(OSError):
            if layout.instance in path.read_text() and processes.started(int(path.parent.name)) is not None:
                found.append((path.parent / "cmdline").read_text())
    return found + [str(path) for path in (layout.runtime / "qemu").glob("*")]


def powering_off_disk(path: Path, size: int) -> Path:
    """A sparse raw disk whose boot sector waits for the power button of a `pc`, and then turns it off.

    The registers are those of the ACPI specification 4.8.3 (PM1 status, enable, control), where SeaBIOS puts them.
    """
    with path.open("wb") as file:
        file.write(boot_sector(_POWER))
        file.truncate(size)
    return path
