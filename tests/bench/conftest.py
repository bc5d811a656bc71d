"""Benchmarks: ratios against the same work by hand in the same run.

    sudo ./bastide test -m bench -s tests/bench

The table is printed at the end; BASTIDE_BENCH_TABLE=FILE writes it to a file too.
"""

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from framework.host import Host


@dataclass
class Report:
    """Rows of the table."""

    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    def add(self, what: str, ours: str, by_hand: str, figure: str, bar: str, *, met: bool) -> None:
        """A measured line; `figure` is compared with the bar."""
        self.rows.append((what, ours, by_hand, figure, f"{bar}: {'met' if met else 'MISSED'}"))

    def table(self) -> str:
        """Markdown."""
        lines = [
            f"{datetime.date.today().isoformat()}, {os.cpu_count()} cores, Linux {platform.release()}, "  # noqa: DTZ011
            f"Python {platform.python_version()}",
            "",
            "| what | Bastide | by hand | figure | bar |",
            "|---|---|---|---|---|",
            *("| " + " | ".join(row) + " |" for row in self.rows),
        ]
        return "\n".join(lines)


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """The table of this run."""
    collected = Report()
    yield collected
    print("\n" + collected.table())
    if path := os.environ.get("BASTIDE_BENCH_TABLE"):
        Path(path).write_text(collected.table() + "\n")


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """The host that is measured."""
    with Host.launched(number=2) as launched:
        launched.template()
        yield launched


def milliseconds(action: Callable[[], object], times: int) -> list[float]:
    """How long an action takes, in milliseconds, sorted."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)


def median(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)
