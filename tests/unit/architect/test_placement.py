"""Guests over hosts: every answer holds, the small ones are compared with all there is, clashes are the right ones."""

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bastide.architect import placement as room
from bastide.architect.placement import place
from bastide.base.errors import InvalidParameter
from bastide.base.units import parse_size
from bastide.model import documents
from bastide.model.placement import Placement, PlacementProblem

GPU = {"gpu": 1}


def host(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "cores": 8, "memory": "16G", "disk": "100G", **values}


def guest(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "cores": 2, "memory": "2G", "disk": "8G", **values}


def problem(hosts: list[dict[str, Any]], guests: list[dict[str, Any]], **values: Any) -> PlacementProblem:
    return PlacementProblem.parse({"hosts": hosts, "guests": guests, **values})


def holds(asked: PlacementProblem, where: Mapping[str, str], up: frozenset[str] | None = None) -> bool:
    """An independent look at an assignment: every rule but failover."""
    guests = {one.name: one for one in asked.guests}
    for one in asked.hosts:
        here = [guests[name] for name, target in where.items() if target == one.name]
        if one.leaving and here:
            return False
        memory = parse_size(one.memory) * (1 - asked.headroom.memory / 100)
        disk = parse_size(one.disk) * (1 - asked.headroom.disk / 100)
        fits = (
            sum(parse_size(guest.memory) for guest in here) <= memory
            and (up is not None or sum(parse_size(guest.disk) for guest in here) <= disk)
            and (up is not None or sum(guest.cores for guest in here) <= one.cores * one.overcommit)
        )
        devices = {name for guest in here for name in guest.devices}
        fits &= all(sum(guest.devices.get(name, 0) for guest in here) <= one.devices.get(name, 0) for name in devices)
        if not fits:
            return False
    apart = all(len({where[name] for name in group if name in where}) == sum(name in where for name in group)
                for group in asked.apart)  # fmt: skip
    together = all(len({where[name] for name in group if name in where}) <= 1 for group in asked.together)
    pinned = all(one.pinned in (None, where.get(one.name, one.pinned)) for one in asked.guests)
    return apart and together and pinned


def survives(asked: PlacementProblem, where: Mapping[str, str]) -> bool:
    """Whether each host may fail, by trying every other place for its guests."""
    stuck = {one.name for one in asked.guests if one.pinned}
    for _ in asked.together:  # groups may share guests
        stuck |= {name for group in asked.together if stuck & set(group) for name in group}
    for failed in {one.name for one in asked.hosts}:
        others = [one.name for one in asked.hosts if one.name != failed and not one.leaving]
        lost = [name for name, target in where.items() if target == failed and name not in stuck]
        left = {name: target for name, target in where.items() if target != failed}
        tries = product(others, repeat=len(lost))
        if not any(holds(asked, {**left, **dict(zip(lost, to, strict=True))}, frozenset(others)) for to in tries):
            return False
    return True


def every_answer(asked: PlacementProblem) -> Iterator[dict[str, str]]:
    names = [one.name for one in asked.guests]
    for targets in product([one.name for one in asked.hosts], repeat=len(names)):
        where = dict(zip(names, targets, strict=True))
        if holds(asked, where) and (not asked.failover or survives(asked, where)):
            yield where


def moved(asked: PlacementProblem, where: Mapping[str, str]) -> int:
    return sum(one.host is not None and one.host != where[one.name] for one in asked.guests)


def score(asked: PlacementProblem, where: Mapping[str, str]) -> float:
    if asked.then == "hosts":
        return len(set(where.values()))
    sizes = {one.name: parse_size(one.memory) for one in asked.guests}
    return max(
        100 * sum(sizes[name] for name, target in where.items() if target == one.name)
        / (parse_size(one.memory) * (1 - asked.headroom.memory / 100))
        for one in asked.hosts
    )  # fmt: skip


