"""lxcfs: the guest's own figures in /proc/cpuinfo, meminfo, uptime and the like.

A host whose service manager runs lxcfs has it at /var/lib/lxcfs. Elsewhere Bastide starts one of its own, which
outlives the daemon as the guests do.
"""

import asyncio
import contextlib
import logging
import os
import signal
from functools import partial
from pathlib import Path

from bastide.base.errors import BastideError
from bastide.host import processes, run, syscalls
from bastide.host.filesystems import mount_at

_SYSTEM = Path("/var/lib/lxcfs")
_PROGRAM = "/usr/bin/lxcfs"
_READY_DEADLINE = 5.0
_log = logging.getLogger(__name__)


def _gone(pid: int) -> bool:
    return processes.started(pid) is None


class Lxcfs:
    """The lxcfs that this Bastide's guests use."""

    def __init__(self, own: Path, pid_file: Path) -> None:
        """`own` is where one of our own is mounted: guests' roots must be able to reach it."""
        self._own = own
        self._pid_file = pid_file

    def mounted(self) -> Path | None:
        """Where it is mounted and answers, or None."""
        for place in (_SYSTEM, self._own):
            with contextlib.suppress(OSError):
                if os.path.ismount(place) and (place / "proc/uptime").exists():
                    return place
        return None

    async def prepare(self) -> None:
        """Start one of our own unless one is mounted; without the program guests simply see the host's figures."""
        if self.mounted() is not None or not os.access(_PROGRAM, os.X_OK):
            return
        # Its process has died; whoever looks through it gets "not connected" until they start again.
        self._unmount()
        self._own.mkdir(exist_ok=True)
        try:
            process = await run.spawn(
                [_PROGRAM, "--foreground", "--pidfile", str(self._pid_file), str(self._own)], cwd=Path("/")
            )
            async with asyncio.timeout(_READY_DEADLINE):
                await processes.until(lambda: self.mounted() is not None or process.returncode is not None, 0.02)
        except (BastideError, TimeoutError) as error:
            _log.warning("lxcfs does not run, guests see the host's figures: %s", error)

    def _unmount(self) -> None:
        """Unmount what is there, dead or alive; the kernel's table is asked, as a dead one cannot be looked at."""
        while mount_at(self._own) is not None:
            syscalls.unmount(self._own)

    def _is_own(self, argv: list[bytes]) -> bool:
        return len(argv) > 1 and argv[0] == _PROGRAM.encode() and argv[-1] == bytes(self._own)

    async def stop(self) -> None:
        """End one of our own, known by its command line: the file with its number may be gone."""
        for pid in await asyncio.to_thread(processes.find, self._is_own):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_READY_DEADLINE):
                    await processes.until(partial(_gone, pid), 0.02)
        with contextlib.suppress(OSError):
            self._unmount()
        self._pid_file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._own.rmdir()
