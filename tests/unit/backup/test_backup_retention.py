"""Retention: Proxmox VE's rules on tables worked out by hand, and what holds for any backups."""

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.backup.retention import Kept, Verdict, marks, verdicts
from bastide.model.storage import PruneBackups

VIENNA = ZoneInfo("Europe/Vienna")
KEYS = ("keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly")


def at(text: str, *, vmid: int = 100, protected: bool = False, zone: ZoneInfo = VIENNA) -> Kept:
    taken = int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())
    return Kept(f"{text}/{vmid}", taken, ("lxc", vmid), protected)


def kept(backups: list[Kept], keep: str) -> list[str]:
    found = marks(backups, PruneBackups.model_validate(keep), VIENNA)
    return [volid.partition("/")[0] for volid, mark in found.items() if mark == "keep"]


def daily(first: str, count: int) -> list[Kept]:
    begin = datetime.fromisoformat(first)
    return [at((begin + timedelta(days=n)).isoformat(timespec="minutes")) for n in range(count)]


def test_the_guides_example_of_a_year_of_nightly_backups() -> None:
    """`keep-last=3,keep-daily=13,keep-yearly=9`: three, thirteen days before those, and a year before those."""
    nightly = daily("2025-01-01T02:30", 400)  # until 2026-02-04
    found = set(kept(nightly, "keep-last=3,keep-daily=13,keep-yearly=9"))
    assert {backup.volid.partition("/")[0] for backup in nightly[-16:]} | {"2025-12-31T02:30"} == found


def test_which_rule_keeps_a_backup_and_which_passes_over_it() -> None:
    backups = [at("2026-03-02T18:00"), at("2026-03-01T18:00"), at("2026-03-01T06:00"), at("2026-02-01T18:00")]
    backups.append(at("2026-03-01T12:00", protected=True))
    found = verdicts(backups, PruneBackups.model_validate("keep-last=1,keep-daily=2"), VIENNA)
    assert [found[backup.volid] for backup in backups] == [
        Verdict("keep", "keep-last"), Verdict("keep", "keep-daily"), Verdict("remove", "keep-daily"),
        Verdict("keep", "keep-daily"), Verdict("protected"),
    ]  # fmt: skip
    assert verdicts(backups[:2], PruneBackups.model_validate("keep-last=1"), VIENNA)[backups[1].volid] == Verdict(
        "remove"
    )


@pytest.mark.parametrize(
    ("keep", "stay"),
    [
        ("keep-last=2", ["2026-03-02T18:00", "2026-03-02T12:00"]),
        ("keep-hourly=2", ["2026-03-02T18:00", "2026-03-02T12:00"]),
        ("keep-daily=2", ["2026-03-02T18:00", "2026-03-01T18:00"]),
        # The week of the last one is covered: the weekly rule goes on with the week before.
        ("keep-last=1,keep-weekly=1", ["2026-03-02T18:00", "2026-03-01T18:00"]),
        # The daily rule passes over the 1st's morning, which goes whatever the monthly one would say of it.
        ("keep-daily=2,keep-monthly=1", ["2026-03-02T18:00", "2026-03-01T18:00", "2026-02-28T18:00"]),
        ("keep-yearly=5", ["2026-03-02T18:00", "2025-12-31T18:00"]),
        ("keep-weekly=3", ["2026-03-02T18:00", "2026-03-01T18:00", "2025-12-31T18:00"]),
        ("keep-last=0,keep-daily=1", ["2026-03-02T18:00"]),
    ],
)
def test_rules(keep: str, stay: list[str]) -> None:
    backups = [at(text) for text in (
        "2026-03-02T18:00", "2026-03-02T12:00", "2026-03-01T18:00", "2026-03-01T06:00", "2026-02-28T18:00",
        "2025-12-31T18:00", "2025-12-30T18:00",
    )]  # fmt: skip
    assert sorted(kept(backups, keep)) == sorted(stay)


def test_the_zone_says_which_day_it_is() -> None:
    backups = [at("2026-06-02T00:30"), at("2026-06-01T23:30")]  # one day in UTC
    keep = PruneBackups.model_validate("keep-daily=2")
    assert list(marks(backups, keep, VIENNA).values()) == ["keep", "keep"]
    assert list(marks(backups, keep, UTC).values()) == ["keep", "remove"]


