"""A comparison measured for real: a container in every run, the VM beside it in the slow ones."""

import json
from pathlib import Path

import pytest

from bastide.model.comparison import TITLES, Comparison
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(500)]


FIRST_VMID = 900_000_000


def nothing_is_left(host: Host) -> bool:
    """Whether no guest and no volume of a comparison is there; others of this host may be."""
    guests = [*host.get(f"/nodes/{host.node}/lxc"), *host.get(f"/nodes/{host.node}/qemu")]
    volumes = host.get(f"/nodes/{host.node}/storage/local/content")
    return [row for row in (*guests, *volumes) if int(row.get("vmid") or 0) >= FIRST_VMID] == []


@pytest.fixture(scope="module")
def measured(host: Host) -> Comparison:
    """A comparison of containers alone, as short as it can be."""
    host.template()
    host.wait(host.post("/architect/compare", quick=1, runs=1, vm=0), 450)
    return Comparison.model_validate(host.get("/architect/compare"))


def test_a_container_is_measured(host: Host, measured: Comparison) -> None:
    assert measured.ct.missing == {}
    assert set(measured.ct.figures) == set(TITLES)
    figures = {name: figure.median for name, figure in measured.ct.figures.items()}
    assert 2**20 < figures["memory"] < 2**30
    assert 2**18 < figures["disk"] < 2**30  # its own part; the base is shared
    assert figures["cpu_single"] > 1
    assert 0 < figures["net_latency"] < 1
    assert (measured.vm, measured.ct.emulated) == (None, False)
    assert nothing_is_left(host)


def test_its_isolation_is_as_the_kernel_tells(measured: Comparison) -> None:
    isolation = measured.ct.isolation
    assert isolation["kernel"].startswith("the host's (")
    assert isolation["user"].startswith("its ids 0-65535 are the host's ")
    assert isolation["seccomp"].startswith("filter")
    assert "in its own user namespace" in isolation["capabilities"]
    assert "processor" in measured.host


def test_it_is_shown_and_drawn(host: Host, measured: Comparison, tmp_path: Path) -> None:
    shown = host.cli("compare", "--show").stdout
    assert measured.ct.figures["memory"].words(measured.ct.figures["memory"].median) in shown
    assert "seccomp" in shown
    assert json.loads(host.cli("compare", "--show", "--json").stdout) == measured.model_dump(mode="json")
    picture = tmp_path / "table.png"
    host.cli("compare", "--show", "--chart", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    assert measured.taken in [row["taken"] for row in host.get("/architect/compare/kept")]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_both_kinds_are_measured_within_minutes(host: Host) -> None:
    host.template()
    host.vm_image()
    host.wait(host.post("/architect/compare", quick=1), 1200)
    found = Comparison.model_validate(host.get("/architect/compare"))
    assert found.vm is not None
    assert (found.ct.missing, found.vm.missing) == ({}, {})
    assert found.vm.isolation["kernel"].startswith("its own (")
    ratio = found.ratio("memory")
    assert ratio is not None
    assert ratio > 2
    assert nothing_is_left(host)
