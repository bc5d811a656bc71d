"""Opening what a QEMU process inherits (`launch.Need`): images, taps, listening sockets, socket pairs."""

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.guest.qemu.launch import Need
from bastide.host import disk_image, tap, unix_sockets


class Opened:
    """Open descriptors by name, closed all together.

    `numbers` are QEMU's; `peers` are the other ends of socket pairs, by name.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, list[int]] = {}
        self.peers: dict[str, int] = {}

    def all(self) -> list[int]:
        """QEMU's descriptors."""
        return [number for numbers in self.numbers.values() for number in numbers]

    def close(self) -> None:
        """Let go of everything."""
        for number in [*self.all(), *self.peers.values()]:
            with contextlib.suppress(OSError):
                os.close(number)
        self.numbers.clear()
        self.peers.clear()


def open_needs(needs: Iterable[Need], place: Callable[[str], Path]) -> Opened:
    """Open everything; `place` says where a listener of that name lies. Raises HostFailure; nothing stays open then."""
    opened = Opened()
    try:
        for need in needs:
            _open(need, place, opened)
    except BaseException:
        opened.close()
        raise
    return opened


def _open(need: Need, place: Callable[[str], Path], opened: Opened) -> None:
    if need.kind == "image":
        opened.numbers[need.name] = [open_image(need)]
    elif need.kind == "copy":
        opened.numbers[need.name] = [_copy(need)]
    elif need.kind == "device":
        opened.numbers[need.name] = [_open_device(need)]
    elif need.kind == "tap":
        opened.numbers[need.name] = tap.open_tap(need.interface or "", need.count)
    elif need.kind == "vhost":
        found = tap.open_vhost(need.count)
        if found:
            opened.numbers[need.name] = found
    elif need.kind == "listener":
        opened.numbers[need.name] = [unix_sockets.listen(place(need.name)).detach()]
    else:
        ours, qemus = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        opened.peers[need.name] = ours.detach()
        opened.numbers[need.name] = [qemus.detach()]


def _copy(need: Need) -> int:
    try:
        content = Path(need.path or "").read_bytes()
    except OSError as error:
        raise HostFailure(f"cannot read {need.path} for {need.name}: {error.strerror}") from error
    descriptor = os.memfd_create(need.name, os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return descriptor


def _open_device(need: Need) -> int:
    flags = (os.O_RDONLY if need.read_only else os.O_RDWR) | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(need.path or "", flags)
    except OSError as error:
        raise HostFailure(f"cannot open {need.path} for {need.name}: {error.strerror}") from error
    if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise HostFailure(f"{need.path} is not a character device")
    return descriptor


def open_image(need: Need) -> int:
    """Open a file or device for QEMU. Raises HostFailure, also for an image that names another file than it may."""
    if need.path is None:
        raise HostFailure(f"{need.name} has no file")
    # Devices have links as names (/dev/disk/by-id); a volume that is a link is not one of ours.
    path = Path(os.path.realpath(need.path)) if need.image is None or need.image.device else need.path
    flags = (os.O_RDONLY if need.read_only else os.O_RDWR) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise HostFailure(f"cannot open {need.path} for {need.name}: {error.strerror}") from error
    try:
        # Without O_NONBLOCK the open of a pipe would have waited; QEMU expects none.
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        _check(descriptor, need)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(descriptor: int, need: Need) -> None:
    mode = os.fstat(descriptor).st_mode
    if need.image is not None and need.image.device and not stat.S_ISBLK(mode):
        raise HostFailure(f"{need.path} is not a block device")
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise HostFailure(f"{need.path} is not a disk image")
    if need.image is not None:
        disk_image.check_link(descriptor, need.image)
