"""Which tasks a list shows: the filters of `GET /nodes/{node}/tasks`."""

import re
from dataclasses import dataclass
from typing import Literal

from bastide.model.task import TaskRecord

Source = Literal["archive", "active", "all"]
Outcome = Literal["ok", "warning", "error", "unknown"]

_WARNINGS = re.compile(r"WARNINGS: \d+")


def outcome(record: TaskRecord) -> Outcome:
    """How a task ended, in the words of `statusfilter`; `unknown` while it runs."""
    if record.exitstatus is None:
        return "unknown"
    if record.exitstatus == "OK":
        return "ok"
    return "warning" if _WARNINGS.fullmatch(record.exitstatus) else "error"


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """What must be true of a task; None and empty mean no matter.

    `vmid` is what the task works on; `userfilter` a part of the user or token id; `since` and `until` are start times
    in epoch seconds, both included; `owner` is exactly one user, with all their tokens, or one token (`ada@pve!ci`).
    """

    vmid: int | str | None = None
    typefilter: str | None = None
    userfilter: str | None = None
    statusfilter: frozenset[str] = frozenset()
    since: int | None = None
    until: int | None = None
    errors: bool = False
    source: Source = "all"
    owner: str | None = None

    def matches(self, record: TaskRecord) -> bool:
        """Whether the list shows the task."""
        upid = record.upid
        return not (
            (self.source == "archive" and record.running)
            or (self.source == "active" and not record.running)
            or (self.vmid is not None and upid.id != str(self.vmid))
            or (self.typefilter is not None and upid.type != self.typefilter)
            or (self.userfilter is not None and self.userfilter.lower() not in upid.user.lower())
            or (self.since is not None and upid.starttime < self.since)
            or (self.until is not None and upid.starttime > self.until)
            or (self.owner is not None and self.owner not in (upid.user, upid.user.partition("!")[0]))
            or (self.errors and outcome(record) != "error")
            or (self.statusfilter and outcome(record) not in self.statusfilter)
        )
