"""Loop devices by system calls: a mount(8) of its own for each would take longer than the mount.

Sources: loop(4), /usr/include/linux/loop.h, mount(2).
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

from bastide.host import syscalls

_CTL_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
_SET_CAPACITY = 0x4C07
_READ_ONLY, _AUTOCLEAR = 1, 4
# struct loop_config: the file, the block size (0: the kernel's choice), then struct loop_info64, then eight words.
_CONFIG = struct.Struct("=II 5Q 4I 64s 64s 32s 2Q 8Q")
_TRIES = 64


def mount(image: Path, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount the file system in an image through a loop device, which frees itself when it is unmounted.

    `flags` are mount(2)'s; with MS_RDONLY the image is opened to be read only. The image is not followed when it is a
    link. Raises OSError.
    """
    read_only = bool(flags & syscalls.MS_RDONLY)
    file = os.open(image, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        device, path = _attach(file, image, _AUTOCLEAR | (_READ_ONLY if read_only else 0))
    finally:
        os.close(file)
    try:
        syscalls.mount(path, target, kind, flags, options)
    finally:
        # Now the mount alone holds it, or nobody does: then it is free again.
        os.close(device)


def set_capacity(path: str) -> None:
    """Let the loop device with that path have the size that its file has by now. Raises OSError."""
    device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _SET_CAPACITY)
    finally:
        os.close(device)


def image_below(device: int) -> Path | None:
    """The file of the loop device with that number (`st_dev` of what is mounted from it), None for another device.

    See Documentation/ABI/testing/sysfs-block-loop.
    """
    try:
        text = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/loop/backing_file").read_text()
    except OSError:
        return None
    return Path(text.rstrip("\n"))


def _attach(file: int, image: Path, flags: int) -> tuple[int, str]:
    """An open loop device over a file, and its path."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _CTL_GET_FREE)
            path = f"/dev/loop{number}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            config = _CONFIG.pack(
                file, 0, *(0,) * 5, number, 0, 0, flags, os.fsencode(image)[:63], b"", b"", *(0,) * 10
            )
            try:
                fcntl.ioctl(device, _CONFIGURE, config)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # else another process was faster
                    raise
                continue
            return device, path
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device is free")
