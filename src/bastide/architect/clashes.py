"""Why nothing can hold: a smallest set of rules that clash, in words.

First what plain sums show; then rules, and after them guests, are left out in halves for as long as it still cannot
hold (QuickXplain: U. Junker, "Preferred explanations and relaxations for over-constrained problems", AAAI 2004).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from bastide.architect.flavours import Flavour, Room, Rule, flavours, room, rules_of
from bastide.architect.placement_model import Model, remaining
from bastide.base import units
from bastide.model.placement import PlacementGuest, PlacementProblem

T = TypeVar("T")

_NAMED = 6  # names in a sentence
_GUESTS = 60  # up to how many guests it is worth finding out which of them clash
_TRY = 3.0  # seconds for one question to the solver
_UNITS = {"memory": "of memory", "disk": "of disk", "cores": "virtual processors"}


def clashes(problem: PlacementProblem, until: float) -> tuple[tuple[str, ...], bool]:
    """(sentences, whether each of them is needed) for a problem that has no answer; until then at most."""
    plain = obvious(problem)
    if plain:
        return (plain,), True
    search = _Search(problem, until)
    rules = search.shrink(rules_of(problem), lambda rules: search.impossible(rules, problem.guests))
    guests: Sequence[PlacementGuest] = problem.guests
    if len(guests) <= _GUESTS:
        found = {guest.name for guest in search.shrink(list(guests), lambda some: search.impossible(rules, some))}
        guests = [guest for guest in guests if guest.name in found]
    return _words(problem, rules, guests), search.sure


class _Search:
    def __init__(self, problem: PlacementProblem, until: float) -> None:
        self._problem = problem
        self._until = until
        self.sure = True

    def impossible(self, rules: Iterable[Rule], guests: Sequence[PlacementGuest]) -> bool:
        """Whether these guests surely cannot be placed under these rules."""
        kept = frozenset(rules)
        if remaining(self._until) == 0:
            self.sure = False
            return False
        model = Model(only(self._problem, guests), kept)
        if Rule("failover") in kept:
            for host in range(len(self._problem.hosts)):
                model.survive(host)
        status = model.solve("any", min(_TRY, remaining(self._until))).status
        self.sure &= status != "unknown"
        return status == "infeasible"

    def shrink(self, items: Sequence[T], impossible: Callable[[list[T]], bool]) -> list[T]:
        """A part of the items that is impossible, and would not be without any of them."""

        def needed(base: list[T], grown: bool, rest: list[T]) -> list[T]:
            if grown and impossible(base):
                return []
            if len(rest) == 1:
                return rest
            half = len(rest) // 2
            second = needed(base + rest[half:], True, rest[:half])
            first = needed(base + second, bool(second), rest[half:])
            return first + second

        return needed([], False, list(items)) if items else []


def only(problem: PlacementProblem, guests: Sequence[PlacementGuest]) -> PlacementProblem:
    """The same problem with some of its guests; groups keep their numbers."""
    names = {guest.name for guest in guests}

    def kept(groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(name for name in group if name in names) for group in groups)

    changes = {"guests": tuple(guests), "together": kept(problem.together), "apart": kept(problem.apart)}
    return problem.model_copy(update=changes)


def obvious(problem: PlacementProblem) -> str | None:
    """Why there can be no answer, where plain sums show it."""
    rules = frozenset(rules_of(problem))
    rooms = {host.name: room(host, problem, rules) for host in problem.hosts if not host.leaving}
    if not rooms:
        return "every host is leaving"
    kinds = flavours(problem, rules)
    return _too_large(problem, rooms) or _too_much(problem, kinds, rooms) or _too_many_apart(problem, rooms)


def _too_large(problem: PlacementProblem, rooms: dict[str, Room]) -> str | None:
    for guest in problem.guests:
        for name in ("memory", "cores", "disk"):
            need = getattr(guest, name)
            size = need if name == "cores" else -(-units.parse_size(need) // units.MIB)
            have, best = max((int(getattr(place, name)), host) for host, place in rooms.items())
            if size > have:
                most = f"no host gives more than {best} with {_amount(name, have)}"
                return f"{guest.name} needs {_amount(name, size)}, and {most}{_spared(problem, name)}"
        for device, count in guest.devices.items():
            if all(place.devices.get(device, 0) < count for place in rooms.values()):
                return f"{guest.name} needs {_devices(device, count)}, and no host has that"
    return None


def _too_much(problem: PlacementProblem, kinds: Sequence[Flavour], rooms: dict[str, Room]) -> str | None:
    for name in ("memory", "cores", "disk"):
        need = sum(len(kind.blocks) * int(getattr(kind.unit, name)) for kind in kinds)
        have = {host: int(getattr(place, name)) for host, place in rooms.items()}
        if need > sum(have.values()):
            return (
                f"all guests together need {_amount(name, need)}, and the hosts have "
                f"{_amount(name, sum(have.values()))}{_spared(problem, name)}"
            )
        if problem.failover and name == "memory":
            largest = max(have, key=have.__getitem__)
            bound = sum(len(kind.blocks) * kind.unit.memory for kind in kinds if kind.pinned)
            left = sum(have.values()) - have[largest]
            if need - bound > left:
                return (
                    f"when {largest} fails, the others have {_amount(name, left)} for guests that need "
                    f"{_amount(name, need - bound)}{_spared(problem, name)}"
                )
    for device in sorted({name for guest in problem.guests for name in guest.devices}):
        need = sum(guest.devices.get(device, 0) for guest in problem.guests)
        present = sum(place.devices.get(device, 0) for place in rooms.values())
        if need > present:
            users = _names([guest.name for guest in problem.guests if device in guest.devices])
            return f"{users} need {_devices(device, need)}, and the hosts have {present}"
    return None


def _too_many_apart(problem: PlacementProblem, rooms: dict[str, Room]) -> str | None:
    for group in problem.apart:
        if len(group) > len(rooms):
            return f"{_names(group)} must be apart, which takes {len(group)} hosts: there are {len(rooms)}"
    return None


def _words(problem: PlacementProblem, rules: Sequence[Rule], guests: Sequence[PlacementGuest]) -> tuple[str, ...]:
    names = [guest.name for guest in guests]
    told = [text for rule in sorted(rules) for text in [_sentence(problem, rule, guests)] if text]
    if len(guests) < len(problem.guests):
        told.append(f"guests that cannot be placed together: {_names(names)}")
    return tuple(told)


def _sentence(problem: PlacementProblem, rule: Rule, guests: Sequence[PlacementGuest]) -> str:
    names = {guest.name for guest in guests}
    if rule.kind in ("apart", "together"):
        group = (problem.apart if rule.kind == "apart" else problem.together)[int(rule.what)]
        among = [name for name in group if name in names] or list(group)
        return f"{_names(among)} must be {rule.kind if rule.kind == 'apart' else 'on one host'}"
    if rule.kind == "device":
        counts = {host.name: host.devices.get(rule.what, 0) for host in problem.hosts}
        having = [f"{name} ({count})" if count > 1 else name for name, count in counts.items() if count]
        users = [guest.name for guest in guests if rule.what in guest.devices]
        return f"{_names(users)} {_verb(users)} {rule.what}, which only {_names(having)} {_verb(having, 'has', 'have')}"
    if rule.kind == "pinned":
        host = next(guest.pinned for guest in problem.guests if guest.name == rule.what)
        return f"{rule.what} is pinned to {host}"
    if rule.kind == "leaving":
        return f"{rule.what} is leaving and takes no guest"
    if rule.kind == "failover":
        return "the guests of any one host that fails must fit on the others"
    if rule.kind == "headroom":
        return f"{problem.headroom.memory:g} % of memory and {problem.headroom.disk:g} % of disk stay free"
    return _capacity(problem, rule.kind, guests)


def _capacity(problem: PlacementProblem, name: str, guests: Sequence[PlacementGuest]) -> str:
    kinds = flavours(only(problem, guests), frozenset())
    needs = {one.guests[0].name: int(getattr(one, name)) for kind in kinds for one in kind.blocks}
    rooms = {host.name: room(host, problem, frozenset(rules_of(problem))) for host in problem.hosts if not host.leaving}
    having = {host: int(getattr(place, name)) for host, place in rooms.items()}
    what = name if name != "cores" else "virtual processors"
    needed = _names([f"{guest.name} {_plain(name, needs[guest.name])}" for guest in guests])
    return (
        f"{what}: of {needed}, not all fit into {_names([f'{host} {_plain(name, n)}' for host, n in having.items()])}"
    )


def _verb(names: Sequence[str], one: str = "needs", many: str = "need") -> str:
    return one if len(names) == 1 else many


def _spared(problem: PlacementProblem, name: str) -> str:
    percent = {"memory": problem.headroom.memory, "disk": problem.headroom.disk}.get(name, 0)
    return f" ({percent:g} % stay free)" if percent else ""


def _devices(name: str, count: int) -> str:
    return name if count == 1 else f"{count} x {name}"


def _amount(name: str, amount: int) -> str:
    return f"{_plain(name, amount)} {_UNITS[name]}"


def _plain(name: str, amount: int) -> str:
    if name == "cores":
        return str(amount)
    return f"{amount / 1024:.4g} GiB" if amount >= 1024 else f"{amount} MiB"


def _names(names: Sequence[str]) -> str:
    shown = list(names[:_NAMED])
    if len(names) > _NAMED:
        return f"{', '.join(shown)} and {len(names) - _NAMED} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "none"
