"""What an uploaded or downloaded file really is, by its content and never by its name alone.

Sources: ECMA-119 (ISO 9660) 8.1, ECMA-167 (UDF) 2/9.1; for disk images see `disk_headers.py`.
"""

import asyncio
import os
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host import disk_image
from bastide.host.archive import check_tar
from bastide.host.filesystems import translated
from bastide.model.storage import Content


async def check_file(path: Path, content: Content, name: str) -> None:
    """Make sure that a file may become the volume `name` of a content type. Raises HostFailure that says why not."""
    if content in ("vztmpl", "backup"):
        await check_tar(path)
    elif content == "iso":
        await asyncio.to_thread(_check_iso, path, name)
    elif content == "import":
        suffix = name.rpartition(".")[2]
        await asyncio.to_thread(disk_image.check, path, "raw" if suffix == "img" else suffix)


def _check_iso(path: Path, name: str) -> None:
    # The first volume descriptor lies at 32 KiB; UDF bridges and plain UDF have other names in the same place.
    found = _read(path, 32769, 5)
    if name.endswith(".iso") and found not in (b"CD001", b"BEA01", b"NSR02", b"NSR03"):
        raise HostFailure(f"'{name.rpartition('/')[2]}' is not an ISO image")
    disk_image.check(path, "raw")


def _read(path: Path, offset: int, size: int) -> bytes:
    with translated(f"read '{path.name}'"):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)
