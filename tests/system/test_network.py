"""The network on a real kernel, in namespaces of its own (see `network_scenarios.py` for each scenario)."""

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


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str, tmp_path: Path) -> None:
    with lab() as made:
        print(made.run("network_scenarios", "run", scenario, made.tag, str(tmp_path)))
