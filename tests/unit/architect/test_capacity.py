"""What fits, and when a storage is full: the reckoning."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.architect import capacity, published
from bastide.architect.outlook import DAY, outlook
from bastide.base.units import GIB, MIB
from bastide.model.advice import Cost
from bastide.model.capacity import Example, Outlook, Resource, StorageRoom

SMALL = Example()
KVM = Cost(kind="vm", memory=600 * MIB, source="measured", taken="2026-01-01T00:00:00Z")


def memory(total: int = 16, promised: int = 4, host: int = 1) -> Resource:
    return Resource(total=total * GIB, used=3 * GIB, promised=promised * GIB, spared=total * GIB // 10, host=host * GIB)


def cores(total: int = 16, promised: int = 4) -> Resource:
    return Resource(total=total, used=1, promised=promised, spared=0)


def storage(name: str = "local", free: int = 60, kinds: tuple[str, ...] = ("ct", "vm")) -> StorageRoom:
    space = Resource(total=100 * GIB, used=10 * GIB, promised=(80 - free) * GIB, spared=20 * GIB)
    return StorageRoom(storage=name, kinds=kinds, space=space, outlook=Outlook(sentence="never"))


def fit(kind: str = "ct", example: Example = SMALL, cost: Cost | None = None, storages=None, **values):
    values = {"cores": cores(), "memory": memory(), **values}
    return capacity.fit(kind, example, storages=[storage()] if storages is None else storages, cost=cost, **values)


def test_the_scarcest_thing_ends_it() -> None:
    assert (fit().count, fit().limit, fit().each) == (12, "cores", {"memory": 18, "cores": 12, "disk": 15})
    assert (fit(memory=memory(promised=11)).count, fit(memory=memory(promised=11)).limit) == (4, "memory")
    assert (fit(storages=[storage(free=9)]).count, fit(storages=[storage(free=9)]).limit) == (2, "disk")
    assert fit().why == "virtual processors end it: 4 of 16 promised to guests"
    assert "disk space on local ends it: 71.0 GiB of 100.0 GiB promised" in fit(storages=[storage(free=9)]).why


def test_what_is_promised_beyond_the_total_leaves_nothing() -> None:
    found = fit(memory=memory(promised=40))
    assert (found.count, found.limit) == (0, "memory")
    assert found.why.startswith("memory is used up")


def test_the_storage_with_most_room_counts_and_the_kind_that_it_takes() -> None:
    storages = [storage("a", 8), storage("b", 40, ("ct",)), storage("c", 20, ("vm",))]
    assert [fit(kind, storages=storages).each["disk"] for kind in ("ct", "vm")] == [10, 5]
    none = fit("vm", storages=[storage(kinds=("ct",))])
    assert (none.count, none.limit, none.why) == (0, "storage", "no storage takes VMs")


def test_a_vm_takes_what_it_costs() -> None:
    assert fit("vm", cost=KVM).each["memory"] == (16 * GIB - 16 * GIB // 10 - 5 * GIB) // (600 * MIB)
    assert fit("vm", Example(memory=2 * GIB), KVM).each["memory"] == 4
    assert fit("vm", cost=KVM).idle == (16 * GIB - 16 * GIB // 10 - 3 * GIB) // (600 * MIB)


def test_figures_of_emulated_vms_are_marked() -> None:
    emulated = published.cost("vm", kvm=False)
    assert fit("vm", cost=emulated).emulated
    assert not fit("ct", cost=published.cost("ct", kvm=False)).emulated
    assert fit("vm", cost=published.cost("vm", kvm=True)).idle is None


def test_several_hosts_of_which_one_may_fail() -> None:
    disk = Resource(total=1000 * GIB, used=0, promised=0, spared=0)
    host = (cores(100, 0), memory(16, 4, 0), disk)
    each = host[1].free // (512 * MIB)
    assert capacity.across([host] * 3, SMALL, failover=False) == 3 * each
    # Two hosts carry the 12 GiB of all three, and the new ones.
    left = 2 * (16 * GIB - 16 * GIB // 10) - 12 * GIB
    assert capacity.across([host] * 3, SMALL, failover=True) == left // (512 * MIB) < 3 * each
    assert capacity.across([host], SMALL, failover=True) == 0
    assert capacity.across([], SMALL, failover=True) == 0


@given(
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(0, 256),
    st.integers(0, 256),
    st.integers(0, 80),
    st.integers(1, 64),
)
def test_one_more_than_fits_would_break_a_promise(
    cpu: int, gib: int, promised: int, used: int, free: int, size: int
) -> None:
    example = Example(cores=1, memory=size * 256 * MIB, disk=GIB)
    ram = Resource(total=gib * GIB, used=used, promised=promised * 128 * MIB, spared=gib * GIB // 10)
    found = fit("ct", example, cores=cores(cpu, 0), memory=ram, storages=[storage(free=free)])
    taken = found.count * example.memory + ram.promised + ram.spared
    assert found.count == 0 or taken <= ram.total
    more = found.count + 1
    assert more > cpu or more > free or more * example.memory > ram.free


def series(
    days: float, rate: float, step: float = 1800, start: float = 10 * GIB, noise: float = 0
) -> list[tuple[float, float]]:
    rng = random.Random(3)
    count = int(days * DAY / step) + 1
    return [(n * step, start + rate * n * step / DAY + rng.gauss(0, 1) * noise) for n in range(count)]


def test_a_storage_that_fills_up() -> None:
    samples = series(14, 1.2 * GIB, noise=0.2 * GIB)
    found = outlook(samples, total=round(76 * GIB), used=samples[-1][1])
    assert found.days is not None
    assert found.days == pytest.approx((76 - 26.8) / 1.2, rel=0.05)
    assert found.soonest <= found.days <= found.latest
    assert found.sentence.startswith("in about 41 days at 1.2 GiB a day, from 14 days of samples")


def test_one_large_upload_does_not_bend_it() -> None:
    samples = [
        (at, used + (400 * GIB if 100 < number < 130 else 0)) for number, (at, used) in enumerate(series(14, GIB))
    ]
    assert outlook(samples, 1000 * GIB, samples[-1][1]).rate == pytest.approx(GIB, rel=0.05)


def test_shrinking_is_never_and_little_is_not_known() -> None:
    shrinking = outlook(series(7, -GIB, start=100 * GIB), 200 * GIB, 93 * GIB)
    assert shrinking.days is None
    assert shrinking.sentence == "never at this rate: shrinking, from 7 days of samples"
    assert "not growing" in outlook(series(7, 0), 200 * GIB, 10 * GIB).sentence
    assert "hardly growing" in outlook(series(7, 1000), 200 * GIB, 10 * GIB).sentence
    assert outlook([], 1, 0).sentence == "not known: nothing was sampled yet"
    short = outlook(series(0.25, GIB), 200 * GIB, 10 * GIB)
    assert (short.days, short.sentence) == (None, "not known yet: 6 hours of samples, a day is needed at least")
    few = [(0.0, 1.0), (2 * DAY, 5.0)]
    assert outlook(few, 100, 5).sentence == "not known yet: too few samples in 2 days"
    assert outlook(series(14, GIB), 20 * GIB, 20 * GIB).sentence == "full"


def test_noise_larger_than_growth_is_told() -> None:
    samples = series(3, 0.02 * GIB, step=6 * 3600, noise=2 * GIB)
    found = outlook(samples, 100 * GIB, 10 * GIB)
    assert found.latest is None
    assert "may as well not be growing" in found.sentence or "never" in found.sentence


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e15)), max_size=40), st.integers(0, 10**15), st.floats(0, 1e15)
)
def test_any_samples_have_a_sentence(samples: list[tuple[float, float]], total: int, used: float) -> None:
    found = outlook(samples, total, used)
    assert found.sentence
    if found.days:
        assert found.soonest is not None
        assert found.soonest <= found.days * 1.000001
