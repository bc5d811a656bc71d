"""Which host ids a guest's ids are. Pure but for reading the host's files."""

import contextlib
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.guest.protocol import IdMap

RANGE = 65536
# Above what login.defs and useradd(8) hand out (100000 up) and below the ids of systemd-nspawn and of dynamic users.
FIRST = 1_048_576 * 16
LAST = 524_288 * 1024
_NUMBERS = re.compile(r"\d{1,10}:\d{1,10}", re.ASCII)
_SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))


def choose(vmid: int, taken: Collection[int], reserved: Iterable[tuple[int, int]] = (), *, start: int = FIRST) -> IdMap:
    """A range that touches neither another guest's (`taken`: first ids) nor a `reserved` one (first, count).

    The search begins at a place that depends on the vmid, so that two hosts that share a storage or a machine seldom
    meet. Raises HostFailure when all are taken.
    """
    slots = (LAST - start) // RANGE
    used = {(first, RANGE) for first in taken} | set(reserved)
    blocked: set[int] = set()
    for first, count in used:
        if first + count > start:
            lowest = max(0, (first - start) // RANGE)
            blocked.update(range(lowest, min(slots, (first + count - 1 - start) // RANGE + 1)))
    for step in range(slots):
        slot = (vmid + step) % slots
        if slot not in blocked:
            return IdMap(start + slot * RANGE)
    raise HostFailure("no range of 65536 ids is left for a further container")


def parse_subordinate(text: str) -> list[tuple[int, int]]:
    """The ranges of a subuid(5) file: first id and count."""
    rows = [line.split(":") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(int(row[1]), int(row[2])) for row in rows if len(row) == 3 and _NUMBERS.fullmatch(f"{row[1]}:{row[2]}")]


def host_reserved() -> list[tuple[int, int]]:
    """Ranges that the host's files give to others."""
    found: list[tuple[int, int]] = []
    for path in _SUBORDINATE:
        if path.is_file():
            found += parse_subordinate(path.read_text(errors="replace"))
    return found


def in_use() -> list[tuple[int, int]]:
    """Ranges of user namespaces that live now, also those of another Bastide or another manager on this machine."""
    texts = set()
    # Of every process of the machine, so without a Path for each.
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                descriptor = os.open(f"/proc/{name}/uid_map", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    texts.add(os.read(descriptor, 4096))
                finally:
                    os.close(descriptor)
    rows = [line.split() for text in texts for line in text.splitlines()]
    return sorted({(int(row[1]), int(row[2])) for row in rows if len(row) == 3 and int(row[1]) > 0})
