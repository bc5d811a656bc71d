"""Small files beside a volume's: its notes, whether it is protected, its size (`names.SIDECARS`)."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from bastide.host.filesystems import replace_text
from bastide.storage.names import SIDECARS, backup_name

LIMIT = 64 * 1024
"""Bytes that are read of one."""

_OF_BACKUPS = (".notes", ".protected", ".sha256")
_CHECKSUM = re.compile(r"([0-9a-f]{64})(?= |$)", re.ASCII)
_UNFINISHED = re.compile(rf"\..+(?:{'|'.join(map(re.escape, (*SIDECARS, '.log')))})\.(\d+)\.tmp", re.ASCII)


def read(path: Path, suffix: str) -> str | None:
    """What lies beside the volume at `path`, or None. Links are not followed."""
    try:
        descriptor = os.open(path.with_name(path.name + suffix), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, errors="replace") as file:
        return file.read(LIMIT)


def write(path: Path, suffix: str, text: str | None) -> None:
    """Write it whole or not at all, or remove it when `text` is None. Raises HostFailure, OSError."""
    sidecar = path.with_name(path.name + suffix)
    if text is None:
        sidecar.unlink(missing_ok=True)
    else:
        replace_text(sidecar, text)


def read_checksum(path: Path) -> str | None:
    """The SHA-256 in hexadecimal that lies beside the file at `path`, in the form of sha256sum(1); None without one."""
    text = read(path, ".sha256")
    match = _CHECKSUM.match(text or "")
    return match[1] if match is not None else None


def widows(folder: Path) -> Iterator[Path]:
    """What lies beside backups in a folder that are gone: the process that removed one ended in between."""
    there = set(os.listdir(folder))
    for name in there:
        for suffix in _OF_BACKUPS:
            archive = name.removesuffix(suffix)
            if name.endswith(suffix) and archive not in there and backup_name(f"backup/{archive}") is not None:
                yield folder / name


def unfinished(folder: Path) -> Iterator[Path]:
    """What processes that have ended left in a folder of writing one."""
    for name in os.listdir(folder):
        match = _UNFINISHED.fullmatch(name)
        if match is not None and int(match[1]) != os.getpid():
            yield folder / name
