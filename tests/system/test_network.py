"""The network on a real kernel, in namespaces of its own (see `network_scenarios.py` and `guard_scenarios.py`)."""

from pathlib import Path

import pytest

from framework.namespaces import lab

pytestmark = pytest.mark.system

SCENARIOS = [
    "guests_and_the_world",
    "names_cannot_be_taken",
    "repairs_itself",
    "several_on_one_machine",
    "ipv6_of_an_older_kernel",
    "rates",
    "bridges_of_the_user",
]

GUARDS = [
    "reloads",
    pytest.param("many_reloads", marks=pytest.mark.slow),
    "what_is_wrong_changes_nothing",
    "taps",
    "claimed_addresses",
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str, tmp_path: Path) -> None:
    with lab() as made:
        print(made.run("network_scenarios", "run", scenario, made.tag, str(tmp_path)))


@pytest.mark.parametrize("scenario", GUARDS)
def test_guards(scenario: str, tmp_path: Path) -> None:
    with lab() as made:
        print(made.run("guard_scenarios", "run", scenario, made.tag, str(tmp_path)))
