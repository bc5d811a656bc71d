"""A compressed file that is no archive, such as a disk image `disk.raw.xz`, unpacked beside it.

The decompressor runs in a sandbox: a flaw in it reaches nothing of the host.
"""

import asyncio
import os
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path

from bastide.base.errors import DeadlineExceeded, HostFailure, NoSpace, NotSupported
from bastide.base.units import MIB
from bastide.host import archive, disk_image
from bastide.host.filesystems import translated
from bastide.host.run import kill_group, spawn
from bastide.host.sandbox import Bounds, sandboxed

SUFFIXES = (".xz", ".gz", ".bz2", ".zst")
"""What the name of a compressed file ends with."""

_DEADLINE = 6 * 3600.0
_LAST_WORDS = 4096


def compressed(path: Path) -> bool:
    """Whether a file is compressed, by its contents. Raises HostFailure when it cannot be read."""
    with disk_image.opened(path) as descriptor:
        try:
            archive.identify(descriptor)
        except HostFailure:
            return False
        return True


async def unpack_file(source: Path, target: Path, limit: int) -> None:
    """Write what is compressed in `source` to the new file `target`, at most `limit` bytes.

    What it is compressed with is told by its contents. Raises HostFailure that says what is wrong, NoSpace when it
    holds more than `limit` bytes; no part of the target stays behind.
    """
    with disk_image.opened(source) as reading:
        name, argv = archive.identify(reading)
        tool = shutil.which(argv[0])
        if tool is None:
            raise NotSupported(f"{argv[0]} is not installed on this host; see `bastide doctor`")
        with translated(f"make '{target.name}'"):
            writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            code, text = await _run([tool, *argv[1:]], reading, writing, limit)
            size = os.fstat(writing).st_size
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        finally:
            os.close(writing)
    if code != 0:
        target.unlink(missing_ok=True)
        if size >= limit or "File too large" in text or "No space left on device" in text:
            raise NoSpace(f"'{source.name}' unpacks to more than the {limit // MIB} MiB that may be used")
        raise HostFailure(f"'{source.name}' cannot be unpacked as {name}: {text or f'exit code {code}'}")


async def _run(argv: list[str], reading: int, writing: int, limit: int) -> tuple[int, str]:
    bounds = Bounds(seconds=int(_DEADLINE), length=limit)
    os.lseek(reading, 0, os.SEEK_SET)
    process = await spawn(sandboxed(argv, (), bounds), stdin=reading, stdout=writing, stderr=PIPE)
    try:
        async with asyncio.timeout(_DEADLINE):
            assert process.stderr is not None  # noqa: S101 - asked for above
            text = ""
            while part := await process.stderr.read(_LAST_WORDS):
                text = (text + part.decode(errors="replace"))[-_LAST_WORDS:]
            return await process.wait(), (text.strip().splitlines() or [""])[-1]
    except TimeoutError:
        raise DeadlineExceeded(f"{argv[0]} did not end within {_DEADLINE:g} seconds") from None
    finally:
        if process.returncode is None:
            await asyncio.shield(kill_group(process))
