"""Kernel settings that many guests on one machine need, raised while they do and given back afterwards (sysctl(8))."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path("/proc/sys")


def raise_to(minimum: Mapping[str, int], record: Path) -> None:
    """Raise settings (`fs/inotify/max_user_instances`) that are lower, and note the old values in the file `record`.

    A setting that cannot be raised stays: the first guest that lacks it says so.
    """
    before = _read_record(record)
    for name, value in minimum.items():
        with contextlib.suppress(OSError, ValueError):
            current = int((_ROOT / name).read_text())
            if current < value:
                before.setdefault(name, [current, value])
                record.write_text(json.dumps(before))
                (_ROOT / name).write_text(str(value))


def give_back(record: Path) -> None:
    """Restore the settings that `raise_to` noted, unless somebody has changed them since; the record is gone then."""
    for name, (old, ours) in _read_record(record).items():
        with contextlib.suppress(OSError, ValueError):
            if int((_ROOT / name).read_text()) == ours:
                (_ROOT / name).write_text(str(old))
    record.unlink(missing_ok=True)


def _read_record(record: Path) -> dict[str, list[int]]:
    try:
        found: dict[str, list[int]] = json.loads(record.read_text())
    except (OSError, ValueError):
        return {}
    return found
