"""File systems shown with mapped owners, and commands confined to a guest's id range (see `confine.py`)."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bastide.host import confine, run

_SOURCE = str(Path(confine.__file__).parents[2])
_probed: dict[int, bool] = {}


def helper_argv(*arguments: str) -> list[str]:
    """The argument list that starts the helper: Python without site packages, in about 20 ms."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bastide.host.confine import main; main()"
    return [sys.executable, "-I", "-S", "-c", code, _SOURCE, *arguments]


def confined(target: Path, first: int, count: int, argv: Sequence[str]) -> list[str]:
    """The argument list that runs `argv` (an absolute program) as root of an id range, with `target` at `/target`."""
    return helper_argv("run", str(target), str(first), str(count), *argv)


async def supported(path: Path) -> bool:
    """Whether the kernel can show the file system at `path` with mapped owners; asked once a file system."""
    device = os.stat(path).st_dev
    if device not in _probed:
        _probed[device] = (await run.run(helper_argv("probe", str(path)), check=False)).code == 0
    return _probed[device]


async def stage(first: int, count: int, mounts: Sequence[tuple[Path, Path, bool]]) -> None:
    """Mount each (source, target, mapped) on the host. Raises RunError; the caller unmounts targets then."""
    arguments = [text for source, target, mapped in mounts for text in (str(source), str(target), str(int(mapped)))]
    await run.run(helper_argv("stage", str(first), str(count), *arguments))
