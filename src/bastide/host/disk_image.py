"""Disk images from outside and disks of ours: what a header says, before anything is opened that acts on it.

An image can name other files: a backing file, a data file, extents. QEMU would open them with its own rights, so that
whoever brings an image could be shown a file of the host's. `check` is for what comes through a door: an image must be
what it claims and hold all its data itself. `check_chain` is for a volume of ours before a guest gets it: a raw one is
never looked into, because its guest may write there what it likes. `check_link` and `opened_chain` are for a volume
that builds on others: each header has to name the very file that is opened next.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host import disk_headers
from bastide.host.disk_headers import MAX_VIRTUAL_SIZE, ImageInfo, Window
from bastide.host.filesystems import translated
from bastide.model.storage import DiskImage

__all__ = [
    "MAX_VIRTUAL_SIZE",
    "ImageInfo",
    "check",
    "check_chain",
    "check_link",
    "detect",
    "inspect",
    "links",
    "opened",
    "opened_chain",
    "snapshots",
]

_COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}


def detect(source: Path | int) -> str | None:
    """The format that an image's first bytes claim (`qcow2`, `qed`, `luks` ...), or None. For doors, never for volumes.

    Here and below, `source` is a path, whose last part is not followed when it is a link, or an open descriptor.
    Raises HostFailure when it cannot be read.
    """
    with _window(source) as window:
        return disk_headers.detect(window)


def inspect(source: Path | int, form: str) -> ImageInfo:
    """What the header of an image of that format says; for `raw`, its length. Raises HostFailure."""
    with _window(source) as window:
        return disk_headers.read(window, form)


def check(source: Path | int, form: str) -> ImageInfo:
    """Make sure that an image from outside is of that format and holds its data itself.

    Raises HostFailure that says why it is refused: another format, a backing or data file, a parent, an impossible
    size.
    """
    with _window(source) as window:
        claimed = disk_headers.detect(window)
        if claimed is not None and claimed != form:
            raise HostFailure(f"the image claims to be {form}, but has the header of {claimed}")
        if form == "raw":
            _refuse_compressed(window)
        info = disk_headers.read(window, form)
    _refuse_references(info)
    if info.virtual_size <= 0:
        raise HostFailure(f"the {form} image is empty")
    return info


def check_chain(source: Path | int, form: str, allowed: Callable[[str], bool] = lambda _backing: False) -> ImageInfo:
    """Make sure that a volume of ours may be opened as that format; `allowed` says which backing file is ours.

    A raw volume stays raw, whatever its guest wrote into it. Raises HostFailure.
    """
    info = inspect(source, form)
    if info.backing is not None and not info.data_file and info.foreign is None and allowed(info.backing):
        return info
    _refuse_references(info)
    return info


def check_link(source: Path | int, image: DiskImage) -> ImageInfo:
    """Make sure that an open volume is of its format, and that its header names `image.backing` and no other file.

    A relative name counts from the image's own folder. Raises HostFailure.
    """
    backing = image.backing
    if backing is None:
        return check_chain(source, image.format)
    info = check_chain(source, image.format, lambda text: _is_named(image.path, text, backing.path))
    if info.backing is None:
        raise HostFailure(f"the {image.format} image '{image.path.name}' does not build on '{backing.path.name}'")
    return info


def links(image: DiskImage) -> Iterator[DiskImage]:
    """The image and what it builds on, the nearest first."""
    here: DiskImage | None = image
    while here is not None:
        yield here
        here = here.backing


@contextlib.contextmanager
def opened_chain(image: DiskImage, *, writable: bool = False) -> Iterator[list[int]]:
    """Descriptors of an image and of what it builds on, each checked by `check_link`; only the first is `writable`.

    Raises HostFailure.
    """
    with contextlib.ExitStack() as stack:
        numbers: list[int] = []
        for link in links(image):
            flags = os.O_RDWR if writable and not numbers else os.O_RDONLY
            # Devices have links as names; a volume that is a link is not one of ours.
            path = Path(os.path.realpath(link.path)) if link.device else link.path
            numbers.append(stack.enter_context(opened(path, flags)))
            check_link(numbers[-1], link)
        yield numbers


def snapshots(source: Path | int) -> list[str]:
    """The names of the snapshots inside a qcow2 image, oldest first. Raises HostFailure."""
    with _window(source) as window:
        return disk_headers.snapshots(window)


def _is_named(image: Path, text: str, backing: Path) -> bool:
    return os.path.normpath(image.parent / text) == os.path.normpath(backing)


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor of a regular file or block device, not through a link. Raises HostFailure."""
    with translated(f"open '{path.name}'"):
        # Without O_NONBLOCK the open of a pipe would wait for a writer.
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise HostFailure(f"'{path.name}' is not a disk image")
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_references(info: ImageInfo) -> None:
    if info.backing is not None:
        raise HostFailure(f"the {info.format} image builds on another file (its backing file)")
    if info.data_file:
        raise HostFailure(f"the {info.format} image keeps its data in another file (its data file)")
    if info.foreign is not None:
        raise HostFailure(f"the {info.format} image cannot be used: {info.foreign}")


def _refuse_compressed(window: Window) -> None:
    head = window.some(0, 6)
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            raise HostFailure(f"the image is compressed with {name}: name it so, or unpack it first")


@contextlib.contextmanager
def _window(source: Path | int) -> Iterator[Window]:
    with contextlib.nullcontext(source) if isinstance(source, int) else opened(source) as descriptor:

        def pread(offset: int, size: int) -> bytes:
            return os.pread(descriptor, size, offset)

        with translated("read the image"):
            status = os.fstat(descriptor)
            # A block device has no length of its own in stat(2); seeking moves an offset that nobody here relies on.
            length = status.st_size if stat.S_ISREG(status.st_mode) else os.lseek(descriptor, 0, os.SEEK_END)
            yield Window(length, pread)
