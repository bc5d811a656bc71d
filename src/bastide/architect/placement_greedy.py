"""A first answer to a placement, by rule of thumb: what may stay stays, then the largest first.

The constraint solver starts from it. It is often good and never said to be the best.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bastide.architect.flavours import RESOURCES, Flavour, Room
from bastide.architect.placement_bounds import Counts


@dataclass(slots=True)
class _Load:
    """What a host carries so far."""

    room: Room
    memory: int = 0
    cores: int = 0
    disk: int = 0
    devices: dict[str, int] = field(default_factory=dict)
    groups: dict[int, int] = field(default_factory=dict)

    def takes(self, flavour: Flavour, resources: Sequence[str] = RESOURCES) -> bool:
        """Whether one more of a flavour fits."""
        unit, place = flavour.unit, self.room
        return (
            all(getattr(self, name) + getattr(unit, name) <= getattr(place, name) for name in resources)
            and all(self.devices.get(name, 0) + n <= place.devices.get(name, 0) for name, n in unit.devices.items())
            and all(self.groups.get(group, 0) + n <= 1 for group, n in flavour.apart.items())
        )

    def after(self, flavour: Flavour) -> float:
        """How full it would be with one more of a flavour, as a share of what it has least of."""
        unit, place = flavour.unit, self.room
        return max((self.memory + unit.memory) / max(1, place.memory), (self.cores + unit.cores) / max(1, place.cores))

    def add(self, flavour: Flavour, times: int = 1) -> None:
        """Carry more of a flavour."""
        unit = flavour.unit
        self.memory += times * unit.memory
        self.cores += times * unit.cores
        self.disk += times * unit.disk
        for name, n in unit.devices.items():
            self.devices[name] = self.devices.get(name, 0) + times * n
        for group, n in flavour.apart.items():
            self.groups[group] = self.groups.get(group, 0) + times * n


def guess(flavours: Sequence[Flavour], rooms: Sequence[Room], then: Literal["hosts", "balance"]) -> Counts | None:
    """An answer that respects every rule, or None where this way finds none."""
    every = frozenset(range(len(rooms)))
    best = _fill(flavours, rooms, every)
    if then == "balance" or best is None:
        return best
    # Filling alike the fewest hosts that it works with wastes less than filling one after the other.
    staying = {host for flavour in flavours for host in flavour.at}
    order = sorted(every, key=lambda host: (host not in staying, -rooms[host].memory, host))
    least, most = len(staying) + 1, len(order)
    while least < most:
        middle = (least + most) // 2
        found = _fill(flavours, rooms, frozenset(order[:middle]))
        if found is None:
            least = middle + 1
        else:
            best, most = found, middle
    return best


def _fill(flavours: Sequence[Flavour], rooms: Sequence[Room], allowed: frozenset[int]) -> Counts | None:
    """Fill some of the hosts alike."""
    loads = [_Load(room) for room in rooms]
    counts: Counts = {}
    left = {number: len(flavour.blocks) for number, flavour in enumerate(flavours)}
    weight = _weights(flavours, rooms)
    for number, host, times in _stays(flavours, weight):
        for _ in range(min(times, left[number])):
            if loads[host].takes(flavours[number]):
                _put(flavours, loads, counts, number, host)
                left[number] -= 1
    for number in sorted(left, key=lambda number: (len(flavours[number].hosts), -weight[number])):
        flavour = flavours[number]
        for _ in range(left[number]):
            hosts = [host for host in flavour.hosts if host in allowed and loads[host].takes(flavour)]
            if not hosts:
                return None
            _put(flavours, loads, counts, number, min(hosts, key=lambda host: (loads[host].after(flavour), host)))
    return counts


def rehome(
    flavours: Sequence[Flavour], rooms: Sequence[Room], counts: Mapping[tuple[int, int], int], failed: int
) -> bool:
    """Whether this way finds room for a failed host's guests on the others; False is no proof that there is none."""
    loads = [_Load(room) for room in rooms]
    homeless: dict[int, int] = {}
    for (number, host), count in counts.items():
        if host != failed:
            loads[host].add(flavours[number], count)
        elif not flavours[number].pinned:
            homeless[number] = count
    for number in sorted(homeless, key=lambda number: -flavours[number].unit.memory):
        for _ in range(homeless[number]):
            flavour = flavours[number]
            hosts = [host for host in flavour.hosts if host != failed and loads[host].takes(flavour, ("memory",))]
            if not hosts:
                return False
            loads[max(hosts, key=lambda host: loads[host].room.memory - loads[host].memory)].add(flavour)
    return True


def _stays(flavours: Sequence[Flavour], weight: Sequence[float]) -> Iterable[tuple[int, int, int]]:
    """(flavour, host, how many) of what is somewhere now: the small first, of which most can stay."""
    order = sorted(range(len(flavours)), key=lambda number: weight[number] / _members(flavours[number]))
    for number in order:
        flavour = flavours[number]
        for host, present in sorted(flavour.at.items()):
            if host in flavour.hosts:
                yield number, host, -(-present // _members(flavour))


def _members(flavour: Flavour) -> int:
    return len(flavour.unit.guests)


def _weights(flavours: Sequence[Flavour], rooms: Sequence[Room]) -> list[float]:
    """How large each flavour is, as a share of the largest host."""
    memory, cores, disk = (max(1, *(getattr(place, name) for place in rooms), 1) for name in RESOURCES)
    units = [flavour.unit for flavour in flavours]
    return [max(unit.memory / memory, unit.cores / cores, unit.disk / disk) for unit in units]


def _put(flavours: Sequence[Flavour], loads: Sequence[_Load], counts: Counts, number: int, host: int) -> None:
    loads[host].add(flavours[number])
    counts[number, host] = counts.get((number, host), 0) + 1
