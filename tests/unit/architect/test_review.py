"""What a review finds: each finding on both sides of its threshold."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.architect import review_kinds, review_sizes
from bastide.architect.review import judged, review, unknown
from bastide.architect.review_looks import ENOUGH
from bastide.base.units import GIB, MIB
from bastide.model.advice import Cost
from bastide.model.review import Finding, Inside, Measured, Observed, percentile95

SAMPLES, BUCKETS = 336, 336
CT = Observed(
    vmid=100, name="web", ref="web", kind="ct", running=True, cpus=4, memory_limit=1024 * MIB, disk_limit=8 * GIB,
    config={"cores": 4, "memory": 1024, "rootfs": "local:100/vm-100-disk-0.raw,size=8G", "unprivileged": 1,
            "ostype": "debian", "hostname": "web"},
    samples=SAMPLES, buckets=BUCKETS, since=1_700_000_000, disk_now=4 * GIB, inside=Inside(),
)  # fmt: skip
VM = Observed(
    vmid=101, name="db", ref="db", kind="vm", running=True, cpus=4, memory_limit=2048 * MIB, disk_limit=8 * GIB,
    config={"cores": 4, "memory": "2048", "agent": "1", "ostype": "l26", "name": "db"},
    samples=SAMPLES, buckets=BUCKETS, inside=Inside(linux=True, memory_total=2 * GIB, memory_available=GIB),
)  # fmt: skip


def steady(value: float, rare: float | None = None) -> Measured:
    """A figure of that value throughout; with `rare`, one sample in 25 is that one."""
    values = [value] * SAMPLES
    if rare is not None:
        values[::25] = [rare] * len(values[::25])
    return Measured(tuple(values), tuple(values))


FITTING: dict[str, Any] = {"memory": steady(700 * MIB), "cpu": steady(2), "disk": steady(4 * GIB)}


def fit(one: Observed, **changes: Any) -> Observed:
    """The guest with figures that fit its size, but for the changes."""
    return replace(one, **{**FITTING, "memory": steady(0.7 * one.memory_limit), **changes})


def configured(one: Observed, **options: Any) -> Observed:
    return replace(one, config={**one.config, **options})


def found(one: Observed, **costs: Any) -> dict[str, Finding]:
    return {finding.id: finding for finding in review([one], "week", **costs)}


def test_a_guest_that_fits_has_no_finding() -> None:
    assert review([fit(CT)], "week") == ()
    assert unknown(fit(CT), "week") == ()
    assert [finding.id for finding in review([fit(configured(VM, hostpci0="0000:01:00.0"))], "week")] == []


# sizes


@pytest.mark.parametrize(
    ("used", "peak", "expected"),
    [
        (200, 200, 320),  # half as much again as usual: 300, in steps of 64
        (200, 600, 768),  # a quarter above the highest minute
        (511, 511, 768),
        (512, 512, None),  # half of it is in use
        (10, 10, 128),  # never less than this
        (400, 720, None),  # 124 MiB would be saved
    ],
)
def test_memory_too_big(used: int, peak: int, expected: int | None) -> None:
    finding = found(fit(CT, memory=steady(used * MIB, peak * MIB))).get("memory-too-big")
    if expected is None:
        assert finding is None
        return
    assert finding is not None
    assert finding.commands == (f"bastide set web memory={expected}",)
    assert finding.saving.memory == (1024 - expected) * MIB
    assert (finding.severity, finding.samples, finding.since) == ("waste", SAMPLES, 1_700_000_000)
    assert f"{used} MiB" in finding.finding


def test_a_vm_keeps_what_its_system_needs() -> None:
    assert found(fit(VM, memory=steady(10 * MIB)))["memory-too-big"].commands == ("bastide set db memory=512",)


@pytest.mark.parametrize(
    ("changes", "small"),
    [
        ({"memory": steady(0.9 * 1024 * MIB)}, False),
        ({"memory": steady(0.91 * 1024 * MIB)}, True),
        ({"memory": steady(700 * MIB, 1024 * MIB)}, False),  # one sample in 25 is less than 5 %
        ({"memory_pressure": steady(9.9)}, False),
        ({"memory_pressure": steady(10)}, True),
        ({"swap": 102 * MIB}, False),
        ({"swap": 103 * MIB}, True),
        ({"oom_kills": 0}, False),
        ({"oom_kills": 1}, True),
    ],
)
def test_memory_too_small(changes: Mapping[str, Any], small: bool) -> None:
    finding = found(fit(CT, **changes)).get("memory-too-small")
    assert (finding is not None) is small
    if finding is not None:
        assert finding.severity == "risk"
        assert finding.commands == ("bastide set web memory=1536",)


def test_memory_is_never_too_small_and_too_big() -> None:
    assert set(found(fit(CT, memory=steady(10 * MIB), oom_kills=3))) == {"memory-too-small"}


@pytest.mark.parametrize(("available", "small"), [(0.10, True), (0.11, False)])
def test_a_vms_own_kernel_says_whether_its_memory_is_too_small(available: float, small: bool) -> None:
    one = fit(VM, memory=steady(2 * GIB))  # what QEMU holds says nothing
    inside = Inside(linux=True, memory_total=1000, memory_available=int(1000 * available))
    assert ("memory-too-small" in found(replace(one, inside=inside))) is small
    killed = replace(one, uptime=7200, inside=Inside(linux=True, memory_total=1000, memory_available=900, oom_kills=2))
    text = found(killed)["memory-too-small"].finding
    assert "2 processes were killed for want of memory in the 2 hours that it has run" in text


@pytest.mark.parametrize(("peak", "expected"), [(0.1, "cores=1"), (1.33, "cores=2"), (1.34, None), (3.5, None)])
def test_cores_too_many(peak: float, expected: str | None) -> None:
    finding = found(fit(CT, cpu=steady(0.1, peak))).get("cores-too-many")
    assert (finding and finding.commands) == (expected and (f"bastide set web {expected}",))


@pytest.mark.parametrize(
    ("usual", "pressure", "few"), [(3.6, 0, False), (3.7, 0, True), (2.5, 25, True), (2.5, 24, False), (2.4, 90, False)]
)
def test_cores_too_few(usual: float, pressure: float, few: bool) -> None:
    finding = found(fit(CT, cpu=steady(usual), cpu_pressure=steady(pressure))).get("cores-too-few")
    assert (finding is not None) is few
    if finding is not None:
        assert finding.commands == ("bastide set web cores=6",)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"cores": 4, "cpulimit": 4}, "cpulimit=6"),
        ({"cores": 2, "sockets": 2}, "sockets=1 cores=6"),
        ({"cores": 4, "vcpus": 4}, "cores=6 --delete vcpus"),
        ({"cores": 8, "vcpus": 4}, "vcpus=6"),
    ],
)
def test_the_option_that_limits_processors_is_named(config: Mapping[str, Any], expected: str) -> None:
    one = fit(configured(VM, **config), cpu=steady(3.9))
    assert found(one)["cores-too-few"].commands == (f"bastide set db {expected}",)


def test_processors_without_a_limit_or_emulated_are_not_judged() -> None:
    unlimited = replace(CT, config={key: value for key, value in CT.config.items() if key != "cores"})
    assert found(fit(unlimited, cpu=steady(4))) == {}
    emulated = fit(VM, cpu=steady(4), emulated=True)
    assert "cores-too-few" not in found(emulated)
    assert any("processors" in text for text in unknown(emulated, "week"))


@pytest.mark.parametrize(("used", "full"), [(0.89, False), (0.9, True)])
def test_disk_nearly_full_needs_no_samples(used: float, full: bool) -> None:
    one = replace(CT, samples=0, since=None, disk_now=int(used * 8 * GIB) + 1)
    finding = found(one).get("disk-nearly-full")
    assert (finding is not None) is full
    if finding is not None:
        assert (finding.commands, finding.samples) == (("bastide resize web +3G",), 0)


def test_a_vms_agent_says_how_full_its_disk_is() -> None:
    inside = replace(VM.inside or Inside(), disk_used=7 * GIB, disk_size=7 * GIB + GIB // 2)
    assert found(fit(replace(VM, inside=inside)))["disk-nearly-full"].commands == ("bastide resize db +3G",)


@pytest.mark.parametrize(("used", "size", "big"), [(2, 20, True), (2, 19, False), (19, 100, True), (20, 100, False)])
def test_disk_too_big(used: int, size: int, big: bool) -> None:
    one = fit(replace(CT, disk_limit=size * GIB), disk=steady(used * GIB), disk_now=used * GIB)
    assert ("disk-too-big" in found(one)) is big


def test_waiting_for_disks() -> None:
    assert "io-pressure" in found(fit(CT, io_pressure=steady(25)))
    assert "io-pressure" not in found(fit(CT, io_pressure=steady(24.9)))


# samples


@pytest.mark.parametrize(
    ("samples", "buckets", "enough"), [(29, 60, False), (30, 60, True), (33, 336, False), (34, 336, True)]
)
def test_few_samples_are_said_and_judge_nothing(samples: int, buckets: int, enough: bool) -> None:
    one = fit(CT, memory=steady(10 * MIB), cpu=steady(0.01), samples=samples, buckets=buckets)
    assert bool(found(one)) is enough
    told = judged(one, "week")
    assert told.needed == max(ENOUGH, -(-buckets // 10))
    assert any("not enough samples" in text for text in told.unknown) is not enough


def test_confidence_grows_with_the_samples() -> None:
    one = fit(CT, memory=steady(10 * MIB))
    assert found(replace(one, samples=167))["memory-too-big"].confidence == "moderate"
    assert found(replace(one, samples=168))["memory-too-big"].confidence == "high"


def test_what_could_not_be_looked_at_is_said() -> None:
    told = judged(fit(VM, inside=None, unseen="its agent did not tell within 5 seconds"), "week")
    assert told.findings == ()
    assert told.unknown == ("what runs inside: its agent did not tell within 5 seconds",)


# kinds

ENGINE = Inside(engines=("docker",))
EXPOSED = Inside(public=("203.0.113.5:443",))
BOTH = Inside(engines=("docker",), public=("203.0.113.5:443",))


@pytest.mark.parametrize(
    ("inside", "unprivileged", "expected"),
    [
        (Inside(), 1, {}),
        (Inside(), 0, {}),
        (ENGINE, 1, {"ct-engine": "note"}),
        (ENGINE, 0, {"ct-engine": "risk"}),
        (EXPOSED, 1, {}),
        (EXPOSED, 0, {"ct-privileged-exposed": "risk"}),
        (BOTH, 1, {"ct-engine-exposed": "risk"}),
        (BOTH, 0, {"ct-engine-exposed": "risk"}),
        (Inside(nfs_server=True), 0, {"ct-nfs": "risk"}),
        (Inside(nfs_mounts=("/srv/share",)), 0, {"ct-nfs": "risk"}),
        (Inside(nfs_mounts=("/srv/data", "/")), 0, {}),  # the host handed them to it
    ],
)
def test_containers_that_should_be_something_else(
    inside: Inside, unprivileged: int, expected: Mapping[str, str]
) -> None:
    one = configured(CT, unprivileged=unprivileged, mp0="/mnt/nas,mp=/srv/data/")
    findings = found(fit(one, inside=inside))
    assert {name: finding.severity for name, finding in findings.items()} == expected
    for finding in findings.values():
        assert ("privileged" in finding.finding) is not unprivileged
        assert finding.commands[0].startswith("bastide launch debian-12 web-")


def test_the_mend_of_an_exposed_engine_is_a_vm_of_the_same_size() -> None:
    finding = found(fit(CT, inside=BOTH))["ct-engine-exposed"]
    assert finding.commands == ("bastide launch debian-12 web-vm --vm --cores 4 --memory 1024M --disk 8G",)
    assert "docker" in finding.finding
    assert "203.0.113.5:443" in finding.finding


COSTS = {
    "ct": Cost(kind="ct", memory=15 * MIB, source="measured", taken="2026-01-02T03:04:05Z"),
    "vm": Cost(kind="vm", memory=215 * MIB, source="measured", taken="2026-01-02T03:04:05Z"),
}


def test_a_vm_that_needs_nothing_of_one() -> None:
    finding = found(fit(VM), costs=COSTS)["vm-needs-no-vm"]
    assert finding.saving.memory == 200 * MIB
    assert "measured 2026-01-02" in finding.effect
    assert finding.commands == ("bastide launch debian-12 db-ct --cores 4 --memory 2048M --disk 8G",)
    assert finding.confidence == "moderate"
    assert found(fit(VM))["vm-needs-no-vm"].saving.memory == 0


def test_what_emulation_costs_is_not_taken_for_what_kvm_costs() -> None:
    emulated = {**COSTS, "vm": COSTS["vm"].model_copy(update={"emulated": True})}
    assert found(fit(VM), costs=emulated)["vm-needs-no-vm"].saving.memory == 0
    assert found(fit(VM, emulated=True), costs=emulated)["vm-needs-no-vm"].saving.memory == 200 * MIB


@pytest.mark.parametrize(
    "one",
    [
        replace(VM, inside=None),
        replace(VM, inside=Inside(linux=False)),
        replace(VM, inside=Inside(linux=True, engines=("docker",))),
        replace(VM, inside=Inside(linux=True, modules=("zfs",))),
        replace(VM, inside=Inside(linux=True, public=("203.0.113.5:22",))),
        replace(VM, inside=Inside(linux=True, nfs_server=True)),
        replace(VM, inside=Inside(linux=True, nfs_mounts=("/srv",))),
        replace(VM, memory_limit=review_kinds.SMALL_MEMORY + MIB),
        replace(VM, cpus=5),
        configured(VM, ostype="win11"),
        configured(VM, hostpci0="0000:01:00.0"),
        configured(VM, usb0="host=1234:5678"),
        configured(VM, serial0="/dev/ttyS0"),
        configured(VM, args="-device x"),
    ],
)
def test_a_vm_that_needs_to_be_one(one: Observed) -> None:
    assert "vm-needs-no-vm" not in found(fit(one))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"agent": "1"}, set()),
        ({"agent": "0"}, {"vm-no-agent"}),
        ({"balloon": 0}, {"vm-no-balloon"}),
        ({"balloon": 512}, set()),
    ],
)
def test_settings_of_vms(options: Mapping[str, Any], expected: set[str]) -> None:
    one = configured(fit(VM, running=False), **options)
    assert set(found(one)) == expected
    assert all(finding.severity == "note" for finding in found(one).values())


def test_an_emulated_vm_is_noted() -> None:
    assert "vm-emulated" in found(fit(VM, emulated=True))


@pytest.mark.parametrize(("days", "old"), [(None, False), (29.9, False), (30, True)])
def test_stopped_for_long(days: float | None, old: bool) -> None:
    one = replace(CT, running=False, unused_for=None if days is None else days * 86400)
    finding = found(one).get("stopped-for-long")
    assert (finding is not None) is old
    if finding is not None:
        assert finding.commands[-1] == "bastide rm web"


def test_a_guest_of_an_odd_name_is_called_by_its_id() -> None:
    one = fit(replace(VM, name="VM 101", ref="101"), memory=steady(10 * MIB))
    commands = [command for finding in review([one], "week") for command in finding.commands]
    assert "bastide set 101 memory=512" in commands
    assert "bastide launch debian-12 guest-101-ct --cores 4 --memory 2048M --disk 8G" in commands


def test_risks_come_first_and_guests_keep_their_order() -> None:
    first = fit(replace(CT, inside=BOTH), memory=steady(10 * MIB))
    second = replace(first, vmid=50)
    findings = review([first, second], "week")
    assert [(finding.vmid, finding.severity) for finding in findings] == [
        (100, "risk"), (100, "waste"), (50, "risk"), (50, "waste"),
    ]  # fmt: skip


# properties

figures = st.lists(st.floats(0, 4 * GIB), min_size=ENOUGH, max_size=80)


@given(figures, figures, st.integers(64, 4096))
def test_more_memory_used_never_makes_it_too_big(used: list[float], more: list[float], limit: int) -> None:
    count = min(len(used), len(more))
    less = tuple(used[:count])
    much = tuple(a + b for a, b in zip(used, more, strict=False))
    one = replace(CT, samples=count, buckets=count, memory_limit=limit * MIB)
    before = replace(one, memory=Measured(less, less))
    after = replace(one, memory=Measured(much, much))
    if "memory-too-big" in found(after):
        assert "memory-too-big" in found(before)
        assert found(after)["memory-too-big"].saving.memory <= found(before)["memory-too-big"].saving.memory


@given(figures, st.integers(64, 4096))
def test_what_is_proposed_holds_what_was_used(used: list[float], limit: int) -> None:
    one = replace(CT, memory=Measured(tuple(used), tuple(used)), memory_limit=limit * MIB, samples=80)
    for name in ("memory-too-big", "memory-too-small"):
        finding = found(one).get(name)
        if finding is not None:
            proposed = int(finding.commands[0].rpartition("=")[2]) * MIB
            assert proposed >= review_sizes.MEMORY_OVER_PEAK * max(used)
            assert (proposed < limit * MIB) is (name == "memory-too-big")


@given(st.lists(st.floats(0, 1e12), min_size=1))
def test_ninety_five_percent_do_not_exceed_the_percentile(values: list[float]) -> None:
    mark = percentile95(values)
    assert mark in values
    assert sum(value <= mark for value in values) >= 0.95 * len(values)
