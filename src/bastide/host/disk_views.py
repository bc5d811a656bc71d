"""Disks as folders of segments, for a program that keeps files, and such folders as disks again: FUSE file systems.

Each is a helper process, so that nothing of the daemon waits in the kernel for the daemon itself. `segments` shows
`KEY/0000002a`, the 43rd part of 4 MiB of a disk; what is all zeros is not there, or empty. Inode number and time of
change are made of the content's hash: a file that has those of another time has its content. `joined` is the way back.

Sources: fuse(4), the high-level interface of libfuse 3.
"""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bastide.base.errors import HostFailure, NotSupported
from bastide.base.units import MIB
from bastide.host import filesystems, idmap
from bastide.host.run import kill_group, last_words, spawn
from bastide.model.backup import DiskExport

SEGMENT = 4 * MIB
"""Bytes of a segment; the last one of a disk may be shorter."""
NEWEST = (2**31 - 1 - 48 * 3600) * 10**9
"""The last time of change, in ns, that borg tells from a later one; those of segments are before it."""

_SOURCE = str(Path(__file__).parents[2])
_HELPER = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bastide.host.disk_views_helper import main; main()"
_START_DEADLINE = 30.0
# The helper lets go of as much as it takes, all the time: to have the kernel clear new pages takes longer than to read
# into them. See mallopt(3).
_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * MIB), "MALLOC_TRIM_THRESHOLD_": str(512 * MIB), "MALLOC_ARENA_MAX": "1"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SegmentsOf:
    """What the helper shows as segments: exports by their keys; `rate` in bytes a second, 0 for no limit."""

    disks: Mapping[str, Mapping[str, object]]
    rate: int = 0

    @classmethod
    def exports(cls, disks: Sequence[DiskExport], rate: int = 0) -> "SegmentsOf":
        """Those of some disks."""
        return cls(
            {disk.key: {"socket": str(disk.socket), "export": disk.export, "size": disk.size} for disk in disks}, rate
        )


def segment_name(number: int) -> str:
    """The name of a segment: eight hexadecimal digits."""
    return f"{number:08x}"


@asynccontextmanager
async def segments(what: SegmentsOf, target: Path) -> AsyncIterator[Path]:
    """While entered, `target`, which is made, shows a folder for each disk. Raises HostFailure, NotSupported."""
    async with _served(["segments", json.dumps(asdict(what)), str(target)], target):
        yield target


@asynccontextmanager
async def joined(folder: Path, sizes: Mapping[str, int], target: Path) -> AsyncIterator[Mapping[str, Path]]:
    """While entered, a file for each disk, of whose segments the folders are in `folder`, in `target`, which is made.

    `sizes` in bytes, by the disks' keys. Raises HostFailure, NotSupported.
    """
    async with _served(["joined", json.dumps({"folder": str(folder), "sizes": dict(sizes)}), str(target)], target):
        yield {key: target / key for key in sizes}


@asynccontextmanager
async def _served(arguments: Sequence[str], target: Path) -> AsyncIterator[None]:
    if not os.path.exists("/dev/fuse"):
        raise NotSupported("this kernel has no FUSE, which backups in a borg repository need")
    target.mkdir(mode=0o700, parents=True)
    try:
        # With site-packages, unlike other helpers: mfusepy is there.
        argv = [sys.executable, "-I", "-c", _HELPER, _SOURCE, str(os.getpid()), *arguments]
        process = await spawn(argv, env=_MEMORY, stdout=PIPE, stderr=PIPE)
        saying = asyncio.create_task(last_words(process))
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            try:
                async with asyncio.timeout(_START_DEADLINE):
                    ready = await process.stdout.readline()
            except TimeoutError:
                raise HostFailure("the disks' file system did not answer in time") from None
            if not ready:
                raise HostFailure(f"the disks cannot be shown as files: {(await saying).strip() or 'no message'}")
            yield
        finally:
            idmap.unmount_folder(target)
            with contextlib.suppress(ProcessLookupError):
                await asyncio.shield(kill_group(process))
            saying.cancel()
    finally:
        idmap.unmount_folder(target)


def release(folder: Path) -> None:
    """Unmount what a killed daemon left mounted below a folder."""
    for place in reversed(filesystems.mounts_within(folder)):
        idmap.unmount_folder(place)
