"""What a placement is about, in whole numbers: rules, what hosts can take, and guests that are interchangeable.

Guests of one size, with the same devices, the same pin and the same groups are one flavour: a host gets a number of
them. A thousand guests come in few flavours, and answers that differ only in names are one.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bastide.base import units
from bastide.model.placement import PlacementGuest, PlacementHost, PlacementProblem

Resource = Literal["memory", "cores", "disk"]
RESOURCES: tuple[Resource, ...] = ("memory", "cores", "disk")


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """Something that has to hold; which one is told by `what`: a device, a guest, a host, the number of a group."""

    kind: Literal["memory", "cores", "disk", "device", "headroom", "failover", "leaving", "pinned", "apart", "together"]
    what: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """What one host can take: MiB, virtual processors, devices."""

    memory: int
    cores: int
    disk: int
    devices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Block:
    """Guests that share a host, as one: MiB, virtual processors, devices."""

    guests: tuple[PlacementGuest, ...]
    memory: int
    cores: int
    disk: int
    devices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Flavour:
    """Blocks that are interchangeable.

    `hosts` are those that may take them, `apart` how many guests of each group a block has, `at` how many of their
    guests are on each host now (by its number), `placed` how many guests are on any host now, even one that is gone.
    """

    blocks: tuple[Block, ...]
    hosts: tuple[int, ...]
    apart: Mapping[int, int]
    at: Mapping[int, int]
    placed: int
    pinned: bool

    @property
    def unit(self) -> Block:
        """What one of them takes."""
        return self.blocks[0]


def rules_of(problem: PlacementProblem) -> list[Rule]:
    """Every rule of a problem; those that are worth naming first when there is a choice come last."""
    devices = sorted({name for guest in problem.guests for name in guest.devices})
    return [
        *(Rule("pinned", guest.name) for guest in problem.guests if guest.pinned),
        *(Rule("leaving", host.name) for host in problem.hosts if host.leaving),
        *([Rule("failover")] if problem.failover else []),
        Rule("headroom"),
        *(Rule("together", str(number)) for number in range(len(problem.together))),
        *(Rule("apart", str(number)) for number in range(len(problem.apart))),
        *(Rule("device", name) for name in devices),
        Rule("disk"),
        Rule("cores"),
        Rule("memory"),
    ]


def room(host: PlacementHost, problem: PlacementProblem, rules: Collection[Rule]) -> Room:
    """What a host can take, its headroom left free."""
    headroom = problem.headroom if Rule("headroom") in rules else None
    return Room(
        memory=int(units.parse_size(host.memory) * (1 - (headroom.memory if headroom else 0) / 100)) // units.MIB,
        cores=int(host.cores * host.overcommit),
        disk=int(units.parse_size(host.disk) * (1 - (headroom.disk if headroom else 0) / 100)) // units.MIB,
        devices=host.devices,
    )


def flavours(problem: PlacementProblem, rules: Collection[Rule]) -> list[Flavour]:
    """The guests of a problem by flavour, in the order of their names."""
    groups = {
        number: frozenset(group) for number, group in enumerate(problem.apart) if Rule("apart", str(number)) in rules
    }
    member: dict[str, list[int]] = {}
    for number, names in groups.items():
        for name in names:
            member.setdefault(name, []).append(number)
    found: dict[tuple[object, ...], list[Block]] = {}
    for block in _blocks(problem, rules):
        found.setdefault(_key(block, member, rules), []).append(block)
    numbers = {host.name: number for number, host in enumerate(problem.hosts)}
    return [_flavour(problem, rules, tuple(blocks), member, numbers) for blocks in found.values()]


def _key(block: Block, member: Mapping[str, Sequence[int]], rules: Collection[Rule]) -> tuple[object, ...]:
    guest = block.guests[0]
    if len(block.guests) > 1:
        return (guest.name,)
    pinned = guest.pinned if Rule("pinned", guest.name) in rules else None
    size = (block.memory, block.cores, block.disk, *sorted(block.devices.items()))
    return (size, pinned, tuple(member.get(guest.name, ())))


def _flavour(
    problem: PlacementProblem,
    rules: Collection[Rule],
    blocks: tuple[Block, ...],
    member: Mapping[str, Sequence[int]],
    numbers: Mapping[str, int],
) -> Flavour:
    guests = [guest for block in blocks for guest in block.guests]
    pins = {guest.pinned for guest in blocks[0].guests if guest.pinned and Rule("pinned", guest.name) in rules}
    needed = [(name, count) for name, count in blocks[0].devices.items() if Rule("device", name) in rules]
    return Flavour(
        blocks=blocks,
        hosts=tuple(
            number
            for number, host in enumerate(problem.hosts)
            if pins <= {host.name}
            and not (host.leaving and Rule("leaving", host.name) in rules)
            and all(host.devices.get(name, 0) >= count for name, count in needed)
        ),
        apart=Counter(number for guest in blocks[0].guests for number in member.get(guest.name, ())),
        at=Counter(numbers[guest.host] for guest in guests if guest.host is not None and guest.host in numbers),
        placed=sum(guest.host is not None for guest in guests),
        pinned=bool(pins),
    )


def _blocks(problem: PlacementProblem, rules: Collection[Rule]) -> list[Block]:
    """The guests, those that must share a host as one."""
    head = {guest.name: guest.name for guest in problem.guests}

    def root(name: str) -> str:
        while head[name] != name:
            head[name] = head[head[name]]
            name = head[name]
        return name

    for number, group in enumerate(problem.together):
        if Rule("together", str(number)) in rules:
            for name in group[1:]:
                first, second = sorted((root(group[0]), root(name)))
                head[second] = first
    gathered: dict[str, list[PlacementGuest]] = {}
    for guest in sorted(problem.guests, key=lambda one: one.name):
        gathered.setdefault(root(guest.name), []).append(guest)
    return [_block(tuple(guests)) for guests in gathered.values()]


def _block(guests: tuple[PlacementGuest, ...]) -> Block:
    devices: Counter[str] = Counter()
    for guest in guests:
        devices.update(guest.devices)
    return Block(
        guests=guests,
        memory=sum(-(-units.parse_size(guest.memory) // units.MIB) for guest in guests),
        cores=sum(guest.cores for guest in guests),
        disk=sum(-(-units.parse_size(guest.disk) // units.MIB) for guest in guests),
        devices=devices,
    )
