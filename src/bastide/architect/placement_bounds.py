"""What no placement can be better than, by plain sums: often enough to know that a first answer is the best."""

from collections.abc import Iterable, Sequence

from bastide.architect.flavours import RESOURCES, Block, Flavour, Room

SCALE = 1000
"""How finely `balance` looks at the fullest host's memory: its share in thousandths."""

Counts = dict[tuple[int, int], int]
"""How many of a flavour (by its number) are on a host (by its number); hosts that get none are left out."""


def moves_of(flavours: Sequence[Flavour], counts: Counts) -> int:
    """How many guests an answer moves."""
    stay = 0
    for number, flavour in enumerate(flavours):
        for host, present in flavour.at.items():
            count = counts.get((number, host), 0)
            stay += min(count, present) if len(flavour.blocks) > 1 else count * present
    return sum(flavour.placed for flavour in flavours) - stay


def score_of(then: str, flavours: Sequence[Flavour], rooms: Sequence[Room], counts: Counts) -> int:
    """Hosts in use, or for `balance` the fullest host's share of memory in thousandths, rounded up."""
    if then == "hosts":
        return len({host for _, host in counts})
    load = [0] * len(rooms)
    for (number, host), count in counts.items():
        load[host] += count * flavours[number].unit.memory
    return max((_share(used, place) for used, place in zip(load, rooms, strict=True) if used), default=0)


def least_moves(flavours: Sequence[Flavour], rooms: Sequence[Room]) -> int:
    """Guests that move in any answer: their host is gone, leaving, not theirs, or has too little for all on it."""
    moving = 0
    for flavour in flavours:
        here = [present for host, present in flavour.at.items() if host in flavour.hosts]
        moving += flavour.placed - (max(here, default=0) if len(flavour.blocks) == 1 else sum(here))
    return moving + sum(
        max(_leaving(_present(flavours, host), place), _crowded(flavours, host)) for host, place in enumerate(rooms)
    )


def least_score(then: str, flavours: Sequence[Flavour], rooms: Sequence[Room], *, moves_are_least: bool) -> int:
    """A score that no answer is below. `moves_are_least`: among the answers with `least_moves` moves."""
    if then == "hosts":
        return max(_fewest(_total(name, flavours), [getattr(place, name) for place in rooms]) for name in RESOURCES)
    shared = -(-_total("memory", flavours) * SCALE // max(1, sum(place.memory for place in rooms)))
    if not moves_are_least:
        return shared
    return max(shared, *(_share(_staying(_present(flavours, host), flavours, host, place), place)
                         for host, place in enumerate(rooms)))  # fmt: skip


def _present(flavours: Sequence[Flavour], host: int) -> list[Block]:
    """What is on a host now and may stay; guests that must share a host are left out."""
    return [
        flavour.unit
        for flavour in flavours
        if host in flavour.hosts and len(flavour.unit.guests) == 1
        for _ in range(flavour.at.get(host, 0))
    ]


def _leaving(blocks: Sequence[Block], place: Room) -> int:
    """How many have to go until the rest fits: at least as many as when the largest go first."""
    return max((_fewest_over([getattr(one, name) for one in blocks], getattr(place, name)) for name in RESOURCES),
               default=0)  # fmt: skip


def _crowded(flavours: Sequence[Flavour], host: int) -> int:
    """How many have to go because of guests on this host that must be apart."""
    members: dict[int, int] = {}
    for flavour in flavours:
        if host in flavour.hosts and len(flavour.unit.guests) == 1:
            for group in flavour.apart:
                members[group] = members.get(group, 0) + flavour.at.get(host, 0)
    return max((count - 1 for count in members.values() if count > 1), default=0)


def _staying(blocks: Sequence[Block], flavours: Sequence[Flavour], host: int, place: Room) -> int:
    """The least MiB that stay on a host when no more guests leave it than have to."""
    gone = max(_leaving(blocks, place), _crowded(flavours, host))
    sizes = sorted((one.memory for one in blocks), reverse=True)
    return sum(sizes[gone:])


def _fewest_over(sizes: Iterable[int], capacity: int) -> int:
    sizes = sorted(sizes, reverse=True)
    total, gone = sum(sizes), 0
    while total > capacity:
        total -= sizes[gone]
        gone += 1
    return gone


def _share(used: int, place: Room) -> int:
    return -(-used * SCALE // max(1, place.memory))


def _fewest(total: int, capacities: Iterable[int]) -> int:
    number = 0
    for capacity in sorted(capacities, reverse=True):
        if total <= 0:
            break
        total -= capacity
        number += 1
    return max(1, number)


def _total(name: str, flavours: Sequence[Flavour]) -> int:
    return sum(len(flavour.blocks) * int(getattr(flavour.unit, name)) for flavour in flavours)
