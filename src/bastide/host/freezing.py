"""Mounted file systems that stand still for a moment, and surely go on: also when the daemon dies meanwhile.

A file beside the mount point says that it is frozen, before it is.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from bastide.host import filesystems, reflink
from bastide.host.run import finished

MARK = ".frozen"
"""What the name of such a file ends with."""


@contextlib.asynccontextmanager
async def still(mounted: Path, run: str) -> AsyncIterator[None]:
    """The file system mounted at a folder stands still while entered, whole on its device. `run` names this daemon."""
    # What lies there unless it is mounted is the host's own file system.
    if not os.path.ismount(mounted):
        yield
        return
    marker = mounted.with_name(f"{mounted.name}{MARK}")
    await asyncio.to_thread(filesystems.replace_text, marker, run)
    try:
        with contextlib.ExitStack() as stack:
            # Who is cancelled meanwhile waits for it: what is frozen then is to be let go, too.
            await finished(asyncio.to_thread(stack.enter_context, reflink.frozen(mounted)))
            yield
    finally:
        marker.unlink(missing_ok=True)


def thaw_left(markers: Iterable[Path], run: str) -> None:
    """Let go on what another daemon than `run` had frozen and left so; `markers` are the files that say so."""
    for marker in markers:
        if marker.read_text() != run:
            with contextlib.suppress(OSError):
                reflink.thaw(marker.with_name(marker.name.removesuffix(MARK)))
            marker.unlink()
