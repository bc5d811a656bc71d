"""Files that come from outside: what they shall be called, and that nothing appears that is not what it should be."""

import asyncio
from pathlib import Path
from typing import cast

from bastide.base.errors import (
    AlreadyExists,
    HostFailure,
    InvalidParameter,
    MethodNotImplemented,
    NoSpace,
    NotFound,
)
from bastide.base.units import MIB
from bastide.host import archive, unpacked
from bastide.host.probing import check_file
from bastide.model.storage import Content, Volume
from bastide.storage.protocol import FileStorage
from bastide.tasks.tasks import Task

RESERVE = 64 * MIB
"""Bytes of a storage that a download leaves free."""

_UNPACKABLE: tuple[Content, ...] = ("import", "iso")
_SUFFIXES = {".gz": "gz", ".lzo": "lzo", ".zst": "zst", ".bz2": "bz2", ".xz": "xz"}


def split_compression(content: Content, filename: str, asked: str | None = None) -> tuple[str, str | None]:
    """The name that a file has unpacked, and what it is compressed with (None: it stays as it is).

    `disk.raw.xz` as a disk or ISO image is unpacked; `asked` says so of a file whose name does not. Raises
    InvalidParameter, MethodNotImplemented for OVA archives.
    """
    stem, dot, suffix = filename.rpartition(".")
    told = _SUFFIXES.get(f"{dot}{suffix}") if content in _UNPACKABLE else None
    if asked is not None and content not in _UNPACKABLE:
        raise InvalidParameter({"compression": f"decompression not supported for {content}"})
    if asked is not None and told not in (None, asked):
        raise InvalidParameter({"compression": f"the name says {told}"})
    name = stem if told is not None else filename
    if content == "import" and name.lower().endswith((".ova", ".ovf")):
        raise MethodNotImplemented("OVA archives cannot be imported yet: unpack them and import the disk images")
    return name, asked or told


async def free_name(storage: FileStorage, content: Content, filename: str) -> str:
    """The volume name for a new file. Raises InvalidParameter naming `filename`, AlreadyExists."""
    name = f"{content}/{filename}"
    try:
        await storage.file_path(name)
        volume = await storage.info(name)
    except InvalidParameter:
        raise InvalidParameter({"filename": f"'{filename[:100]}' can't be the name of a {content} file"}) from None
    except NotFound:
        return name
    raise AlreadyExists(f"file '{volume.volid}' already exists")


async def accept(storage: FileStorage, name: str, file: Path, task: Task, compression: str | None = None) -> Volume:
    """Unpack a file if it is compressed, check that it is what its name says, and publish it.

    The file is gone in the end, whatever happens. Raises HostFailure that says what is wrong with it, NoSpace.
    """
    found = file
    try:
        if compression is not None:
            found = await unpack(storage, name, file, task, compression)
        await check_file(found, cast(Content, name.partition("/")[0]), name)
        return await storage.publish(found, name)
    finally:
        for path in {file, found}:
            await asyncio.to_thread(path.unlink, missing_ok=True)


async def unpack(storage: FileStorage, name: str, file: Path, task: Task, compression: str) -> Path:
    """Unpack a file that shall become the volume `name`, beside it, within bounds. Raises HostFailure, NoSpace."""
    actual = await asyncio.to_thread(archive.compression, file)
    if actual != compression:
        raise HostFailure(f"the file is compressed with {actual}, not with {compression}")
    size = await asyncio.to_thread(lambda: file.stat().st_size)
    room = (await storage.usage()).available - RESERVE
    if room <= 0:
        raise NoSpace("the storage is full: there is no room to unpack the file")
    limit = archive.Limits(size=room).allowed(size)
    task.log(f"unpacking {size} bytes ({compression}), to at most {limit // MIB} MiB")
    target = storage.incoming(name)
    await unpacked.unpack_file(file, target, limit)
    return target
