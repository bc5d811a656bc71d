"""`bastide compare`: measuring, the table, what is missing, the chart."""

import pytest

from bastide.model.comparison import Comparison, Figure, Side

TABLE = Comparison(
    taken="2026-11-27T01:02:03Z", quick=True, runs=3, image="debian-12", host={"processor": "4 x Test CPU"},
    ct=Side(
        kind="ct", figures={"start": Figure.of("s", [1.0, 2.0, 2.5]), "memory": Figure.of("B", [24 << 20])},
        isolation={"kernel": "the host's (6.1.0)"}, hardware={"drivers": "the host's"},
        missing={"net_out": "iperf3 is not installed on the host: apt-get install iperf3"},
    ),
    vm=Side(
        kind="vm", emulated=True, figures={"start": Figure.of("s", [80.0]), "memory": Figure.of("B", [300 << 20])},
        isolation={"kernel": "its own (6.1.0)"}, hardware={"drivers": "its own"},
    ),
)  # fmt: skip
ANSWER = TABLE.model_dump(mode="json")


@pytest.fixture
def measured(daemon):
    daemon.on("GET", "/architect/compare", ANSWER)
    daemon.task("POST", "/architect/compare", log=(" 10% CT 1: starting",))
    return daemon


def row(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_it_measures_and_shows_the_table(run, measured):
    ended = run("compare", "--quick", "--runs", "2", "--no-vm")
    assert ended.code == 0
    asked = measured.posted("POST", "/architect/compare")
    assert {name: str(value) for name, value in asked.items()} == {
        "quick": "1", "runs": "2", "image": "debian-12", "storage": "local", "vm": "0",
    }  # fmt: skip
    assert row(ended.out, "measure") == ["measure", "CT", "VM, emulated", "ratio", "better"]
    assert row(ended.out, "start") == ["start to ready", "2.00 s (1.00 s - 2.50 s)", "80.0 s", "40x", "less"]
    assert row(ended.out, "network, guest") == ["network, guest to host", "-", "-", "-", "more"]
    assert row(ended.out, "kernel") == ["kernel", "the host's (6.1.0)", "its own (6.1.0)"]
    assert "Not measured of the CT (net_out): iperf3 is not installed" in ended.out
    assert "no KVM. Its figures say nothing of VMs with KVM." in ended.out


def test_show_measures_nothing(run, measured):
    ended = run("compare", "--show", "--json")
    assert ended.json == ANSWER
    assert not measured.made("POST", "/architect/compare")


def test_an_earlier_one_is_shown(run, measured):
    assert run("compare", "--show", "--taken", "2026-11-27T01:02:03Z").code == 0
    assert measured.calls[-1][2] == {"taken": "2026-11-27T01:02:03Z"}


def test_a_failed_comparison_is_an_error(run, daemon):
    daemon.task("POST", "/architect/compare", end="no container template 'plan9'")
    ended = run("compare")
    assert ended.code != 0
    assert "plan9" in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--chart", "table.pdf"], "ends neither with .svg nor with .png"), (["--taken", "now"], "goes with --show")],
)
def test_wrong_options_are_told_before_anything_is_measured(run, measured, arguments, told):
    ended = run("compare", *arguments)
    assert ended.code == 2
    assert told in ended.err
    assert measured.calls == []


def test_containers_alone_have_no_ratio(run, daemon):
    daemon.on("GET", "/architect/compare", {**ANSWER, "vm": None, "native": ANSWER["ct"]["figures"]})
    ended = run("compare", "--show")
    assert row(ended.out, "measure") == ["measure", "CT", "host", "better"]
    assert "KVM" not in ended.out
