"""Kernel settings that many guests on one machine need, raised while they do and given back afterwards (sysctl(8))."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host import sysctl


def raise_to(minimum: Mapping[str, int], record: Path) -> None:
    """Raise settings (`fs/inotify/max_user_instances`) that are lower, and note the old values in the file `record`.

    A setting that cannot be raised stays: the first guest that lacks it says so.
    """
    before = _read_record(record)
    for key, value in minimum.items():
        current = _number(key)
        if current is not None and current < value:
            before.setdefault(key, [current, value])
            record.write_text(json.dumps(before))
            with contextlib.suppress(HostFailure):
                sysctl.write(key, str(value))


def give_back(record: Path) -> None:
    """Restore the settings that `raise_to` noted, unless somebody has changed them since; the record is gone then."""
    for key, (old, ours) in _read_record(record).items():
        if _number(key) == ours:
            with contextlib.suppress(HostFailure):
                sysctl.write(key, str(old))
    record.unlink(missing_ok=True)


def _number(key: str) -> int | None:
    text = sysctl.read(key) or ""
    return int(text) if text.isdigit() else None


def _read_record(record: Path) -> dict[str, list[int]]:
    try:
        found: dict[str, list[int]] = json.loads(record.read_text())
    except (OSError, ValueError):
        return {}
    return found
