"""Tasks as they are kept and shown."""

from dataclasses import dataclass

from bastide.base.ids import Upid


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task. `endtime` (seconds since the epoch) and `exitstatus` are None while it runs.

    `exitstatus` is `OK`, `WARNINGS: n` or the error's text.
    """

    upid: Upid
    endtime: int | None = None
    exitstatus: str | None = None

    @property
    def running(self) -> bool:
        """Whether the task has not ended."""
        return self.endtime is None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a task's log, counted from 1."""

    n: int
    t: str
