"""Every parser of `targets.py` on its corpus, on what hypothesis makes of it, and on a megabyte of nonsense.

Attack class 29. Longer, and with a view into the program: `guided.py`.
"""

import time
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.mutations import ALL_SHAPES, SHAPES, megabyte, mutate
from fuzz.targets import CORPUS, TARGETS, Target

NAMES = sorted(TARGETS)
WILD = st.one_of(st.binary(max_size=400), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))


def test_every_parser_has_seeds_and_every_seed_a_parser() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert [name for name in NAMES if not TARGETS[name].seeds()] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_parser_raises_its_own_errors_alone(name: str) -> None:
    """Without the `except` of any one parser this fails: a seed or what is made of it brings the error out."""
    parser = TARGETS[name]
    seeds = parser.seeds()
    for seed in seeds:
        parser(seed)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(wild=WILD, number=st.integers(0, 2**64))
    def try_(wild: bytes, number: int) -> None:
        random = Random(number)
        parser(wild)
        parser(mutate(random.choice(seeds), random, seeds))

    try_()


@pytest.mark.parametrize("name", NAMES)
def test_a_megabyte_of_anything_is_read_within_a_second(name: str) -> None:
    """Of CPU time. Quadratic time at any place in a parser fails it: a `+=` of texts in a loop, a nested search."""
    read_in_time(name, SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_megabyte_of_every_shape_is_read_within_a_second(name: str) -> None:
    read_in_time(name, ALL_SHAPES)


def read_in_time(name: str, shapes: Sequence[str]) -> None:
    seed, slow = TARGETS[name].seeds()[0][:4096], {}
    for shape in shapes:
        data = megabyte(seed, shape)
        taken = seconds(TARGETS[name], data)
        if taken > 1:  # a machine at its limits doubles even CPU time: the best of three counts
            taken = min(taken, seconds(TARGETS[name], data), seconds(TARGETS[name], data))
        if taken > 1:
            slow[shape] = taken
    assert slow == {}


def seconds(parser: Target, data: bytes) -> float:
    began = time.process_time()
    parser(data)
    return time.process_time() - began
