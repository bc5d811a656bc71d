"""Control groups of a host under test, looked at without walking through everybody else's, which come and go."""

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def groups_of(instance: str, below: str = "") -> list[Path]:
    """An instance's group in every hierarchy, or what lies at `below` in it (a pattern such as `*` or `100/cpu*`)."""
    while True:
        try:
            found = [*_ROOT.glob(instance), *_ROOT.glob(f"*/{instance}")]
            return [path for group in found for path in group.glob(below)] if below else found
        except FileNotFoundError:  # a guest's own group went while it was walked through
            continue
