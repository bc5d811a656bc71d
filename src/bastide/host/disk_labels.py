"""Partition tables and signatures on this machine's disks: made, and wiped away.

Whoever acts holds the disk open with O_EXCL meanwhile, which the kernel refuses while anything of the disk is mounted,
swapped to, or part of a mapped device (open(2)). Sources: sfdisk(8), partx(8), linux/fs.h for the ioctl.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator, Sequence

from bastide.base.errors import HostFailure, WrongState
from bastide.host.block_devices import BlockDevice
from bastide.host.filesystems import failure
from bastide.host.run import run

_BLKDISCARD = 0x1277
_ENDS = 16 << 20
"""How much of either end is zeroed: every label and superblock that libblkid knows lies there but copies of some."""

LINUX, LVM, ZFS = "linux", "lvm", "6A898CC3-1DD2-11B2-99A6-080020736631"
"""Types of partitions as sfdisk knows them."""


@contextlib.contextmanager
def held(device: BlockDevice) -> Iterator[int]:
    """Hold a device for oneself alone while entered; its descriptor.

    Raises WrongState when something uses it, or when another device lies at its path by now.
    """
    try:
        descriptor = os.open(device.path, os.O_RDWR | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise WrongState(f"{device.path} is in use on this host") from None
        raise failure(error, f"open {device.path}") from error
    try:
        found = os.fstat(descriptor)
        number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
        if not stat.S_ISBLK(found.st_mode) or number != device.number:
            raise WrongState(f"{device.path} is another device now than a moment ago")
        yield descriptor
    finally:
        os.close(descriptor)


async def wipe(descriptor: int, device: BlockDevice) -> None:
    """Discard a held device's content where it can, and zero both ends of it and of its partitions.

    The kernel forgets its partitions then. Raises HostFailure.
    """
    await asyncio.to_thread(_wipe, descriptor, device)
    if device.partitions:
        await run(["partx", "--delete", "--", device.path], deadline=120)


def _wipe(descriptor: int, device: BlockDevice) -> None:
    # What a discarded block reads as is the device's choice: the ends are zeroed in any case.
    with contextlib.suppress(OSError):
        fcntl.ioctl(descriptor, _BLKDISCARD, struct.pack("QQ", 0, device.size))
    try:
        for start, size in [(0, device.size), *_extents(device)]:
            _zero(descriptor, start, min(_ENDS, size))
            _zero(descriptor, start + max(0, size - _ENDS), min(_ENDS, size))
        os.fsync(descriptor)
    except OSError as error:
        raise failure(error, f"wipe {device.path}") from error


def _extents(device: BlockDevice) -> Iterator[tuple[int, int]]:
    """Where a disk's partitions lie on it, in bytes."""
    for part in device.partitions:
        with contextlib.suppress(OSError, ValueError):
            folder = f"/sys/dev/block/{part.number}"
            with open(f"{folder}/start") as start, open(f"{folder}/size") as size:
                yield int(start.read()) * 512, int(size.read()) * 512


def _zero(descriptor: int, start: int, size: int) -> None:
    block = bytes(1 << 20)
    while size > 0:
        done = os.pwrite(descriptor, block[: min(size, len(block))], start)
        start, size = start + done, size - done


async def make_gpt(device: BlockDevice, uuid: str | None = None, part: str | None = None) -> None:
    """Write an empty GPT to a held disk, or one with a single partition of a type of sfdisk's. Raises HostFailure."""
    await run(gpt_argv(device.path), input=gpt_script(uuid, part), deadline=120)
    if part is not None:
        # Not by letting the kernel read the table: it may know no GPT, or be told not to look (loop devices).
        await run(["partx", "--update", "--", device.path], deadline=120)


def gpt_argv(path: str) -> list[str]:
    """The command that writes a table; it reads its script from standard input."""
    # The caller holds the disk, which sfdisk would take for its being in use.
    return [
        "sfdisk",
        "--quiet",
        "--no-reread",
        "--lock=no",
        "--wipe",
        "always",
        "--wipe-partitions",
        "always",
        "--",
        path,
    ]


def gpt_script(uuid: str | None, part: str | None) -> bytes:
    """The script: a label, and a partition over all of the disk when it has a type."""
    lines = ["label: gpt", *([f"label-id: {uuid}"] if uuid else []), *([f"type={part}"] if part else [])]
    return "".join(f"{line}\n" for line in lines).encode()


def partition_path(disk: str, number: int = 1) -> str:
    """The name of a disk's partition: `/dev/sda1`, `/dev/nvme0n1p1`."""
    return f"{disk}{'p' if disk[-1:].isdigit() else ''}{number}"


async def make_filesystem(path: str, kind: str, uuid: str) -> None:
    """Make an ext4 or XFS file system with that UUID on a device. The tool refuses one that is in use.

    Raises HostFailure, NotSupported when the tool is not installed.
    """
    await run(mkfs_argv(path, kind, uuid), deadline=3600)


def mkfs_argv(path: str, kind: str, uuid: str) -> list[str]:
    """The command that makes a file system."""
    if kind == "xfs":
        return ["mkfs.xfs", "-q", "-m", f"uuid={uuid}", "--", path]
    return ["mkfs.ext4", "-q", "-U", uuid, "--", path]


def signatures_gone(known: Sequence[BlockDevice], path: str) -> None:
    """Raise HostFailure when a device still shows what it was wiped of."""
    left = next((device for device in known if device.path == path), None)
    if left is not None and left.used is not None:
        raise HostFailure(f"{path} still shows as {left.used} after it was wiped")
