"""A placement as a constraint model of OR-tools' CP-SAT solver, whose every number is whole.

`count[flavour, host]` is how many of a flavour a host gets. A host that fails is a second layer of the same numbers:
where its guests go then. Source: https://developers.google.com/optimization/reference/python/sat/python/cp_model.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from bastide.architect.flavours import RESOURCES, Flavour, Room, Rule, flavours, room
from bastide.architect.placement_bounds import SCALE, Counts, score_of
from bastide.model.placement import PlacementProblem

Goal = Literal["any", "moves", "hosts", "balance"]
_WORKERS = 2
_LOCKSTEP = 3000  # numbers in a model
_NEAR = 0.01  # shares and numbers of hosts are not worth minutes of proving the last percent


@dataclass(frozen=True, slots=True)
class Solution:
    """What the solver found. `value` is what was to be small, `bound` the least that it can be."""

    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    counts: Counts
    value: int = 0
    bound: int = 0


class Model:
    """The constraints of a problem under some of its rules. `moves` is how many guests may move at most."""

    def __init__(self, problem: PlacementProblem, rules: Collection[Rule], *, moves: int | None = None) -> None:
        from ortools.sat.python import cp_model  # noqa: PLC0415 - 80 MiB that only a process that solves shall pay

        self._sat = cp_model
        self._problem = problem
        self._rules = rules
        self._model = cp_model.CpModel()
        self.flavours: Sequence[Flavour] = flavours(problem, rules)
        self.rooms: Sequence[Room] = [room(host, problem, rules) for host in problem.hosts]
        self._count = {
            (number, host): self._model.new_int_var(0, len(flavour.blocks), f"count_{number}_{host}")
            for number, flavour in enumerate(self.flavours)
            for host in flavour.hosts
        }
        for number, flavour in enumerate(self.flavours):
            self._model.add_linear_constraint(self._sum(number, self._count), len(flavour.blocks), len(flavour.blocks))
        self._fit(self._count, RESOURCES)
        self._kept: dict[tuple[int, int], Any] = {}
        self._used: dict[int, Any] = {}
        self._fullest: Any = None
        self._moves = self._moves_expression()
        if moves is not None:
            self._model.add(self._moves <= moves)

    def _sum(self, number: int, layer: Mapping[tuple[int, int], Any]) -> Any:
        return self._sat.LinearExpr.sum(
            [layer[number, host] for host in self.flavours[number].hosts if (number, host) in layer]
        )

    def _load(self, host: int, layers: Iterable[Mapping[Any, Any]], weight: Callable[[Flavour], int]) -> Any:
        terms = [
            (layer[number, host], amount)
            for number, flavour in enumerate(self.flavours)
            if (amount := weight(flavour))
            for layer in layers
            if (number, host) in layer
        ]
        return self._sat.LinearExpr.weighted_sum([term for term, _ in terms], [amount for _, amount in terms])

    def _fit(self, layer: Mapping[Any, Any], resources: Sequence[str], *more: Mapping[Any, Any]) -> None:
        """What the layers bring together fits on each host, and stays apart."""
        layers = (layer, *more)
        groups = {group for flavour in self.flavours for group in flavour.apart}
        devices = [rule.what for rule in sorted(self._rules) if rule.kind == "device"]
        for host, place in enumerate(self.rooms):
            for name in resources:
                if Rule(name) in self._rules:  # type: ignore[arg-type]
                    load = self._load(host, layers, partial(_takes, name))
                    self._model.add_linear_constraint(load, 0, getattr(place, name))
            for device in devices:
                load = self._load(host, layers, partial(_needs, device))
                self._model.add_linear_constraint(load, 0, place.devices.get(device, 0))
            for group in sorted(groups):
                load = self._load(host, layers, partial(_members, group))
                self._model.add_linear_constraint(load, 0, 1)

    def _moves_expression(self) -> Any:
        """Guests that have a host now and are not on it afterwards."""
        stay: list[Any] = []
        weight: list[int] = []
        for number, flavour in enumerate(self.flavours):
            for host, present in flavour.at.items():
                count = self._count.get((number, host))
                if count is None:
                    continue
                if len(flavour.blocks) > 1:
                    kept = self._model.new_int_var(0, present, f"kept_{number}_{host}")
                    self._model.add(kept <= count)
                    self._kept[number, host] = kept
                    stay.append(kept)
                    weight.append(1)
                else:
                    stay.append(count)
                    weight.append(present)
        return sum(flavour.placed for flavour in self.flavours) - self._sat.LinearExpr.weighted_sum(stay, weight)

    def survive(self, failed: int) -> None:
        """Demand that the guests of a host find room on the others when it fails."""
        layer = {
            (number, host): self._model.new_int_var(0, len(flavour.blocks), f"after_{failed}_{number}_{host}")
            for number, flavour in enumerate(self.flavours)
            if not flavour.pinned and failed in flavour.hosts
            for host in flavour.hosts
            if host != failed
        }
        for number, flavour in enumerate(self.flavours):
            if not flavour.pinned and failed in flavour.hosts:
                self._model.add(self._sum(number, layer) == self._count[number, failed])
        staying = {(number, host): count for (number, host), count in self._count.items() if host != failed}
        self._fit(staying, ("memory",), layer)

    def fix(self, counts: Counts) -> None:
        """Take the answer as given; what is left to ask is whether it survives."""
        for key, count in self._count.items():
            self._model.add(count == counts.get(key, 0))

    def solve(self, goal: Goal, seconds: float, hint: Counts | None = None) -> Solution:
        """Find the answer with the least of the goal, from a first answer `hint` on. To be called once."""
        model = self._model
        if goal == "moves":
            model.minimize(self._moves)
        elif goal != "any":
            model.minimize(self._hosts_used() if goal == "hosts" else self._fullest_host())
        if hint is not None:
            self._hint(hint)
        solver = self._sat.CpSolver()
        parameters = solver.parameters
        if hint is not None:
            parameters.symmetry_level = 0  # breaking symmetries makes a hint one of the answers that are cut off
        parameters.num_workers = _WORKERS
        # In lockstep, workers give the same answer for the same model; running free, a better one for a large model,
        # which ends by time anyway.
        parameters.interleave_search = len(self._count) <= _LOCKSTEP
        parameters.random_seed = 1
        parameters.max_time_in_seconds = max(0.05, seconds)
        if goal in ("hosts", "balance"):
            parameters.relative_gap_limit = _NEAR
        return self._solution(solver, solver.solve(model), goal)

    def _hint(self, counts: Counts) -> None:
        """Start from an answer. What follows from it is told, too: a hint with gaps is seldom followed."""
        for key, count in self._count.items():
            self._model.add_hint(count, counts.get(key, 0))
        for key, kept in self._kept.items():
            self._model.add_hint(kept, min(counts.get(key, 0), self.flavours[key[0]].at[key[1]]))
        busy = {host for _, host in counts}
        for host, used in self._used.items():
            self._model.add_hint(used, host in busy)
        if self._fullest is not None:
            self._model.add_hint(self._fullest, score_of("balance", self.flavours, self.rooms, counts))

    def _solution(self, solver: Any, status: Any, goal: Goal) -> Solution:
        sat = self._sat
        if status == sat.INFEASIBLE:
            return Solution("infeasible", {})
        if status not in (sat.OPTIMAL, sat.FEASIBLE):
            return Solution("unknown", {})
        counts = {key: value for key, count in self._count.items() if (value := solver.value(count))}
        if goal == "any":
            return Solution("optimal", counts)
        value, bound = round(solver.objective_value), math.ceil(solver.best_objective_bound - 1e-6)
        return Solution("optimal" if bound >= value else "feasible", counts, value, min(value, bound))

    def _hosts_used(self) -> Any:
        self._used = {host: self._model.new_bool_var(f"used_{host}") for host in range(len(self.rooms))}
        used = list(self._used.values())
        for (number, host), count in self._count.items():
            self._model.add(count <= len(self.flavours[number].blocks) * used[host])
        for name in RESOURCES:
            if Rule(name) not in self._rules:
                continue
            rooms = [getattr(place, name) for place in self.rooms]
            for host, capacity in enumerate(rooms):
                load = self._load(host, [self._count], partial(_takes, name))
                self._model.add(load <= capacity * used[host])
            # It follows from the others, but a solver that does not see it proves nothing about few hosts.
            self._model.add(self._sat.LinearExpr.weighted_sum(used, rooms) >= self._total(name))
        return self._sat.LinearExpr.sum(used)

    def _fullest_host(self) -> Any:
        fullest = self._fullest = self._model.new_int_var(0, 100 * SCALE, "fullest")
        rooms = [place.memory for place in self.rooms]
        for host, capacity in enumerate(rooms):
            load = self._load(host, [self._count], partial(_takes, "memory"))
            self._model.add(load * SCALE <= fullest * capacity)
        self._model.add(fullest * sum(rooms) >= self._total("memory") * SCALE)
        return fullest

    def _total(self, name: str) -> int:
        return sum(len(flavour.blocks) * int(getattr(flavour.unit, name)) for flavour in self.flavours)


def _takes(name: str, flavour: Flavour) -> int:
    return int(getattr(flavour.unit, name))


def _needs(device: str, flavour: Flavour) -> int:
    return flavour.unit.devices.get(device, 0)


def _members(group: int, flavour: Flavour) -> int:
    return flavour.apart.get(group, 0)


def remaining(until: float) -> float:
    """Seconds until a moment of the monotonic clock."""
    return max(0.0, until - time.monotonic())
