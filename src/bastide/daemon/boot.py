"""Whether the machine was booted since the daemon last ran, so that `onboot` guests start with it and only then."""

from pathlib import Path

from bastide.base.layout import Layout

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def first_since_boot(layout: Layout) -> bool:
    """True at the first call after a boot of the machine (random(4), boot_id)."""
    marker = layout.runtime / "boot_id"
    current = _BOOT_ID.read_text()
    if marker.exists() and marker.read_text() == current:
        return False
    marker.write_text(current)
    return True
