"""Identifiers: VMIDs, task ids (UPID) and volume ids, with Proxmox VE's text forms."""

import re
from dataclasses import dataclass
from typing import Self

from bastide.base.errors import InvalidParameter

VMID_MIN = 100
VMID_MAX = 999_999_999

_UPID = re.compile(
    r"UPID:(?P<node>[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)"
    r":(?P<pid>[0-9A-Fa-f]{8}):(?P<pstart>[0-9A-Fa-f]{8,9}):(?P<starttime>[0-9A-Fa-f]{8})"
    r":(?P<type>[A-Za-z0-9_-]{1,64}):(?P<id>[^:\s/]{0,128}):(?P<user>[^:\s/]{1,128}):",
    re.ASCII,
)
_STORAGE_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,98}[A-Za-z0-9]", re.ASCII)
_VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@~:,=()\[\] /-]{0,511}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Upid:
    """A task id: `UPID:node:pid:pstart:starttime:type:id:user@realm:`.

    `pid` is the worker's process id, `pstart` that process's start in clock ticks after boot, `starttime` seconds
    since the epoch. `id` is what the task works on (a vmid, a storage) or empty; `user` is a user id or token id.
    """

    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str

    def __str__(self) -> str:
        return (
            f"UPID:{self.node}:{self.pid:08X}:{self.pstart:08X}:{self.starttime:08X}:{self.type}:{self.id}:{self.user}:"
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a UPID. Raises InvalidParameter naming `upid`."""
        match = _UPID.fullmatch(text)
        if match is None:
            raise InvalidParameter({"upid": f"unable to parse worker upid '{text[:200]!s}'"})
        part = match.groupdict()
        return cls(
            node=part["node"],
            pid=int(part["pid"], 16),
            pstart=int(part["pstart"], 16),
            starttime=int(part["starttime"], 16),
            type=part["type"],
            id=part["id"],
            user=part["user"],
        )


def is_storage_id(text: str) -> bool:
    """Whether the text can name a storage: a letter first, then letters, digits, `.`, `_`, `-`."""
    return _STORAGE_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class VolumeId:
    """`storage:name`, such as `local:vztmpl/debian-12.tar.zst` or `local:100/vm-100-disk-0.subvol`.

    `name` is relative, holds no `.` or `..` component and no control character.
    """

    storage: str
    name: str

    def __str__(self) -> str:
        return f"{self.storage}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a volume id. Raises InvalidParameter naming `volume`."""
        storage, colon, name = text.partition(":")
        parts = name.split("/")
        if (
            not colon
            or not is_storage_id(storage)
            or _VOLUME_NAME.fullmatch(name) is None
            or any(part in ("", ".", "..") for part in parts)
        ):
            raise InvalidParameter({"volume": f"unable to parse volume ID '{text[:200]}'"})
        return cls(storage, name)
