"""Backups: what they are called, and the shapes in which guests' data goes into them and comes out.

`backup_options.py` has what a backup can be asked to be.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from bastide.base.errors import InvalidParameter
from bastide.model.guest import Kind

BackupMode = Literal["snapshot", "suspend", "stop"]
Compression = Literal["0", "gzip", "lzo", "zstd"]
"""How an archive is compressed; "0" is not at all. Proxmox VE's "1" means `lzo`."""

EXTENSIONS: Mapping[Compression, str] = {"0": "", "gzip": ".gz", "lzo": ".lzo", "zstd": ".zst"}

_CONFIG_FILES: Mapping[Kind, str] = {"lxc": "pct.conf", "qemu": "qemu-server.conf"}
_NAME = re.compile(
    r"vzdump-(?P<kind>lxc|qemu)-(?P<vmid>[1-9]\d{2,8})-(?P<time>\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d)"
    r"(?P<ext>\.(?:tar|vma)(?:\.(?:gz|lzo|zst))?|\.tgz)?",
    re.ASCII,
)
_TIME = "%Y_%m_%d-%H_%M_%S"


def config_file(kind: Kind) -> str:
    """The name of the guest's configuration inside a backup, as Proxmox VE has it."""
    return _CONFIG_FILES[kind]


@dataclass(frozen=True, slots=True)
class BackupName:
    """The name of a backup: `vzdump-lxc-100-2026_11_23-01_02_03.tar.zst`, the time in the host's zone.

    `time` in seconds since the epoch; `extension` is empty where a storage keeps backups in a store of its own.
    """

    kind: Kind
    vmid: int
    time: int
    extension: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name, also behind `backup/`. Raises InvalidParameter naming `volume`."""
        match = _NAME.fullmatch(text.removeprefix("backup/"))
        try:
            if match is None:
                raise ValueError
            taken = int(time.mktime(time.strptime(match["time"], _TIME)))
        except (ValueError, OverflowError):
            raise InvalidParameter({"volume": f"'{text[:200]}' is not the name of a backup"}) from None
        kind: Kind = "lxc" if match["kind"] == "lxc" else "qemu"
        return cls(kind, int(match["vmid"]), taken, match["ext"] or "")

    @property
    def stem(self) -> str:
        """The name without its extension: its log is `<stem>.log`."""
        return f"vzdump-{self.kind}-{self.vmid}-{time.strftime(_TIME, time.localtime(self.time))}"

    def __str__(self) -> str:
        return self.stem + self.extension


@dataclass(frozen=True, slots=True)
class Tree:
    """A container's file system to be read or written: its root, and other volumes' folders by their place in it.

    The owners in the folders are the guest's own ids (0 and up) or those from `first_id` on, the host's number of the
    guest's root: a command that works in it runs confined to that range and sees them as the guest does. A place is
    absolute in the guest (`/srv/data`), and what lies there below the mount is not seen. `copied` says that the folders
    are a copy made for the moment: inode numbers and times of change (ctime) are other ones each time.
    """

    root: Path
    first_id: int = 0
    mounts: Mapping[str, Path] = field(default_factory=dict)
    copied: bool = False


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """What a folder in a backup holds: a folder (`d`), file (`f`), link (`l`), hard link (`h`), device or pipe.

    `size` in bytes, `mtime` in seconds since the epoch, both None where nobody says.
    """

    name: str
    type: str
    size: int | None = None
    mtime: int | None = None


@dataclass(frozen=True, slots=True)
class DiskExport:
    """A VM's disk at one moment, to be read: `key` is its option (`scsi0`), `size` in bytes.

    `socket` is a UNIX socket that speaks NBD, `export` the name to ask it for. It answers where holes and zeros are
    (`base:allocation`).
    """

    key: str
    socket: Path
    size: int
    export: str = ""
