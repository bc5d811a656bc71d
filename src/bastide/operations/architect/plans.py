"""What the store holds of plans: under `plan/<name>`, which guest each service became.

A guest's entry is written before the guest is made, so that a run that was killed goes on where it stopped.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from bastide.architect.differences import Present, own
from bastide.base.errors import Locked, NotFound
from bastide.model.guest import Guest
from bastide.model.homelab import Placed, PlanRecord
from bastide.model.service import Choice
from bastide.operations.rooms import Rooms
from bastide.state.store import Entry

_PREFIX = "plan/"


class Book:
    """A plan's record, changed by several guests' work at once. An empty one is no longer kept."""

    def __init__(self, rooms: Rooms, record: PlanRecord, revision: int) -> None:
        self._rooms, self._revision = rooms, revision
        self._turn = asyncio.Lock()
        self.record = record

    @classmethod
    async def open(cls, rooms: Rooms, name: str) -> Self:
        """The record of a plan, or an empty one. Nothing is written."""
        entry = await rooms.store.get(f"{_PREFIX}{name}")
        return cls(rooms, PlanRecord(name=name), 0) if entry is None else cls(rooms, _record(entry), entry.revision)

    @property
    def guests(self) -> Mapping[str, Placed]:
        """The guests by their names."""
        return self.record.guests

    async def put(self, guests: Mapping[str, Placed]) -> None:
        """Add guests, or change what is known of them. Raises Conflict when another run wrote meanwhile."""
        async with self._turn:
            await self._write({**self.record.guests, **guests})

    async def drop(self, name: str) -> None:
        """Forget a guest."""
        async with self._turn:
            await self._write({key: value for key, value in self.record.guests.items() if key != name})

    async def claim(self, upid: str) -> None:
        """Write down the task that works on the plan."""
        async with self._turn:
            self.record = self.record.model_copy(update={"task": upid})
            await self._write(self.record.guests)

    async def refuse_busy(self) -> None:
        """Raise Locked while a task works on the plan."""
        upid = await working(self._rooms, self.record)
        if upid:
            raise Locked(f"the plan '{self.record.name}' is locked: {upid} works on it")

    async def _write(self, guests: Mapping[str, Placed]) -> None:
        record = self.record.model_copy(update={"guests": dict(guests)})
        key = f"{_PREFIX}{record.name}"
        if guests:
            entry = await self._rooms.store.put(key, record.model_dump_json(), self._revision)
            self._revision = entry.revision
        elif self._revision:
            await self._rooms.store.delete(key, self._revision)
            self._revision = 0
        self.record = record


@dataclass(frozen=True, slots=True)
class PlannedGuest:
    """A guest of a plan: its record there, and what exists of it."""

    name: str
    placed: Placed
    here: Present | None


async def working(rooms: Rooms, record: PlanRecord) -> str:
    """The UPID of the task that works on a plan now; empty without one."""
    try:
        return record.task if record.task and (await rooms.tasks.get(record.task)).running else ""
    except NotFound:
        return ""


async def known_plans(rooms: Rooms) -> list[tuple[PlanRecord, list[PlannedGuest]]]:
    """Every plan that was applied, with its guests."""
    present = await present_guests(rooms)
    found = []
    for entry in await rooms.store.list(_PREFIX):
        record = _record(entry)
        guests = [
            PlannedGuest(name, placed, own(record.name, name, placed, present))
            for name, placed in record.guests.items()
        ]
        found.append((record, guests))
    return found


async def reserved(rooms: Rooms) -> set[int]:
    """The vmids that plans have chosen, also those whose guests are not made yet."""
    records = [_record(entry) for entry in await rooms.store.list(_PREFIX)]
    return {placed.vmid for record in records for placed in record.guests.values()}


async def present_guests(rooms: Rooms) -> dict[int, Present]:
    """The guests of this host by their vmids, with the changes that wait for their next start."""
    return {guest.vmid: present_guest(rooms, guest) for guest in await rooms.guests.list()}


def present_guest(rooms: Rooms, guest: Guest) -> Present:
    """A guest as a plan looks at it."""
    kind: Choice = "ct" if guest.kind == "lxc" else "vm"
    state = str(rooms.engine(guest).state(guest.vmid))
    config: dict[str, Any] = guest.wanted_config
    name = str(config.get("hostname" if kind == "ct" else "name", guest.name))
    return Present(guest.vmid, kind, name, state, config)


async def own_guest(rooms: Rooms, plan: str, name: str, placed: Placed) -> Guest | None:
    """The guest that a plan's record means, if it is there."""
    try:
        guest = await rooms.guests.get(placed.vmid)
    except NotFound:
        return None
    return guest if own(plan, name, placed, {guest.vmid: present_guest(rooms, guest)}) is not None else None


def _record(entry: Entry) -> PlanRecord:
    return PlanRecord.model_validate_json(entry.value)
