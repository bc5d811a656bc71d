"""What NFS servers export, and which ZFS file systems there are on this machine. Sources: showmount(8), zfs-list(8)."""

import re
from dataclasses import dataclass

from bastide.host.run import run

_DEADLINE = 10.0
_GUESTS = re.compile(r"(?:subvol|basevol|vm|base)-\d+-\S+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Export:
    """A folder that an NFS server exports, and to whom."""

    path: str
    clients: str


def showmount(server: str) -> list[str]:
    """The command line that asks a server for its exports."""
    return ["showmount", "--no-headers", "--exports", "--", server]


def parse_exports(text: str) -> list[Export]:
    """Read lines such as `/srv/media   192.0.2.0/24,backup`; who may come holds no blank, a path may."""
    found = []
    for line in text.splitlines():
        path, _, clients = line.rstrip().rpartition(" ")
        if path.startswith("/") and clients:
            found.append(Export(path.rstrip(), clients))
    return found


def parse_datasets(text: str) -> list[str]:
    """Read one name of a ZFS file system a line; guests' own are left out."""
    names = [line.strip() for line in text.splitlines()]
    return [name for name in names if name and _GUESTS.fullmatch(name.rpartition("/")[2]) is None]


async def exports(server: str) -> list[Export]:
    """What a server exports. Raises RunError, NotSupported, DeadlineExceeded."""
    return parse_exports((await run(showmount(server), deadline=_DEADLINE)).text)


async def datasets() -> list[str]:
    """The ZFS file systems of this machine. Raises RunError, NotSupported."""
    return parse_datasets((await run(["zfs", "list", "-H", "-t", "filesystem", "-o", "name"], deadline=60)).text)
