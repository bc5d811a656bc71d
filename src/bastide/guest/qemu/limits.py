"""Limits of a VM as control group files: processor time, weight, the CPUs it may run on, processes.

Memory has no limit here: QEMU takes what the guest was given and something for itself, and a limit that is a little too
low kills the guest. Sources: the kernel's admin-guide/cgroup-v1 and admin-guide/cgroup-v2.rst, qm.conf(5).
"""

import contextlib
import os
from dataclasses import dataclass

from bastide.base.errors import HostFailure
from bastide.host.cgroups import Cgroups, read
from bastide.model.vm import VmConfig

_PERIOD = 100_000
# A thread a virtual CPU and iothread, at most 64 for each of these to read and write, and those of a screen.
_PROCESSES = 4096


@dataclass(frozen=True, slots=True)
class LimitFile:
    """A file of the group and what stands in it."""

    controller: str
    name: str
    value: str


def limit_files(config: VmConfig, version: int) -> list[LimitFile]:
    """What the options say; unlimited ones too, so that a limit can be lifted."""
    quota = round((config.cpulimit or 0) * _PERIOD)
    if version == 1:
        units = min(262144, max(2, 1024 if config.cpuunits is None else config.cpuunits))
        return [
            LimitFile("cpu", "cpu.cfs_period_us", str(_PERIOD)),
            LimitFile("cpu", "cpu.cfs_quota_us", str(quota or -1)),
            LimitFile("cpu", "cpu.shares", str(units)),
            LimitFile("pids", "pids.max", str(_PROCESSES)),
        ]
    units = min(10000, max(1, 100 if config.cpuunits is None else config.cpuunits))
    return [
        LimitFile("cpu", "cpu.max", f"{quota or 'max'} {_PERIOD}"),
        LimitFile("cpu", "cpu.weight", str(units)),
        LimitFile("pids", "pids.max", str(_PROCESSES)),
    ]


def apply_limits(groups: Cgroups, group: str, config: VmConfig) -> None:
    """Set the limits of a group. Raises HostFailure that says which one the kernel refused."""
    for file in limit_files(config, groups.version):
        with contextlib.suppress(FileNotFoundError):
            _write(groups, group, file)
    folder = groups.path(group, "cpuset")
    if folder is None:
        if config.affinity:
            raise HostFailure("this host cannot keep a VM on some CPUs: it has no cgroup controller 'cpuset'")
        return
    cpus = config.affinity or read(folder.parent / "cpuset.cpus") or ""
    if groups.version == 2 and not config.affinity:
        cpus = ""  # the parent's
    if cpus or groups.version == 2:
        try:
            _write(groups, group, LimitFile("cpuset", "cpuset.cpus", cpus))
        except FileNotFoundError:
            if config.affinity:
                raise HostFailure("this host cannot keep a VM on some CPUs: 'cpuset' is not switched on") from None


def _write(groups: Cgroups, group: str, file: LimitFile) -> None:
    try:
        groups.write(group, file.controller, file.name, file.value + "\n")
    except FileNotFoundError:
        raise
    except OSError as error:
        why = error.strerror or os.strerror(error.errno or 0)
        raise HostFailure(f"cannot set {file.name} to {file.value or 'all'}: {why}") from error
