"""User ids for processes that share nothing: numbers that no user and no other process on this machine has.

Source: systemd's docs/UIDS-GIDS: the ids from 1879048192 to 2147352575 are nobody's.
"""

import contextlib
import os
import pwd
from collections.abc import Collection

from bastide.base.errors import HostFailure

FIRST = 1_900_000_000
COUNT = 100_000_000


def choose(number: int, taken: Collection[int]) -> int:
    """An id that is neither in `taken` nor in use on this machine; the search begins at a place by `number`.

    Raises HostFailure when none is left.
    """
    blocked = {*taken, *(entry.pw_uid for entry in pwd.getpwall()), *in_use()}
    for step in range(COUNT):
        found = FIRST + (number + step) % COUNT
        if found not in blocked:
            return found
    raise HostFailure("no user id is left for a further virtual machine")


def in_use() -> set[int]:
    """The users of all processes on this machine."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                found.add(os.stat(f"/proc/{name}").st_uid)
    return found
