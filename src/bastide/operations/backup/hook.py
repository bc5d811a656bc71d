"""The script that root@pam has run at the turns of a backup, as Proxmox VE's vzdump(1) calls it."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from bastide.base.errors import HostFailure, InvalidParameter, RunError
from bastide.host.run import run
from bastide.tasks.tasks import Task

Phase = Literal[
    "job-init", "job-start", "job-end", "job-abort",
    "backup-start", "backup-end", "backup-abort", "log-end", "pre-stop", "pre-restart", "post-restart",
]  # fmt: skip

_DEADLINE = 3600
_LINES = 1000


async def check_script(path: str | None) -> None:
    """Raise InvalidParameter naming `script` unless it is a file that can be run."""
    if path is None:
        return
    file = Path(path)
    if not await asyncio.to_thread(file.is_file):
        raise InvalidParameter({"script": f"the hook script '{path[:200]}' does not exist"})
    if not await asyncio.to_thread(os.access, file, os.X_OK):
        raise InvalidParameter({"script": f"the hook script '{path[:200]}' is not executable"})


async def run_script(
    path: str | None, phase: Phase, words: tuple[str, ...], env: Mapping[str, str], task: Task
) -> None:
    """Run the script with the phase and, for a guest's, its mode and vmid; what it prints stands in the log.

    `env` are Proxmox VE's variables: VMTYPE, HOSTNAME, DUMPDIR, STOREID, TARGET, LOGFILE. Raises HostFailure.
    """
    if path is None:
        return
    try:
        done = await run([path, phase, *words], env=env, deadline=_DEADLINE)
    except RunError as error:
        for line in error.stderr.splitlines()[-_LINES:]:
            task.log(line)
        raise HostFailure(f"hook script failed in {phase} with exit code {error.code}") from None
    except OSError as error:
        raise HostFailure(f"hook script cannot be run: {error.strerror or error}") from None
    for line in (done.text + done.stderr).splitlines()[-_LINES:]:
        task.log(line)
