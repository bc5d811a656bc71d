"""ext4 on a block device, and devices that are wiped.

Sources: mkfs.ext4(8), e2fsck(8), resize2fs(8), mount(8), blkdiscard(8).
"""

import asyncio
import os
import re
from pathlib import Path

from bastide.base.errors import HostFailure, InvalidParameter, NoSpace, NotSupported, RunError
from bastide.base.units import MIB
from bastide.host.disk_image import opened
from bastide.host.filesystems import ext4_block_size, translated
from bastide.host.run import Runner, run

_MINIMUM = re.compile(r"minimum size of the filesystem: (\d+)")
_DEADLINE = 24 * 3600.0
_REPAIRED = (0, 1, 2)  # e2fsck(8): no faults, or none that are left


class BlockExt4:
    """The tools for file systems on devices."""

    def __init__(self, run: Runner = run) -> None:
        self._run = run

    async def make(self, device: Path, *, zeroed: bool) -> None:
        """Make an empty ext4 over the whole device, which reads as zeros if it is `zeroed`. Raises NoSpace."""
        # No blocks are kept for the host's root: the guest's root is another user.
        options = "root_owner=0:0,nodiscard,lazy_journal_init=1" + (",assume_storage_prezeroed=1" if zeroed else "")
        argv = ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", options, "--", str(device)]
        await self._tool(argv)

    async def mount(self, device: Path, target: Path, *, read_only: bool = False, zeroed: bool = False) -> None:
        """Mount a device on a folder. Device nodes in it are none; what is `read_only` is not even recovered.

        On a device that was made `zeroed` the kernel need not write zeros over inode tables that are not in use yet.
        """
        options = "nodev" + (",noinit_itable" if zeroed else "") + (",ro,noload" if read_only else "")
        await self._run(["mount", "-t", "ext4", "-o", options, "--", str(device), str(target)])

    async def check(self, device: Path) -> None:
        """Check a file system that is not mounted, and repair what can be. Raises HostFailure."""
        done = await self._run(["e2fsck", "-f", "-p", "--", str(device)], deadline=_DEADLINE, check=False)
        if done.code not in _REPAIRED:
            raise RunError(["e2fsck"], done.code, done.stderr or done.text)

    async def grow(self, device: Path) -> None:
        """Grow a file system to its device, mounted or not. Raises NotSupported where only one not in use can."""
        try:
            await self._tool(["resize2fs", str(device)])
        except RunError as error:
            if "Permission denied to resize" in error.stderr:
                raise NotSupported(
                    "this host does not let a file system grow while it is in use; stop the guest first"
                ) from error
            # It wants a file system that was checked since it was last mounted.
            if "run 'e2fsck" not in error.stderr:
                raise
            await self.check(device)
            await self._tool(["resize2fs", str(device)])

    async def shrink(self, device: Path, size: int | None = None) -> int:
        """Shrink a file system that is not mounted to `size` bytes, None for as small as it goes; tells its new size.

        Raises InvalidParameter naming `size` and the smallest one when its files would not fit; then it is unchanged.
        """
        await self.check(device)
        block = await asyncio.to_thread(ext4_block_size, device)
        told = await self._run(["resize2fs", "-P", str(device)], deadline=_DEADLINE)
        found = _MINIMUM.search(told.text)
        if found is None:
            raise HostFailure(f"resize2fs did not say how small {device} can be")
        smallest = int(found[1]) * block
        if size is not None and size < smallest:
            raise InvalidParameter({"size": f"unable to shrink below {-(-smallest // MIB)}M: files take that"})
        blocks = (smallest if size is None else size) // block
        await self._tool(["resize2fs", str(device), str(blocks)])
        await self.check(device)
        return blocks * block

    async def wipe(self, device: Path, size: int, step: int, rate: int | None = None) -> None:
        """Write zeros over the first `size` bytes, `step` at a time and `rate` bytes a second at most."""
        argv = ["blkdiscard", "--zeroout", "--force", "--step", str(step)]
        if rate is None:
            await self._run([*argv, "--length", str(size), "--", str(device)], deadline=_DEADLINE)
            return
        for offset in range(0, size, step):
            length = min(step, size - offset)
            part = ["--offset", str(offset), "--length", str(length)]
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(length / rate))
                await self._run([*argv, *part, "--", str(device)], deadline=_DEADLINE)

    async def _tool(self, argv: list[str]) -> None:
        try:
            await self._run(argv, deadline=_DEADLINE)
        except RunError as error:
            if "No space left on device" in error.stderr:
                raise NoSpace(str(error)) from error
            raise


def write(device: Path, data: bytes) -> None:
    """Write to the beginning of a device and make zeros of the rest; for small ones. Raises HostFailure."""
    with translated(f"write to {device}"), opened(device, os.O_RDWR) as descriptor:
        length = os.lseek(descriptor, 0, os.SEEK_END)
        if len(data) > length:
            raise HostFailure(f"{len(data)} bytes do not fit on {device}")
        os.lseek(descriptor, 0, os.SEEK_SET)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data + bytes(length - len(data)))
            file.flush()
            os.fsync(descriptor)
