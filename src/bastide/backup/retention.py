"""Which backups stay: keep-last, then one of each hour, day, week, month and year. No clock is asked.

The rules are those of Proxmox VE's guide ("Backup Retention") and of its prune simulator. Each rule looks at the
backups from the newest one on, keeps the newest of each of so many periods, and counts no period of which an earlier
rule keeps one. What it passes over within a period that it keeps one of goes, also where a later rule would keep it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Literal

from bastide.model.guest import Kind
from bastide.model.storage import PruneBackups

Mark = Literal["keep", "remove", "protected", "renamed"]


@dataclass(frozen=True, slots=True)
class Kept:
    """A backup as retention sees it. `ctime` in seconds since the epoch.

    `group` is whose backup it is; None when its name is not that of a backup, so that nobody can tell.
    """

    volid: str
    ctime: int
    group: tuple[Kind, int] | None
    protected: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a backup, and by which rule (`keep-daily`).

    One that goes has a rule when that rule keeps a newer one of the same hour, day, week, month or year; without, none
    of them keeps it.
    """

    mark: Mark
    rule: str | None = None


def marks(backups: Iterable[Kept], keep: PruneBackups, zone: tzinfo) -> dict[str, Mark]:
    """What becomes of each backup, by its volume id: see `verdicts`."""
    return {volid: verdict.mark for volid, verdict in verdicts(backups, keep, zone).items()}


def verdicts(backups: Iterable[Kept], keep: PruneBackups, zone: tzinfo) -> dict[str, Verdict]:
    """What becomes of each backup and why; hours, days, weeks (ISO 8601), months, years are the zone's.

    Each guest's backups are looked at by themselves. A protected one stays and counts for nothing; nor does a renamed
    one. Without any number above 0, or with keep-all, all stay.
    """
    found: dict[str, Verdict] = {}
    groups: dict[tuple[Kind, int], list[Kept]] = {}
    for backup in backups:
        if backup.protected:
            found[backup.volid] = Verdict("protected")
        elif backup.group is None:
            found[backup.volid] = Verdict("renamed")
        else:
            groups.setdefault(backup.group, []).append(backup)
    rules = [rule for rule in _rules(keep, zone) if rule.count]
    for group in groups.values():
        newest_first = sorted(group, key=lambda backup: (backup.ctime, backup.volid), reverse=True)
        found |= _group(newest_first, rules) if rules else {backup.volid: Verdict("keep") for backup in group}
    return found


_Period = Callable[[Kept], str]


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    count: int | None
    period: _Period


def _rules(keep: PruneBackups, zone: tzinfo) -> Sequence[_Rule]:
    if keep.keep_all:
        return []

    def by(pattern: str) -> _Period:
        return lambda backup: datetime.fromtimestamp(backup.ctime, zone).strftime(pattern)

    return [
        _Rule("keep-last", keep.keep_last, lambda backup: backup.volid),
        _Rule("keep-hourly", keep.keep_hourly, by("%Y/%m/%d/%H")),
        _Rule("keep-daily", keep.keep_daily, by("%Y/%m/%d")),
        _Rule("keep-weekly", keep.keep_weekly, by("%G/%V")),
        _Rule("keep-monthly", keep.keep_monthly, by("%Y/%m")),
        _Rule("keep-yearly", keep.keep_yearly, by("%Y")),
    ]


def _group(newest_first: Sequence[Kept], rules: Sequence[_Rule]) -> Mapping[str, Verdict]:
    found: dict[str, Verdict] = {}
    for rule in rules:
        stay = [backup for backup in newest_first if backup.volid in found and found[backup.volid].mark == "keep"]
        before = {rule.period(backup) for backup in stay}
        now: set[str] = set()
        for backup in newest_first:
            name = rule.period(backup)
            if backup.volid in found or name in before:
                continue
            if name in now:
                found[backup.volid] = Verdict("remove", rule.name)
            elif len(now) >= (rule.count or 0):
                break
            else:
                now.add(name)
                found[backup.volid] = Verdict("keep", rule.name)
    return {backup.volid: found.get(backup.volid, Verdict("remove")) for backup in newest_first}
