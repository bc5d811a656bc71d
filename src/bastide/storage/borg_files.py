"""Small files of a storage of the type `borg`: in its archives, and beside them."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bastide.base.errors import HostFailure
from bastide.host import disk_views

SIZES = "disks.json"
"""The file of an archive that tells the sizes of a VM's disks, by their keys."""

_NEWEST = "newest"
_DISK = re.compile(r"[a-z]+\d{1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class About:
    """What is known of an archive beside it: the bytes of its files, notes, whether it may be removed."""

    size: int = 0
    notes: str | None = None
    protected: bool = False

    @classmethod
    def read(cls, text: str | None) -> "About":
        """Read `to_text`; None is nothing. Where it cannot be read, the archive may not be removed."""
        if text is None:
            return cls()
        try:
            raw = json.loads(text)
            return cls(int(raw.get("size", 0)), str(raw["notes"]) if raw.get("notes") else None, bool(raw["protected"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(protected=True)

    def to_text(self) -> str:
        """As JSON."""
        return json.dumps({"size": self.size, "notes": self.notes, "protected": self.protected}) + "\n"


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The small files of an archive, in a folder.

    Of the files that are new to it borg forgets the newest, as they might change in the same moment, and with them all
    that are newer. One more file is newer than all, so that none of the guest's is forgotten: those change no more.
    """
    folder.mkdir(mode=0o700)
    for name, content in {**files, _NEWEST: b"\n"}.items():
        (folder / name).write_bytes(content)
    os.utime(folder / _NEWEST, ns=(disk_views.NEWEST, disk_views.NEWEST))
    return folder


def parse_sizes(told: bytes) -> Mapping[str, int]:
    """Read `SIZES`. Raises HostFailure."""
    try:
        raw: Any = json.loads(told)
        sizes = {key: int(size) for key, size in raw.items() if _DISK.fullmatch(key) and 0 < int(size) < 1 << 60}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        sizes = {}
    if not sizes:
        raise HostFailure("the backup does not tell what disks it holds")
    return sizes
