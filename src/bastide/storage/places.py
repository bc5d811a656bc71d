"""Which folders of the host a storage may be made of, and whose it is what lies there.

Whoever may add storages names a folder, and with it what is read, written and removed there: neither the system's own
folders nor ours can be one, however the path is written and whatever links lie in it.
"""

import hashlib
import os
from pathlib import Path

from bastide.base.errors import DeadlineExceeded, HostFailure, InvalidParameter
from bastide.base.layout import Layout
from bastide.host import filesystems
from bastide.host.bounded import Bounded
from bastide.model.storage import StorageConfig

_SYSTEM = frozenset(
    {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "usr"}
)


def this_host(layout: Layout) -> str:
    """A word for this daemon's host: a storage that other hosts use, too, holds what they are making as well."""
    return hashlib.sha256(f"{os.uname().nodename}/{layout.instance}".encode()).hexdigest()[:8]


def check_mounted(config: StorageConfig, folder: Path) -> None:
    """Raise HostFailure when a storage's `is_mountpoint` says that it is one, and nothing is mounted there."""
    wanted = config.is_mountpoint
    if wanted in (None, "no", "0", "off", "false"):
        return
    point = Path(wanted) if wanted is not None and wanted.startswith("/") else folder
    if filesystems.mount_at(point) is None:
        raise HostFailure(f"unable to activate storage '{config.storage}': {point} is not mounted")


async def check_folder(path: str, layout: Layout) -> None:
    """Raise InvalidParameter for a folder that can't be a storage, DeadlineExceeded for one that does not answer."""
    ours = [layout.state, layout.runtime, layout.logs]
    free = [layout.local_storage, layout.state / "mnt"]
    given = Path(path)
    if not _is_taken(given, ours, free):
        try:
            given, ours, free = await Bounded(f"the folder '{path}'").call(
                lambda: (_real(given), [*map(_real, ours)], [*map(_real, free)])
            )
        except DeadlineExceeded:
            raise
        except HostFailure as error:
            raise InvalidParameter({"path": f"this folder can't be a storage: {error}"}) from None
    if _is_taken(given, ours, free):
        raise InvalidParameter({"path": f"'{given}' can't be a storage: it is the system's or Bastide's own"})


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_taken(path: Path, ours: list[Path], free: list[Path]) -> bool:
    if len(path.parts) < 2 or path.parts[1] in _SYSTEM:
        return True
    if any(one.is_relative_to(path) for one in ours):
        return True  # what lies in it would be reached
    return any(path.is_relative_to(one) for one in ours) and not any(path.is_relative_to(one) for one in free)
