"""What disks tell of their own health (SMART), through smartctl.

Source: smartctl(8), the section on exit codes and `--json=o`, which puts the text that people read into the JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bastide.base.errors import HostFailure
from bastide.host.run import run

_LEFT = frozenset(
    {
        "Media_Wearout_Indicator", "SSD_Life_Left", "Wear_Leveling_Count", "Perc_Rated_Life_Remain", "Lifetime_Left",
        "Remaining_Lifetime_Perc", "Percent_Lifetime_Remain", "Percent_Life_Remaining", "PCT_Life_Remaining",
    }
)  # fmt: skip
"""Attributes of SSDs whose normalized value is the percentage of life that is left (names of smartctl's drivedb)."""

_COULD_NOT_OPEN = 0b11


@dataclass(frozen=True, slots=True)
class Attribute:
    """An ATA attribute: normalized values, and the vendor's raw one as text. `fail`: `now`, `past` or `-`."""

    id: int
    name: str
    value: int
    worst: int
    threshold: int
    flags: str
    raw: str
    fail: str


@dataclass(frozen=True, slots=True)
class Health:
    """A disk's health: `PASSED`, `FAILED!` or `UNKNOWN`. `left` is how much of an SSD's life is left, in percent.

    `attributes` are those of an ATA disk, None for others, which are told by `text` alone.
    """

    health: str
    text: str = ""
    attributes: tuple[Attribute, ...] | None = None
    left: int | None = None


async def read(path: str, *, health_only: bool = False) -> Health:
    """Ask a disk. Raises NotSupported when smartctl is not installed, HostFailure when it cannot ask."""
    done = await run(smart_argv(path, health_only=health_only), check=False, deadline=30)
    found = parse(done.stdout)
    if done.code & _COULD_NOT_OPEN:
        raise HostFailure(f"smartctl: {path}: {_messages(done.stdout) or 'it cannot be asked'}")
    return found


def smart_argv(path: str, *, health_only: bool = False) -> list[str]:
    """The command that asks."""
    return ["smartctl", "--json=o", "--health", *([] if health_only else ["--attributes"]), path]


def parse(text: bytes | str) -> Health:
    """Read smartctl's JSON; what a disk does not tell is left out. Raises HostFailure when it is none."""
    try:
        told: Mapping[str, Any] = json.loads(text)
        status = told.get("smart_status", {}).get("passed")
        rows = told.get("ata_smart_attributes", {}).get("table")
        return Health(
            health="UNKNOWN" if status is None else "PASSED" if status else "FAILED!",
            text="\n".join(map(str, told.get("smartctl", {}).get("output", []))),
            attributes=None if rows is None else tuple(map(_attribute, rows)),
            left=_left(told),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise HostFailure(f"smartctl: its answer cannot be read: {error!r}") from None


def _attribute(row: Mapping[str, Any]) -> Attribute:
    return Attribute(
        id=int(row["id"]),
        name=str(row["name"]),
        value=int(row.get("value", 0)),
        worst=int(row.get("worst", 0)),
        threshold=int(row.get("thresh", 0)),
        flags=str(row.get("flags", {}).get("string", "")).strip(),
        raw=str(row.get("raw", {}).get("string", "")),
        fail=str(row.get("when_failed") or "-"),
    )


def _left(told: Mapping[str, Any]) -> int | None:
    used = told.get("nvme_smart_health_information_log", {}).get("percentage_used")
    if used is None:
        used = told.get("scsi_percentage_used_endurance_indicator")
    if used is None:
        used = told.get("endurance_used", {}).get("current_percent")
    if used is not None:
        return max(0, 100 - int(used))
    rows = told.get("ata_smart_attributes", {}).get("table") or ()
    return next((int(row["value"]) for row in rows if row["name"] in _LEFT and "value" in row), None)


def _messages(text: bytes | str) -> str:
    try:
        rows = json.loads(text)["smartctl"]["messages"]
        return "; ".join(str(row["string"]) for row in rows)
    except (ValueError, KeyError, TypeError):
        return ""