@st.composite
def problems(draw: st.DrawFn) -> PlacementProblem:
    sizes = st.sampled_from(["1G", "3G", "5G", "7G"])
    hosts = [
        host(
            f"h{number}", memory=draw(st.sampled_from(["8G", "16G"])), cores=draw(st.integers(1, 2)), disk="40G",
            devices=draw(st.sampled_from([{}, {}, GPU])), leaving=draw(st.sampled_from([False] * 5 + [True])),
        )
        for number in range(draw(st.integers(1, 3)))
    ]  # fmt: skip
    names = [one["name"] for one in hosts]
    guests = [
        guest(
            f"g{number}", memory=draw(sizes), cores=draw(st.integers(1, 3)),
            devices=draw(st.sampled_from([{}, {}, {}, GPU])),
            host=draw(st.sampled_from([None, "gone", *names])),
            pinned=draw(st.sampled_from([None] * 8 + names)),
        )
        for number in range(draw(st.integers(1, 5)))
    ]  # fmt: skip
    pairs = list(combinations([one["name"] for one in guests], 2))
    groups = st.lists(st.sampled_from(pairs), max_size=2) if pairs else st.just([])
    return problem(
        hosts, guests, apart=draw(groups), together=draw(groups), failover=draw(st.booleans()),
        then=draw(st.sampled_from(["hosts", "balance"])), seconds=20,
    )  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems())
def test_small_problems_are_answered_as_by_trying_everything(asked: PlacementProblem) -> None:
    answers = list(every_answer(asked))
    found = place(asked)
    if not answers:
        assert found.status == "infeasible"
        assert found.clashes
        return
    fewest = min(moved(asked, where) for where in answers)
    best = min(score(asked, where) for where in answers if moved(asked, where) == fewest)
    assert found.status in ("optimal", "feasible")
    assert found.assignment in answers
    assert (len(found.moves), found.moves_bound) == (fewest, fewest)
    assert score(asked, found.assignment) <= best * 1.01 + 0.2
    assert found.score_bound <= best + 0.2


@settings(max_examples=4, deadline=None)
@given(st.lists(st.sampled_from(["700M", "1G", "2G", "3G", "6G"]), min_size=20, max_size=60), st.booleans(), st.data())
def test_larger_answers_hold(sizes: list[str], failover: bool, data: st.DataObject) -> None:
    hosts = [host(f"h{number}", memory="64G", devices={"usb": 2}) for number in range(6)]
    guests = [
        guest(f"g{n}", memory=size, cores=1, devices={"usb": 1} if n % 9 == 0 else {}, host=f"h{n % 3}")
        for n, size in enumerate(sizes)
    ]
    apart = [[f"g{number}" for number in range(start, start + 3)] for start in range(0, 12, 3)]
    asked = problem(hosts, guests, apart=apart, failover=failover, headroom={"memory": 10, "disk": 0}, seconds=20)
    found = place(asked)
    assert found.status in ("optimal", "feasible")
    assert holds(asked, found.assignment)
    assert found.moves_bound <= len(found.moves) == moved(asked, found.assignment)
    assert place(asked).assignment == found.assignment


def test_what_may_stay_stays() -> None:
    hosts = [host("pve1"), host("pve2"), host("pve3", leaving=True)]
    guests = [guest("a", host="pve1"), guest("b", host="pve1"), guest("c", host="pve3"), guest("d", host="gone")]
    found = place(problem(hosts, guests))
    assert {move.guest: move.origin for move in found.moves} == {"c": "pve3", "d": "gone"}
    assert (found.status, found.moves_bound, found.gap) == ("optimal", 2, 0)
    assert found.assignment["a"] == found.assignment["b"] == "pve1"


def test_few_hosts_or_all_alike() -> None:
    hosts, guests = [host(f"h{number}") for number in range(4)], [guest(f"g{number}") for number in range(8)]
    assert len(set(place(problem(hosts, guests, then="hosts")).assignment.values())) == 2
    balanced = place(problem(hosts, guests, then="balance"))
    assert len(set(balanced.assignment.values())) == 4
    assert balanced.score == pytest.approx(100 * 4 / 14.4, abs=0.2)


def test_room_for_the_guests_of_a_failed_host() -> None:
    hosts, guests = (
        [host(f"h{number}") for number in range(3)],
        [guest(f"g{number}", memory="4G") for number in range(6)],
    )
    asked = problem(hosts, guests, then="hosts", failover=True)
    found = place(asked)
    assert survives(asked, found.assignment)
    assert len(place(asked.model_copy(update={"failover": False})).assignment) == 6


def test_failures_are_looked_at_one_by_one_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_EAGER", 0)
    hosts = [host("h1", devices=GPU), host("h2", devices=GPU), host("h3")]
    guests = [guest("a", memory="7G", devices=GPU), *(guest(f"g{number}", memory="7G") for number in range(3))]
    asked = problem(hosts, guests, failover=True, then="hosts")
    found = place(asked)
    assert found.status in ("optimal", "feasible")
    assert survives(asked, found.assignment)


