"""Guests that are there for a moment only, to be measured or to try a backup: nobody's, and never saved."""

from bastide.operations.rooms import Rooms

_PREFIXES = ("comparing/", "trying/")


async def temporary(rooms: Rooms) -> frozenset[int]:
    """Their vmids: see `architect/compare_guests.py` and `backup/trial.py`."""
    entries = [entry for prefix in _PREFIXES for entry in await rooms.store.list(prefix)]
    return frozenset(int(entry.key.partition("/")[2]) for entry in entries)
