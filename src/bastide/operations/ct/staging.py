"""A running container's files copied aside for its backup: while it runs first, and what changed while it stands still.

Where the copy lies is written down before it is made; the next daemon removes what a dead one left (`forget_copies`).
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from bastide.base.errors import BastideError, HostFailure, NoSpace, NotSupported
from bastide.guest.protocol import IdMap
from bastide.host import filesystems
from bastide.host.programs import lacking, missing
from bastide.host.run import finished, run
from bastide.model.backup import Tree
from bastide.operations.backup.saving import Backup
from bastide.operations.rooms import Rooms

_PREFIX = "backup-copy/"
_DEADLINE = 7 * 24 * 3600.0
_GENTLY = ("nice", "-n", "10", "ionice", "-c", "2", "-n", "7")
_VANISHED = 24
"""rsync's exit code when files were removed before it came to them."""

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def place(rooms: Rooms, backup: Backup) -> AsyncIterator[Path]:
    """An empty folder for the copy, that goes in the end, where nobody but root can come to. Raises HostFailure."""
    if lacking(["rsync"]):
        raise NotSupported(missing("rsync"))
    above, vmid = backup.tmpdir or rooms.layout.state / "vzdump", backup.guest.vmid
    if backup.tmpdir is not None and not await asyncio.to_thread(above.is_dir):
        raise HostFailure(f"'{above}' (tmpdir) is no folder on this host")
    folder = above / f"vzdumptmp-{vmid}-{secrets.token_hex(4)}"
    try:
        await rooms.store.put(f"{_PREFIX}{vmid}", str(folder))
        await asyncio.to_thread(_make, folder)
        yield folder / "root"
    finally:
        await finished(_forget(rooms, vmid, folder))


async def follow(rooms: Rooms, backup: Backup, tree: Tree, target: Path, *, gently: bool) -> None:
    """Make the copy like the container's files, `gently` while somebody works. Raises NoSpace, HostFailure."""
    way, rate = (_GENTLY, backup.rate) if gently else ((), 0)
    argv = rooms.containers.following(tree, target, IdMap(tree.first_id), backup.exclude, rate)
    done = await run([*way, *argv], deadline=_DEADLINE, check=False)
    if done.code in (0, _VANISHED):
        return
    if "No space left on device" in done.stderr or "Disk quota exceeded" in done.stderr:
        raise NoSpace(f"there is no space left in '{target.parent.parent}' for a copy: name another place with tmpdir")
    lines = done.stderr.strip().splitlines() or [f"exit code {done.code}"]
    raise HostFailure(f"the files could not be copied: {lines[0]}")


async def forget_copies(rooms: Rooms) -> None:
    """At the daemon's start: remove copies that a dead one left."""
    for entry in await rooms.store.list(_PREFIX):
        try:
            await _forget(rooms, int(entry.key.removeprefix(_PREFIX)), Path(entry.value))
        except BastideError as error:
            _log.error("%s", error)


def _make(folder: Path) -> None:
    filesystems.make_folder(folder.parent, 0o700) if not folder.parent.exists() else None
    with filesystems.translated(f"make {folder}"):
        folder.mkdir(mode=0o700)
        (folder / "root").mkdir(mode=0o755)


async def _forget(rooms: Rooms, vmid: int, folder: Path) -> None:
    await filesystems.remove_tree(folder)
    await rooms.store.delete(f"{_PREFIX}{vmid}")