CLASHES = [
    (
        problem(
            [host("pve1", devices={"gpu": 2}), host("pve2")],
            [guest("db", devices=GPU), guest("web", devices=GPU), guest("x")],
            apart=[["db", "web"]],
        ),
        ["db and web must be apart", "db and web need gpu, which only pve1 (2) has"],
    ),
    (problem([host("pve1")], [guest("db", memory="20G")]), ["db needs 20 GiB of memory, and no host gives more"]),
    (
        problem([host("a"), host("b")], [guest(f"g{number}", memory="10G") for number in range(3)]),
        ["all guests together need 30 GiB of memory, and the hosts have 28.8 GiB of memory (10 % stay free)"],
    ),
    (
        problem([host("a"), host("b")], [guest(f"g{number}", memory="4G") for number in range(4)], failover=True),
        ["when a fails, the others have 14.4 GiB of memory for guests that need 16 GiB of memory"],
    ),
    (
        problem([host("a"), host("b")], [guest("x", pinned="a"), guest("y", pinned="b")], together=[["x", "y"]]),
        ["x is pinned to a", "y is pinned to b", "x and y must be on one host"],
    ),
    (
        problem([host("a"), host("b", leaving=True)], [guest("x"), guest("y")], apart=[["x", "y"]]),
        ["x and y must be apart, which takes 2 hosts: there are 1"],
    ),
    (
        problem([host(name) for name in "abc"], [guest(f"g{n}", memory="9G") for n in range(3)], failover=True),
        ["the guests of any one host that fails must fit on the others", "memory: of g0 9 GiB"],
    ),
    (problem([host("a", devices=GPU)], [guest("x", devices=GPU), guest("y", devices=GPU)]), ["x and y need 2 x gpu"]),
    (problem([host("a")], [guest("x", devices={"zigbee": 1})]), ["x needs zigbee, and no host has that"]),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "words"), CLASHES, ids=lambda value: "")
def test_clashes_are_told(asked: PlacementProblem, words: list[str]) -> None:
    found = place(asked)
    assert (found.status, found.minimal) == ("infeasible", True)
    told = "\n".join(found.clashes)
    assert [text for text in words if text not in told] == []


def test_a_clash_names_no_one_who_has_nothing_to_do_with_it() -> None:
    found = place(CLASHES[0][0])
    assert "x" not in " ".join(found.clashes).replace("which", "").split()


def test_nothing_to_place() -> None:
    assert place(problem([host("a")], [])) == Placement(status="optimal")


def test_more_than_the_solver_can_hold_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="over 200000"):
        problem([host(f"h{number}") for number in range(101)], [guest(f"g{number}") for number in range(2000)])


def test_no_time_is_not_an_answer_that_lies() -> None:
    hosts = [host(f"h{number}", memory="16G") for number in range(4)]
    guests = [guest(f"g{number}", memory=f"{900 + 37 * number}M") for number in range(24)]
    asked = problem(hosts, guests, seconds=0.001, failover=True)
    found = place(asked)
    assert found.status in ("unknown", "feasible", "optimal")
    if found.assignment:
        assert holds(asked, found.assignment)


@pytest.mark.parametrize(
    ("text", "place_of"),
    [
        ("hosts:\n- {name: a, cores: 1, memory: 1G, disk: 1G}\nguests:\n- {name: x, cores: 1, memory: 12}\n", "line 4"),
        ("hosts: []\nguests: []\n", "line 1"),
        ("hosts:\n- {name: a, cores: 1, memory: 1G, disk: 1G}\nguests: []\napart: [[x, y]]\n", "line 4"),
        ("hosts:\n- {name: a, cores: 1, memory: 1G, disk: 1G, gpus: 2}\nguests: []\n", "line 2"),
        (
            "hosts:\n- {name: a, cores: 1, memory: 1G, disk: 1G}\nguests:\n"
            "- {name: x, cores: 1, memory: 1G, pinned: b}\n",
            "line 3",
        ),
    ],
)
def test_a_faulty_file_is_told_by_its_line(text: str, place_of: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        documents.parse(text, PlacementProblem)
    assert [key for key in error.value.errors if key.startswith(place_of)]
