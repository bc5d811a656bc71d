"""Guests over hosts, exactly: the fewest moves, then few hosts or hosts that are filled alike.

The way: interchangeable guests are counted (`flavours.py`), a rule of thumb gives a first answer
(`placement_greedy.py`), CP-SAT improves it and says what cannot be improved (`placement_model.py`); where nothing can
hold, a smallest set of rules that clash is looked for (`clashes.py`). A small problem always gets the same answer,
unless time runs out; a large one gets the best that was found in time.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from bastide.architect.clashes import clashes, obvious
from bastide.architect.flavours import Flavour, flavours, room, rules_of
from bastide.architect.placement_bounds import SCALE, Counts, least_moves, least_score, moves_of, score_of
from bastide.architect.placement_greedy import guess, rehome
from bastide.architect.placement_model import Model, Solution, remaining
from bastide.model.placement import Placement, PlacementMove, PlacementProblem

_EAGER = 20_000
"""Up to how many numbers (flavours x hosts x hosts) every host's failure is part of the model from the start."""

_NEAR = 0.01  # a score this near to its bound is good enough
_SHARE = 0.6  # of the time that is left, for one run of the solver, which does not end on the second
_FEW = 3  # hosts whose failure is looked at exactly in one round: the model grows with each
_WORTH = 1.0  # seconds below which there is no point in starting it
_EXPLAINING = 5.0  # seconds that finding out what clashes may take at least


def place(problem: PlacementProblem) -> Placement:
    """Solve a placement. Takes `problem.seconds`, and some more where nothing can hold. See `Placement`."""
    started = time.monotonic()
    until = started + problem.seconds
    if not problem.guests:
        return Placement(status="optimal")
    plain = obvious(problem)
    if plain is not None:
        return Placement(status="infeasible", clashes=(plain,), seconds=_since(started))
    search = _Search(problem, until)
    moves, score = search.run()
    if moves.status == "infeasible":
        found, minimal = clashes(problem, max(until, time.monotonic() + _EXPLAINING))
        return Placement(status="infeasible", clashes=found, minimal=minimal, seconds=_since(started))
    if moves.status == "unknown":
        return Placement(status="unknown", seconds=_since(started))
    return _answer(problem, search.flavours, moves, score, started)


class _Search:
    def __init__(self, problem: PlacementProblem, until: float) -> None:
        self._problem = problem
        self._until = until
        self._rules = frozenset(rules_of(problem))
        self.flavours = flavours(problem, self._rules)
        self._rooms = [room(host, problem, self._rules) for host in problem.hosts]
        self._failures: list[int] = []
        if problem.failover and len(self.flavours) * len(problem.hosts) ** 2 <= _EAGER:
            self._failures = list(range(len(problem.hosts)))

    def run(self) -> tuple[Solution, Solution]:
        """(answer with the fewest moves, the better one among those); a status without an answer is in both."""
        first = guess(self.flavours, self._rooms, self._problem.then)
        if first is not None and self._lost(first):
            first = None
        while True:
            moves = self._fewest_moves(first)
            if not moves.counts:
                return moves, moves
            score = self._better(moves)
            broken = [] if score.counts == first else self._broken(score.counts)
            if not broken:
                return moves, score
            self._failures += broken
            first = None
            if remaining(self._until) == 0:
                return Solution("unknown", {}), Solution("unknown", {})

    def _model(self, moves: int | None = None) -> Model:
        model = Model(self._problem, self._rules, moves=moves)
        for host in self._failures:
            model.survive(host)
        return model

    def _fewest_moves(self, first: Counts | None) -> Solution:
        least = least_moves(self.flavours, self._rooms)
        if first is None:
            return self._model().solve("moves" if self._placed else "any", remaining(self._until) * _SHARE)
        known = moves_of(self.flavours, first)
        if known == least:
            return Solution("optimal", first, known, least)
        found = self._model().solve("moves", remaining(self._until) * _SHARE, first)
        if not found.counts:
            return Solution("feasible", first, known, least)
        return replace(found, bound=max(found.bound, least))

    def _better(self, moves: Solution) -> Solution:
        then = self._problem.then
        exact = not self._placed or moves.value == least_moves(self.flavours, self._rooms)
        value = score_of(then, self.flavours, self._rooms, moves.counts)
        bound = least_score(then, self.flavours, self._rooms, moves_are_least=exact)
        known = Solution("optimal" if value <= bound else "feasible", moves.counts, value, min(value, bound))
        if value - bound <= _NEAR * value or remaining(self._until) < _WORTH:
            return known
        model = self._model(moves.value if self._placed else None)
        found = model.solve(then, remaining(self._until) * _SHARE, moves.counts)
        if not found.counts or found.value > value:
            return known
        bound = max(bound, found.bound)
        return Solution("optimal" if found.value <= bound else "feasible", found.counts, found.value, bound)

    @property
    def _placed(self) -> bool:
        return any(flavour.placed for flavour in self.flavours)

    def _lost(self, counts: Counts) -> list[int]:
        """Hosts for whose guests a rule of thumb finds no room on the others."""
        if not self._problem.failover:
            return []
        busy = sorted({host for _, host in counts})
        return [host for host in busy if not rehome(self.flavours, self._rooms, counts, host)]

    def _broken(self, counts: Counts) -> list[int]:
        """A few hosts for whose guests there is no room on the others, or none was found in time."""
        return [host for host in self._lost(counts)[:_FEW] if not self._survives(counts, host)]

    def _survives(self, counts: Counts, host: int) -> bool:
        if host in self._failures:
            return True
        model = Model(self._problem, self._rules)
        model.fix(counts)
        model.survive(host)
        return bool(model.solve("any", remaining(self._until) / _FEW).counts)


def _answer(
    problem: PlacementProblem, kinds: Sequence[Flavour], moves: Solution, score: Solution, started: float
) -> Placement:
    assignment = _named(problem, kinds, score.counts)
    scale = 100 / SCALE if problem.then == "balance" else 1
    proven = moves.status == score.status == "optimal"
    return Placement(
        status="optimal" if proven else "feasible",
        assignment=assignment,
        moves=tuple(
            PlacementMove(guest=guest.name, origin=guest.host, target=assignment[guest.name])
            for guest in problem.guests
            if guest.host is not None and guest.host != assignment[guest.name]
        ),
        moves_bound=moves.bound,
        score=round(score.value * scale, 1),
        score_bound=round(score.bound * scale, 1),
        gap=round((score.value - score.bound) / score.value, 4) if score.value else 0,
        seconds=_since(started),
    )


def _named(problem: PlacementProblem, kinds: Sequence[Flavour], counts: Counts) -> dict[str, str]:
    """Which guest of a flavour goes where: whoever is there stays there."""
    names = [host.name for host in problem.hosts]
    found: dict[str, str] = {}
    for number, flavour in enumerate(kinds):
        seats = {host: counts.get((number, host), 0) for host in flavour.hosts}
        waiting = []
        for block in flavour.blocks:
            host = next((host for host in seats if seats[host] and names[host] == block.guests[0].host), None)
            if host is None or len(block.guests) > 1:
                waiting.append(block)
                continue
            seats[host] -= 1
            found[block.guests[0].name] = names[host]
        free = (host for host, count in seats.items() for _ in range(count))
        for block, host in zip(waiting, free, strict=True):
            found.update({guest.name: names[host] for guest in block.guests})
    return {guest.name: found[guest.name] for guest in problem.guests}


def _since(started: float) -> float:
    return round(time.monotonic() - started, 2)
