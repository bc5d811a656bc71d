"""Guests that are there for a moment only, to be measured or to try a backup: nobody's, and never saved.

Each has an entry in the store, made before the guest, that says its name: its vmid may be given to another guest.
"""

import contextlib
from typing import Literal

from bastide.base.errors import NotFound, Unreadable
from bastide.model.guest import Guest
from bastide.operations.rooms import Rooms

Purpose = Literal["comparing", "trying"]
_PURPOSES: tuple[Purpose, ...] = ("comparing", "trying")


async def temporary(rooms: Rooms) -> frozenset[int]:
    """Their vmids, of all purposes."""
    entries = [entry for purpose in _PURPOSES for entry in await rooms.store.list(f"{purpose}/")]
    return frozenset(int(entry.key.partition("/")[2]) for entry in entries)


async def enter(rooms: Rooms, purpose: Purpose, vmid: int, name: str) -> None:
    """Write down a guest that shall be made."""
    await rooms.store.put(f"{purpose}/{vmid}", name)


async def strike_out(rooms: Rooms, purpose: Purpose, vmid: int) -> None:
    """Forget a guest that is gone."""
    await rooms.store.delete(f"{purpose}/{vmid}")


async def entered(rooms: Rooms, vmid: int, name: str) -> Guest | None:
    """The guest, unless somebody removed it and gave its vmid to another."""
    with contextlib.suppress(NotFound, Unreadable):
        guest = await rooms.guests.get(vmid)
        return guest if guest.name == name else None
    return None


async def left(rooms: Rooms, purpose: Purpose | None = None) -> list[Guest]:
    """Guests that somebody who was killed has left; entries of those that are gone are struck out."""
    found = []
    for each in _PURPOSES if purpose is None else (purpose,):
        for entry in await rooms.store.list(f"{each}/"):
            vmid = int(entry.key.partition("/")[2])
            guest = await entered(rooms, vmid, entry.value)
            if vmid in rooms.guests.unreadable():
                continue
            if guest is None:
                await rooms.store.delete(entry.key)
            else:
                found.append(guest)
    return found
