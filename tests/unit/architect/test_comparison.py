"""What the measuring tools print, how figures become a table, and what isolation is called."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.architect import benchmarks
from bastide.architect.comparison import (
    UNITS,
    Confinement,
    Measured,
    confinement,
    container_hardware,
    container_isolation,
    parse_uid_map,
    side,
    vm_hardware,
    vm_isolation,
)
from bastide.model.comparison import LESS_IS_BETTER, TITLES, Comparison, Figure, Side

EXTENT = benchmarks.Extent(seconds=1, file=64, path="/var/tmp/file", threads=4)
STATUS = "Name:\tsystemd\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{caps}\nSeccomp:\t{mode}\nSeccomp_filters:\t1\n"
NOT_MAPPED = "         0          0 4294967295\n"

SYSBENCH = """
CPU speed:
    events per second:  3245.63

General statistics:
    total time:                          1.0002s
"""
SYSBENCH_MEMORY = "Total operations: 16610\n\n16610.00 MiB transferred (16590.65 MiB/sec)\n"
PING = """--- 10.0.0.1 ping statistics ---
20 packets transmitted, 20 received, 0% packet loss, time 409ms
rtt min/avg/max/mdev = 0.066/0.148/0.288/0.099 ms
"""
FIO = "note: both iodepth >= 1 and synchronous I/O engine are selected\n" + json.dumps(
    {"jobs": [{"read": {"iops": 78639.36, "bw_bytes": 322106821}, "write": {"iops": 0.0, "bw_bytes": 0}}]}
)
IPERF = json.dumps({"end": {"sum_received": {"bits_per_second": 8e9}, "sum_sent": {"bits_per_second": 9e9}}})

READERS = [
    benchmarks.events_per_second, benchmarks.bytes_transferred, benchmarks.round_trip, benchmarks.iperf_throughput,
    lambda text: benchmarks.fio_figure(text, "read", "iops"),
]  # fmt: skip


def test_what_the_tools_print_is_read() -> None:
    assert benchmarks.events_per_second(SYSBENCH) == 3245.63
    assert benchmarks.bytes_transferred(SYSBENCH_MEMORY) == 16590.65 * 2**20
    assert benchmarks.round_trip(PING) == pytest.approx(148e-6)
    assert benchmarks.fio_figure(FIO, "read", "iops") == 78639.36
    assert benchmarks.fio_figure(FIO, "read", "bw_bytes") == 322106821
    assert benchmarks.iperf_throughput(IPERF) == 1e9


def test_a_tool_that_did_nothing_has_no_figure() -> None:
    with pytest.raises(ValueError, match="measured nothing"):
        benchmarks.fio_figure(FIO, "write", "iops")
    with pytest.raises(ValueError, match="unable to connect"):
        benchmarks.iperf_throughput(json.dumps({"error": "unable to connect to server"}))


@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.sampled_from(["jobs", "read", "iops", "end", "sum_received", "error"]), inner)
            ),
        ).map(json.dumps),
    )
)
def test_readers_refuse_what_is_no_output(text: str) -> None:
    for read in READERS:
        try:
            value = read(text)
        except ValueError:
            continue
        assert 0 < value < 1e18


def test_every_measure_of_a_tool_has_its_unit_and_title() -> None:
    suites = [
        *benchmarks.processor(EXTENT), *benchmarks.disk(EXTENT), *benchmarks.network(EXTENT, "10.0.0.1", 5201),
        *benchmarks.latency("10.0.0.1"),
    ]  # fmt: skip
    measured = {one.measure: one.unit for one in suites}
    assert measured.items() <= UNITS.items()
    assert UNITS.keys() == TITLES.keys()
    assert set(UNITS) - set(measured) == {"deploy", "start", "stop", "memory", "disk", "density"}
    assert UNITS.keys() > LESS_IS_BETTER


def test_all_cores_and_all_options_reach_the_tools() -> None:
    single, everything, _ = benchmarks.processor(EXTENT)
    assert "--threads=1" in single.argv
    assert "--threads=4" in everything.argv
    assert all("--direct=1" in one.argv and "--filename=/var/tmp/file" in one.argv for one in benchmarks.disk(EXTENT))
    out, back = benchmarks.network(EXTENT, "10.0.0.1", 5201)
    assert "-R" not in out.argv
    assert back.argv == (*out.argv, "-R")


@pytest.mark.parametrize(
    ("unit", "value", "words"),
    [
        ("s", 73.14, "73.1 s"), ("s", 1.934, "1.93 s"), ("s", 0.4219, "422 ms"), ("s", 0.000148, "148 µs"),
        ("B", 24.6 * 2**20, "24.6 MiB"), ("B", 512, "512 B"), ("B/s", 1.21 * 2**30, "1.21 GiB/s"),
        ("1/s", 46372, "46,372 /s"), ("guests/GB", 41.63, "41.6"), ("s", 0, "0.00 µs"),
    ],
)  # fmt: skip
def test_values_are_written_for_people(unit: str, value: float, words: str) -> None:
    assert Figure.of(unit, [value]).words(value) == words


@given(st.sampled_from(["s", "B", "B/s", "1/s", "guests/GB"]), st.floats(0, 1e17))
def test_every_value_has_few_digits(unit: str, value: float) -> None:
    number = Figure.of(unit, [value]).words(value).split()[0].replace(",", "")
    assert re.fullmatch(r"\d+(\.\d{1,2})?", number)


@given(st.lists(st.floats(1, 2**40), min_size=1, max_size=20))
def test_density_is_the_gigabyte_over_the_idle_memory(values: list[float]) -> None:
    measured = Measured()
    for value in values:
        measured.add("memory", value)
    figures = measured.figures()
    assert figures["memory"].values == tuple(values)
    assert figures["density"].values == tuple(2**30 / value for value in values)
    assert figures["density"].low <= figures["density"].median <= figures["density"].high


def test_a_reason_goes_once_there_is_a_value() -> None:
    measured = Measured()
    measured.lack("start", "it did not boot")
    measured.lack("start", "again")
    measured.lack("stop", "it did not stop")
    measured.add("stop", 1.0)
    found = side("ct", measured, {}, {}, emulated=False)
    assert found.missing == {"start": "it did not boot"}
    assert found.figures["stop"].values == (1.0,)


def test_the_ratio_is_of_medians() -> None:
    def one(kind: str, *values: float) -> Side:
        return Side(kind=kind, figures={"start": Figure.of("s", values)})

    table = Comparison(
        taken="2026-11-27T00:00:00Z", quick=True, runs=3, image="debian-12", host={}, ct=one("ct", 1, 2, 9),
        vm=one("vm", 10, 20, 21),
    )  # fmt: skip
    assert table.ratio("start") == 10
    assert table.ratio("stop") is None
    assert table.model_copy(update={"vm": None}).ratio("start") is None


def test_an_unprivileged_container_in_words() -> None:
    found = confinement(
        STATUS.format(uid=165536, caps="000001ffffffffff", mode=2), "0 165536 65536\n", "lxc-100 (enforce)\n".strip(),
        refused=21, calls=362,
    )  # fmt: skip
    words = container_isolation(found, "6.1.0")
    assert words == {
        "kernel": "the host's (6.1.0)",
        "user": "its ids 0-65535 are the host's 165536-231071",
        "seccomp": "filter, 21 of 362 system calls refused",
        "security module": "lxc-100 (enforce)",
        "capabilities": "41 of root's, valid in its own user namespace alone",
    }


def test_a_privileged_container_is_told_apart() -> None:
    found = confinement(STATUS.format(uid=0, caps="00000000000000ff", mode=0), NOT_MAPPED, "unconfined")
    words = container_isolation(found, "6.1.0")
    assert "privileged" in words["user"]
    assert words["seccomp"] == words["security module"] == "none"
    assert words["capabilities"] == "8 of root's, valid on the host"


def test_a_vm_in_words() -> None:
    found = confinement(STATUS.format(uid=900123, caps="0000000000000000", mode=2), NOT_MAPPED, None)
    words = vm_isolation(found, "6.1.0-45-amd64", "tcg")
    assert words["kernel"] == "its own (6.1.0-45-amd64)"
    assert words["machine"] == "emulation in software (TCG)"
    assert words["user"] == "QEMU runs as the host's user 900123"
    assert words["seccomp"] == "of QEMU: filter"
    assert words["capabilities"] == "of QEMU: none"
    assert "KVM" in vm_isolation(found, "6.1.0", "kvm")["machine"]


def test_hardware_in_words() -> None:
    assert container_hardware(["dri/renderD128"], buses=True)["device nodes"] == "dri/renderD128"
    assert "no IOMMU" in vm_hardware(["virtio_net"], iommu=False, buses=False)["PCI devices"]
    assert "VFIO" in vm_hardware([], iommu=True, buses=False)["PCI devices"]


@given(st.text())
def test_a_text_that_is_no_uid_map_is_refused(text: str) -> None:
    try:
        rows = parse_uid_map(text)
    except ValueError:
        return
    assert all(len(row) == 3 for row in rows)


def test_a_process_without_facts_is_refused() -> None:
    with pytest.raises((ValueError, LookupError)):
        confinement("Name: x\n", NOT_MAPPED, None)
    assert Confinement(0, ((0, 0, 4294967295),), 0, 0, 0, None).mapped is False
