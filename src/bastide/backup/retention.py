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


def marks(backups: Iterable[Kept], keep: PruneBackups, zone: tzinfo) -> dict[str, Mark]:
    """What becomes of each backup, by its volume id; hours, days, weeks (ISO 8601), months, years are the zone's.

    Each guest's backups are looked at by themselves. A protected one stays and counts for nothing; nor does a renamed
    one. Without any number above 0, or with keep-all, all stay.
    """
    found: dict[str, Mark] = {}
    groups: dict[tuple[Kind, int], list[Kept]] = {}
    for backup in backups:
        if backup.protected:
            found[backup.volid] = "protected"
        elif backup.group is None:
            found[backup.volid] = "renamed"
        else:
            groups.setdefault(backup.group, []).append(backup)
    rules = [(count, period) for count, period in _rules(keep, zone) if count]
    for group in groups.values():
        newest_first = sorted(group, key=lambda backup: (backup.ctime, backup.volid), reverse=True)
        found |= _group(newest_first, rules) if rules else {backup.volid: "keep" for backup in group}
    return found


_Period = Callable[[Kept], str]


def _rules(keep: PruneBackups, zone: tzinfo) -> Sequence[tuple[int | None, _Period]]:
    if keep.keep_all:
        return []

    def by(pattern: str) -> _Period:
        return lambda backup: datetime.fromtimestamp(backup.ctime, zone).strftime(pattern)

    return [
        (keep.keep_last, lambda backup: backup.volid),
        (keep.keep_hourly, by("%Y/%m/%d/%H")),
        (keep.keep_daily, by("%Y/%m/%d")),
        (keep.keep_weekly, by("%G/%V")),
        (keep.keep_monthly, by("%Y/%m")),
        (keep.keep_yearly, by("%Y")),
    ]


def _group(newest_first: Sequence[Kept], rules: Sequence[tuple[int | None, _Period]]) -> Mapping[str, Mark]:
    found: dict[str, Mark] = {}
    for count, period in rules:
        before = {period(backup) for backup in newest_first if found.get(backup.volid) == "keep"}
        now: set[str] = set()
        for backup in newest_first:
            name = period(backup)
            if backup.volid in found or name in before:
                continue
            if name in now:
                found[backup.volid] = "remove"
            elif len(now) >= (count or 0):
                break
            else:
                now.add(name)
                found[backup.volid] = "keep"
    return {backup.volid: found.get(backup.volid, "remove") for backup in newest_first}
