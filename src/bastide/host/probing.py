"""What an uploaded or downloaded file really is, by its content and never by its name alone.

Sources: ECMA-119 (ISO 9660) 8.1, ECMA-167 (UDF) 2/9.1, QEMU's docs/interop/qcow2.txt, VMware's virtual disk format 5.0.
"""

import os
import struct
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host.archive import check_tar
from bastide.host.filesystems import translated
from bastide.model.storage import Content

_QCOW2 = struct.Struct(">4sIQI")  # magic, version, offset and length of the backing file's name
_INCOMPATIBLE_OFFSET = 72
_EXTERNAL_DATA = 1 << 2


async def check_file(path: Path, content: Content, name: str) -> None:
    """Make sure that a file may become the volume `name` of a content type. Raises HostFailure that says why not."""
    if content in ("vztmpl", "backup"):
        await check_tar(path)
    elif content == "iso" and name.endswith(".iso"):
        _check_iso(path)
    elif content == "import":
        _check_disk(path, name.rpartition(".")[2])


def _check_iso(path: Path) -> None:
    # The first volume descriptor lies at 32 KiB; UDF bridges and plain UDF have other names in the same place.
    found = _read(path, 32769, 5)
    if found not in (b"CD001", b"BEA01", b"NSR02", b"NSR03"):
        raise HostFailure(f"'{path.name}' is not an ISO image")


def _check_disk(path: Path, form: str) -> None:
    """A disk image must hold its data itself: one that names another file could be made to show a file of the host."""
    head = _read(path, 0, 80)
    if form == "qcow2":
        if len(head) < 80 or head[:4] != b"QFI\xfb":
            raise HostFailure("the file is not a qcow2 image")
        _, version, backing, _ = _QCOW2.unpack_from(head)
        incompatible = struct.unpack_from(">Q", head, _INCOMPATIBLE_OFFSET)[0] if version >= 3 else 0
        if backing or incompatible & _EXTERNAL_DATA:
            raise HostFailure("the qcow2 image refers to another file")
    elif form == "vmdk":
        if head[:4] != b"KDMV":
            raise HostFailure("only a vmdk image that holds its data itself can be imported")
    elif head[:4] in (b"QFI\xfb", b"KDMV"):
        raise HostFailure("the file is not a raw image: it has the header of another format")


def _read(path: Path, offset: int, size: int) -> bytes:
    with translated(f"read '{path.name}'"):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)
