"""A guest's root folder for the helper that reads and writes files in it (`guestfile.py`)."""

import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path

from bastide.base.errors import HostFailure, NotFound
from bastide.host import run

_CODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bastide.host.guestfile import main; main()"
_SOURCE = str(Path(__file__).parents[2])


class Root:
    """Descriptors of a guest's root folder, and of its user namespace when it runs in one of its own."""

    def __init__(self, folder: int, namespace: int | None) -> None:
        self._folder = folder
        self._namespace = namespace

    def close(self) -> None:
        """Let go of them."""
        os.close(self._folder)
        if self._namespace is not None:
            os.close(self._namespace)

    async def spawn(self, what: str, arguments: Sequence[str]) -> Process:
        """Start the helper with these arguments and pipes at its standard streams."""
        namespace = "-" if self._namespace is None else str(self._namespace)
        argv = [sys.executable, "-I", "-S", "-c", _CODE, _SOURCE, str(self._folder), namespace, what, *arguments]
        descriptors = [fd for fd in (self._folder, self._namespace) if fd is not None]
        return await run.spawn(argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, pass_fds=descriptors)


def of_process(pid: int) -> Root:
    """The root that a running guest's first process sees, with everything that is mounted there.

    Raises NotFound when it has ended. The caller looks afterwards whether `pid` is the guest's still.
    """
    opened: list[int] = []
    try:
        opened.append(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        opened.append(os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC))
        own = os.stat("/proc/self/ns/user").st_ino == os.fstat(opened[1]).st_ino
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        raise NotFound(f"the guest's first process does not exist any more: {error.strerror}") from None
    if own:
        os.close(opened.pop())
    return Root(opened[0], opened[1] if len(opened) > 1 else None)


def of_folder(path: Path) -> Root:
    """A stopped guest's root folder. Raises HostFailure."""
    try:
        return Root(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), None)
    except OSError as error:
        raise HostFailure(f"cannot open the guest's root: {error.strerror}") from error
