"""A file system that is full while it is looked at."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bastide.base.units import GIB


@contextlib.contextmanager
def full(ballast: Path, left: int = 0) -> Iterator[None]:
    """While entered, `left` bytes are left on the file system where `ballast` is to be, also for root."""
    os.sync()
    with ballast.open("wb") as file:
        # An allocation has to be in one piece on some file systems: ever smaller ones fill the rest.
        size, step = 0, GIB
        while step >= 4096:
            figures = os.fstatvfs(file.fileno())
            if figures.f_bfree * figures.f_frsize - left < step:
                step //= 2
                continue
            try:
                os.posix_fallocate(file.fileno(), size, step)
                size += step
            except OSError:
                step //= 2
    try:
        yield
    finally:
        ballast.unlink()
        os.sync()
