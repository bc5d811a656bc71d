"""What one guest's backup is made with, and where it goes: the joint between its kind's story and the storage."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from bastide.model.backup import BackupMode, DiskExport, Tree
from bastide.model.guest import Guest
from bastide.tasks.locks import HeldLock
from bastide.tasks.tasks import Task

Turn = Literal["pre-stop", "pre-restart", "post-restart"]
"""The moments of a guest's backup that a hook script hears of from its kind's story."""


async def unheard(_turn: Turn) -> None:
    """No hook script."""


class Sink(Protocol):
    """Where a backup goes. One of these is called once; `vzdump` gives the backup its name when the story has ended."""

    async def save_tree(self, tree: Tree, config: str) -> None:
        """Write a container's file system and its configuration (Proxmox VE's text). Raises NoSpace, HostFailure."""

    async def save_disks(self, disks: Sequence[DiskExport], config: str) -> None:
        """Write a VM's disks and its configuration (Proxmox VE's text form). Raises NoSpace, HostFailure."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup being made of one guest, whose lock `held` belongs to `task`.

    `fleecing` is the storage where a running VM's overwritten blocks are kept, None for a place of the host's;
    `stopwait` in seconds is how long the guest may take to shut down. `tmpdir` is where root@pam wants the first copy
    of a container that is suspended, None for a place of the host's; it need have nothing that matches the
    `exclude-path` patterns `exclude`, and is written with `rate` bytes a second (0: no limit). `hook` is called before
    the guest is stopped or suspended (`pre-stop`), and before and after it goes on (`pre-restart`, `post-restart`); it
    may raise HostFailure.
    """

    guest: Guest
    mode: BackupMode
    sink: Sink
    held: HeldLock
    task: Task
    fleecing: str | None = None
    stopwait: float = 600.0
    tmpdir: Path | None = None
    exclude: Sequence[str] = ()
    rate: int = 0
    hook: Callable[[Turn], Awaitable[None]] = unheard
