"""What the renderer must know of the machine, gathered once a start."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from bastide.host.cgroups import host_cgroups

_LXCFS_FILES = ("cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime")


@dataclass(frozen=True, slots=True)
class HostFeatures:
    """Facts that decide how a container's configuration looks on this machine.

    `lxcfs`: lxcfs's mount point with the files below `proc` it offers. `process_limit`: of each guest.
    `swap_accounting`: whether a swap limit can be set.
    """

    cgroup: Literal[1, 2]
    apparmor: bool
    lxcfs: Path | None = None
    lxcfs_files: tuple[str, ...] = ()
    lxcfs_cpu: bool = False
    process_limit: int = 16384
    swap_accounting: bool = True


def look(lxcfs: Path | None) -> HostFeatures:
    """The facts of this machine; `lxcfs` is where lxcfs is mounted, if it is."""
    found = () if lxcfs is None else tuple(name for name in _LXCFS_FILES if (lxcfs / "proc" / name).exists())
    return HostFeatures(
        cgroup=host_cgroups().version,
        apparmor=has_apparmor(),
        lxcfs=lxcfs if found else None,
        lxcfs_files=found,
        lxcfs_cpu=bool(found) and lxcfs is not None and (lxcfs / "sys/devices/system/cpu/online").exists(),
        process_limit=_process_limit(),
        swap_accounting=_swap_accounting(),
    )


@cache
def has_apparmor() -> bool:
    """Whether the kernel enforces AppArmor and its parser is installed."""
    try:
        enabled = Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"
    except OSError:
        return False
    return enabled and any(os.access(f"{folder}/apparmor_parser", os.X_OK) for folder in ("/usr/sbin", "/sbin"))


def all_guests_processes() -> int:
    """Processes that all guests together may have: nine of ten that the machine can have."""
    return _possible_processes() * 9 // 10


def _process_limit() -> int:
    """Processes a guest may have: never so many that one guest leaves the host, or a second guest, without."""
    return max(1024, min(32768, _possible_processes() // 2))


@cache
def _possible_processes() -> int:
    return min(int(Path(f"/proc/sys/kernel/{name}").read_text()) for name in ("pid_max", "threads-max"))


@cache
def _swap_accounting() -> bool:
    groups = host_cgroups()
    root = groups.path("", "memory")
    if root is None:
        return False
    if groups.version == 1:
        return (root / "memory.memsw.limit_in_bytes").exists()
    return Path("/proc/swaps").exists()
