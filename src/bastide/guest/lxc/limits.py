"""Limits of a container as control group files, for its configuration and for a running one.

Sources: the kernel's admin-guide/cgroup-v1/memory.rst and admin-guide/cgroup-v2.rst, cpuset(7).
"""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host.cgroups import Cgroups, read
from bastide.host.qemu_facts import parse_cpu_list
from bastide.model.container import ContainerConfig

_MIB = 1024 * 1024
_PERIOD = 100_000


@dataclass(frozen=True, slots=True)
class LimitFile:
    """A file of the group and what stands in it."""

    controller: str
    name: str
    value: str


def limit_files(config: ContainerConfig, version: int, *, swap_accounting: bool = True) -> list[LimitFile]:
    """Memory, swap, CPU time and CPU weight; unlimited ones too, so that a limit can be lifted."""
    memory, swap = config.memory_mib * _MIB, config.swap_mib * _MIB
    quota = round((config.cpulimit or 0) * _PERIOD)
    if version == 1:
        units = min(262144, max(2, 1024 if config.cpuunits is None else config.cpuunits))
        files = [LimitFile("memory", "memory.limit_in_bytes", str(memory))]
        if swap_accounting:
            files.append(LimitFile("memory", "memory.memsw.limit_in_bytes", str(memory + swap)))
        return [
            *files,
            LimitFile("cpu", "cpu.cfs_period_us", str(_PERIOD)),
            LimitFile("cpu", "cpu.cfs_quota_us", str(quota or -1)),
            LimitFile("cpu", "cpu.shares", str(units)),
        ]
    units = min(10000, max(1, 100 if config.cpuunits is None else config.cpuunits))
    files = [LimitFile("memory", "memory.max", str(memory))]
    if swap_accounting:
        files.append(LimitFile("memory", "memory.swap.max", str(swap)))
    return [
        *files,
        LimitFile("cpu", "cpu.max", f"{quota or 'max'} {_PERIOD}"),
        LimitFile("cpu", "cpu.weight", str(units)),
    ]


def apply_limits(groups: Cgroups, group: str, config: ContainerConfig) -> None:
    """Set the limits of a running container. Raises HostFailure that says which one the kernel refused."""
    swap_file = "memory.memsw.limit_in_bytes" if groups.version == 1 else "memory.swap.max"
    swap_accounting = groups.has(group, "memory", swap_file)
    files = limit_files(config, groups.version, swap_accounting=swap_accounting)
    current = groups.read_int(group, "memory", "memory.limit_in_bytes")
    if groups.version == 1 and swap_accounting and current is not None and current < config.memory_mib * _MIB:
        # Version 1 keeps memory at most memory plus swap at every moment: grow the sum first.
        files[0], files[1] = files[1], files[0]
    for file in files:
        try:
            if file.name == "memory.max":
                _make_room(groups, group, int(file.value))
            groups.write(group, file.controller, file.name, file.value)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostFailure(f"cannot set {file.name} to {file.value}: {_why(file, error)}") from error


def _make_room(groups: Cgroups, group: str, limit: int) -> None:
    """Reclaim what a guest uses above a new limit. Raises OSError (EBUSY) when it needs more than that.

    Version 2 kills processes where version 1 refuses: its softer limit, which only reclaims, is tried first.
    """
    if (groups.read_int(group, "memory", "memory.current") or 0) <= limit:
        return
    try:
        groups.write(group, "memory", "memory.high", str(limit))
        if (groups.read_int(group, "memory", "memory.current") or 0) > limit:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    finally:
        groups.write(group, "memory", "memory.high", "max")


def _why(file: LimitFile, error: OSError) -> str:
    if file.controller == "memory" and error.errno == errno.EBUSY:
        return "the guest uses more than that now"
    return error.strerror or str(error)


def parse_cpus(text: str) -> list[int]:
    """CPUs of a list such as `0-3,5`."""
    return sorted(parse_cpu_list(text))


def online_cpus() -> list[int]:
    """The machine's running CPUs."""
    return parse_cpus(read(Path("/sys/devices/system/cpu/online")) or "0")


def choose_cpus(count: int | None, online: Sequence[int], used: Iterable[Sequence[int]]) -> list[int]:
    """The CPUs for a guest of `count` cores: those that the other guests' sets (`used`) hold least. Empty: all."""
    if count is None or count >= len(online):
        return []
    load = Counter(cpu for cpus in used for cpu in cpus)
    return sorted(sorted(online, key=lambda cpu: (load[cpu], cpu))[:count])


def cpu_sets(groups: Cgroups, group_of: Iterable[str]) -> list[list[int]]:
    """The CPU sets of running guests that are narrower than the machine."""
    every = len(online_cpus())
    sets = (parse_cpus(groups.read(group, "cpuset", "cpuset.cpus") or "") for group in group_of)
    return [cpus for cpus in sets if 0 < len(cpus) < every]


def apply_cpus(groups: Cgroups, group: str, cpus: Sequence[int]) -> None:
    """Set the CPUs of a running guest; none means all. Raises HostFailure.

    In version 1 a group's set must lie within its parent's at every moment: widen from outside, then narrow from
    inside. In version 2 the outer set alone counts.
    """
    value = ",".join(str(cpu) for cpu in (cpus or online_cpus()))
    folders = groups.folders(group, "cpuset")
    if groups.version == 2:
        folders = folders[:1]
    order = [*folders, *reversed(folders)] if groups.version == 1 else folders
    failure: OSError | None = None
    for folder in order:
        failure = None
        try:
            (folder / "cpuset.cpus").write_text(value)
        except FileNotFoundError:
            continue
        except OSError as error:
            failure = error
    if failure is not None:
        raise HostFailure(f"cannot set the guest's CPUs to {value}: {os.strerror(failure.errno or 0)}")