def test_the_first_days_of_a_year_belong_to_the_last_ones_week() -> None:
    assert kept([at("2027-01-01T01:00"), at("2026-12-31T01:00")], "keep-weekly=2") == ["2027-01-01T01:00"]


@pytest.mark.parametrize("keep", ["", "keep-all=1", "keep-last=0", "keep-last=0,keep-yearly=0"])
def test_without_a_number_all_stay(keep: str) -> None:
    assert len(kept(daily("2026-01-01T01:00", 9), keep)) == 9


def test_protected_and_renamed_ones_stay_and_do_not_count() -> None:
    backups = [
        at("2026-01-04T01:00", protected=True),
        at("2026-01-03T01:00"),
        Kept("odd", at("2026-01-02T01:00").ctime, None),
        Kept("odd and dear", at("2026-01-02T01:00").ctime, None, protected=True),
        at("2026-01-01T01:00"),
    ]
    found = marks(backups, PruneBackups.model_validate("keep-last=1"), VIENNA)
    assert found == {
        "2026-01-04T01:00/100": "protected",
        "2026-01-03T01:00/100": "keep",
        "odd": "renamed",
        "odd and dear": "protected",
        "2026-01-01T01:00/100": "remove",
    }


def test_each_guest_has_its_own() -> None:
    backups = [at("2026-01-02T01:00"), at("2026-01-01T01:00", vmid=101)]
    backups.append(Kept("vm", backups[0].ctime, ("qemu", 100)))
    assert set(marks(backups, PruneBackups.model_validate("keep-last=1"), VIENNA).values()) == {"keep"}


moments = st.integers(1_600_000_000, 1_900_000_000)
some_backups = st.lists(
    st.builds(lambda ctime, vmid, protected: (ctime, vmid, protected), moments, st.integers(100, 102), st.booleans()),
    max_size=40,
    unique_by=lambda one: (one[0], one[1]),
).map(lambda rows: [Kept(f"{c}/{v}", c, ("lxc", v), p) for c, v, p in rows])
some_keep = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 5)).map(PruneBackups.model_validate)


def count(keep: PruneBackups) -> int:
    return sum(int(value) for value in keep.to_text().values())


@given(some_backups, some_keep, st.randoms())
def test_what_holds_for_any_backups(backups: list[Kept], keep: PruneBackups, chance: random.Random) -> None:
    found = marks(backups, keep, VIENNA)
    assert set(found) == {backup.volid for backup in backups}
    for vmid in (100, 101, 102):
        group = [backup for backup in backups if backup.group == ("lxc", vmid) and not backup.protected]
        stay = [backup for backup in group if found[backup.volid] == "keep"]
        assert len(stay) <= count(keep) or count(keep) == 0
        if group:  # the newest is the first of any period, so that it stays whatever the rule
            assert found[max(group, key=lambda backup: backup.ctime).volid] == "keep"
    assert {backup.volid for backup in backups if backup.protected} == {k for k, m in found.items() if m == "protected"}
    shuffled = list(backups)
    chance.shuffle(shuffled)
    assert marks(shuffled, keep, VIENNA) == found
    again = [backup for backup in backups if found[backup.volid] != "remove"]
    assert set(marks(again, keep, VIENNA).values()) <= {"keep", "protected"}


@given(some_backups, st.sampled_from(KEYS), st.integers(1, 4))
def test_one_rule_keeps_the_newest_of_its_periods(backups: list[Kept], key: str, number: int) -> None:
    """Compared with a plain selection: the newest of each period, and of these the newest ones."""
    pattern = dict(zip(KEYS, ("%s", "%Y%m%d%H", "%Y%m%d", "%G%V", "%Y%m", "%Y"), strict=True))[key]
    found = marks(backups, PruneBackups.model_validate({key: number}), VIENNA)
    for vmid in (100, 101, 102):
        newest: dict[str, Kept] = {}
        for backup in sorted(backups, key=lambda one: one.ctime):
            if backup.group == ("lxc", vmid) and not backup.protected:
                newest[datetime.fromtimestamp(backup.ctime, VIENNA).strftime(pattern)] = backup
        expected = sorted(newest.values(), key=lambda one: one.ctime)[-number:]
        assert {one.volid for one in expected} == {
            volid for volid, mark in found.items() if mark == "keep" and volid.endswith(f"/{vmid}")
        }
