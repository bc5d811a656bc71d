"""The same work on the host itself, as far as its tools are installed: what both kinds are measured against."""

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from bastide.architect.comparison import Measured
from bastide.base.errors import BastideError
from bastide.host import measure
from bastide.model.comparison import Figure, Measure
from bastide.operations.architect import compare_measure
from bastide.operations.architect.compare_measure import Suite
from bastide.operations.rooms import Rooms


async def measured(rooms: Rooms, storage: str, suite: Suite) -> dict[Measure, Figure]:
    """The figures of the processor, the memory and the storage's disk; those without a tool are left out.

    The network has no figure: the host does not reach itself over a wire.
    """
    if not await asyncio.to_thread(measure.has_tool, "sysbench", "fio"):
        return {}
    folder = await _folder(rooms, storage)
    try:
        extent = replace(suite.extent, path=str(folder / "file"))
        found = Measured()
        await compare_measure.work(measure.native, Suite(extent, suite.repeats), found, lambda _: None)
        return found.figures()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _folder(rooms: Rooms, storage: str) -> Path:
    """A new folder on the storage's own file system, or on that of the host's state."""
    place = (await rooms.storages.get(storage)).config.path or str(rooms.layout.state)
    try:
        return Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="compare-", dir=place))
    except OSError as error:
        raise BastideError(f"{place}: {error.strerror}") from error
