"""Small files beside a volume's: its notes, whether it is protected, its size (`names.SIDECARS`)."""

import os
from pathlib import Path

from bastide.host.filesystems import replace_text

LIMIT = 64 * 1024
"""Bytes that are read of one."""


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
