"""A thousand guests on fifty hosts: how long the answer takes, and how far from the best it can be."""

import random
from collections import Counter
from typing import Any, Protocol

import pytest

from bastide.architect.placement import place
from bastide.base.units import GIB, parse_size
from bastide.model.placement import PlacementProblem

pytestmark = pytest.mark.bench

GUESTS, HOSTS, SECONDS = 1000, 50, 20.0


class Report(Protocol):
    def add(self, what: str, ours: str, by_hand: str, figure: str, bar: str, *, met: bool) -> None: ...


def cluster(seed: int, *, alike: bool, now: int, **values: Any) -> PlacementProblem:
    """Hosts of two makes, a fifth of them with GPUs; guests in a few sizes or each of its own, on `now` hosts today."""
    rng = random.Random(seed)
    hosts = [
        {"name": f"pve{n}", "cores": 32, "memory": "384G" if n % 3 else "256G", "disk": "4096G",
         "devices": {"gpu": 4} if n % 5 == 0 else {}}
        for n in range(HOSTS)
    ]  # fmt: skip
    guests = [
        {"name": f"g{n}", "cores": rng.choice([1, 2, 4, 8]), "disk": f"{rng.choice([8, 16, 32, 64])}G",
         "memory": f"{rng.choice([1, 2, 4, 8, 16, 32])}G" if alike else f"{rng.randrange(500, 20_000)}M",
         "devices": {"gpu": 1} if n % 40 == 0 else {},
         **({"host": f"pve{rng.randrange(now)}"} if now and n % 40 != 0 else {})}
        for n in range(GUESTS)
    ]  # fmt: skip
    apart = [[f"g{n + k}" for k in range(3)] for n in range(0, 180, 3)]
    together = [[f"g{n}", f"g{n + 1}"] for n in range(900, 940, 2)]
    return PlacementProblem.parse({"hosts": hosts, "guests": guests, "apart": apart, "together": together, **values})


CASES = {
    "new, alike, balance": {"alike": True, "now": 0, "then": "balance"},
    "new, alike, few hosts": {"alike": True, "now": 0, "then": "hosts"},
    "new, unlike, balance, N+1": {"alike": False, "now": 0, "then": "balance", "failover": True},
    "new, unlike, few hosts, N+1": {"alike": False, "now": 0, "then": "hosts", "failover": True},
    "moved off 25 full hosts, alike, balance": {"alike": True, "now": 25, "then": "balance"},
    "moved off 25 full hosts, unlike, N+1": {"alike": False, "now": 25, "then": "balance", "failover": True},
}


@pytest.mark.parametrize("case", CASES)
def test_a_thousand_guests(case: str, report: Report) -> None:
    asked = cluster(7, **CASES[case])
    found = place(asked)
    figure = (
        f"gap {found.gap:.2%} ({found.score:g}, at least {found.score_bound:g}); "
        f"{len(found.moves)} moves, at least {found.moves_bound}"
    )
    met = found.seconds < SECONDS and found.status in ("optimal", "feasible")
    report.add(f"placement: {case}", f"{found.seconds:.1f} s", found.status, figure, f"< {SECONDS:g} s", met=met)
    assert met
    memory: Counter[str] = Counter()
    for guest in asked.guests:
        memory[found.assignment[guest.name]] += parse_size(guest.memory)
    assert all(memory[host.name] <= parse_size(host.memory) * 0.9 + GIB / 1024 for host in asked.hosts)
