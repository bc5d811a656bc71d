"""Building a bootable disk image of a Linux distribution without a loop device or a mount.

mmdebstrap makes the root file system as a folder, mkfs.ext4 copies it into its partition, mtools fill the ESP, and
GRUB's boot sectors go where its installer would put them. The disk boots by BIOS and by UEFI, with Secure Boot where
the distribution has signed programs. Everything dies with the daemon; what is left are files in one folder.

Sources: mkfs.ext4(8) for `-d` and `offset`, mtools(1) for `IMAGE@@OFFSET`, qemu-img(1).
"""

import asyncio
import os
import re
import secrets
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from bastide.base.errors import HostFailure, NoSpace, RunError
from bastide.base.units import GIB
from bastide.host import boot_disk, mmdebstrap
from bastide.host.filesystems import make_folder, translated
from bastide.host.mmdebstrap import Recipe
from bastide.host.run import run

DISK_SIZE = 3 * GIB
"""Bytes of a built disk; it takes only what is in it, and grows when a VM's disk is larger."""

_MORTAL = ("setpriv", "--pdeathsig", "KILL", "--")
_TOOLS = ("mmdebstrap", "mkfs.ext4", "sfdisk", "mformat", "mcopy", "qemu-img")
_DEADLINE = 1800.0
_KERNEL = re.compile(r"vmlinuz-([A-Za-z0-9.+~_-]+)", re.ASCII)
# The guest's own GRUB must read what this host's mkfs.ext4 makes, which may be years newer.
_FEATURES = "^metadata_csum_seed,^orphan_file"


async def build(recipe: Recipe, target: Path, log: Callable[[str], None], *, title: str) -> dict[str, str]:
    """Build `target` (a new compressed qcow2 file) and return the packages in it, {name: version}.

    The recipe's hooks leave GRUB for BIOS in `/boot/grub/i386-pc` (`boot.img`, `core.img`) and the ESP's contents in
    `/boot/efi`. `log` gets lines with a percentage. Works in the folder `target` + `.build`, which is removed in the
    end; the caller removes `target` after a failure. Raises NotSupported, NoSpace, RunError, HostFailure.
    """
    mmdebstrap.need(*_TOOLS)
    folder = target.with_name(f"{target.name}.build")
    make_folder(folder, 0o700)
    try:
        root, packages = await mmdebstrap.unpack(recipe, folder, log)
        disk = folder / "disk"
        log(" 92% making the disk")
        await _make_disk(root, disk, title)
        log(" 95% compressing the disk")
        # zstd is four times as fast as zlib here, and every QEMU since 5.1 reads it.
        compressed = ("-c", "-o", "compression_type=zstd")
        await _tool(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *compressed, str(disk), str(target)])
        return packages
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _make_disk(root: Path, disk: Path, title: str) -> None:
    parts = boot_disk.layout(DISK_SIZE)
    root_uuid, esp_serial = str(uuid.uuid4()), secrets.token_hex(4)
    with translated("make the disk"), disk.open("xb") as file:
        file.truncate(DISK_SIZE)
    script = boot_disk.partition_script(parts).encode()
    await _tool(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(disk)], script)
    await asyncio.to_thread(_finish_root, root, root_uuid, esp_serial, title)
    await _make_esp(root / "boot/efi", disk, parts["esp"], esp_serial)
    await asyncio.to_thread(_write_boot_sectors, root / "boot/grub/i386-pc", disk, parts["bios"])
    part = parts["root"]
    options = f"offset={part.start},assume_storage_prezeroed=1"
    argv = ["mkfs.ext4", "-q", "-F", "-U", root_uuid, "-O", _FEATURES, "-E", options, "-d", str(root)]
    await _tool([*argv, str(disk), f"{part.size // 1024}k"])


def _finish_root(root: Path, root_uuid: str, esp_serial: str, title: str) -> None:
    """Write what names the new file systems. No path here can be a link: it is our hooks that made them."""
    kernels = [match[1] for name in os.listdir(root / "boot") if (match := _KERNEL.fullmatch(name))]
    if len(kernels) != 1 or not (root / "boot" / f"initrd.img-{kernels[0]}").exists():
        raise HostFailure(f"one kernel was expected in the image, with its initrd, not {len(kernels)}")
    (root / "etc/fstab").write_text(boot_disk.fstab(root_uuid, esp_serial))
    (root / "boot/grub/grub.cfg").write_text(boot_disk.menu(title, root_uuid, kernels[0]))
    for folder in (root / "boot/efi/EFI").iterdir():
        if folder.name != "BOOT":
            (folder / "grub.cfg").write_text(boot_disk.esp_menu(root_uuid))


async def _make_esp(source: Path, disk: Path, part: boot_disk.Part, serial: str) -> None:
    image = f"{disk}@@{part.start}"
    sectors = part.size // boot_disk.SECTOR
    await _tool(["mformat", "-i", image, "-T", str(sectors), "-h", "64", "-s", "32", "-N", serial, "-v", "ESP", "::"])
    await _tool(["mcopy", "-i", image, "-s", *sorted(map(str, source.iterdir())), "::"])
    for entry in source.iterdir():
        await asyncio.to_thread(shutil.rmtree, entry)


def _write_boot_sectors(grub: Path, disk: Path, part: boot_disk.Part) -> None:
    with disk.open("r+b") as file:
        mbr = file.read(boot_disk.SECTOR)
        sector = boot_disk.boot_sector((grub / "boot.img").read_bytes(), mbr, part.start)
        core = boot_disk.boot_core((grub / "core.img").read_bytes(), part.start, part.size)
        file.seek(0)
        file.write(sector)
        file.seek(part.start)
        file.write(core)


async def _tool(argv: Sequence[str], given: bytes | None = None) -> None:
    try:
        await run([*_MORTAL, *argv], input=given, env={"MTOOLS_SKIP_CHECK": "1"}, deadline=_DEADLINE)
    except RunError as error:
        if "No space left on device" in error.stderr or "Disk full" in error.stderr:
            raise NoSpace("the disk is full: the image could not be built") from error
        raise RunError(argv, error.code, error.stderr) from None
