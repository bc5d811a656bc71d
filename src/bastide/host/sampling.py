"""Counters of this machine that grow while it runs, read from /proc and /sys without a process.

Sources: proc(5) for `stat`, `net/dev`, `meminfo` and `loadavg`; the kernel's `Documentation/accounting/psi.rst` for
`pressure`; `Documentation/ABI/testing/sysfs-class-net` for the network devices.
"""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
NETWORK_CLASS = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Clock ticks since boot over all CPUs. `total` holds busy, idle and waiting time; guests' time is in busy."""

    total: int
    idle: int
    iowait: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory and swap. `used` is what could not be reclaimed without swapping."""

    total: int
    free: int
    available: int
    swap_total: int
    swap_free: int

    @property
    def used(self) -> int:
        """Memory that is not available to new work."""
        return self.total - self.available

    @property
    def swap_used(self) -> int:
        """Swap in use."""
        return self.swap_total - self.swap_free


def cpu_times(proc: Path = PROC) -> CpuTimes:
    """CPU time since boot, from the first line of /proc/stat."""
    with open(proc / "stat", "rb") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    return CpuTimes(total=sum(fields), idle=fields[3], iowait=fields[4])


def memory(proc: Path = PROC) -> Memory:
    """Memory and swap, from /proc/meminfo."""
    values: dict[bytes, int] = {}
    with open(proc / "meminfo", "rb") as file:
        for line in file:
            name, _, rest = line.partition(b":")
            values[name] = int(rest.split()[0]) * 1024
    return Memory(
        total=values[b"MemTotal"],
        free=values[b"MemFree"],
        available=values[b"MemAvailable"],
        swap_total=values.get(b"SwapTotal", 0),
        swap_free=values.get(b"SwapFree", 0),
    )


def load_averages(proc: Path = PROC) -> tuple[str, str, str]:
    """Load over 1, 5 and 15 minutes, as the kernel prints it."""
    one, five, fifteen = (proc / "loadavg").read_text().split()[:3]
    return one, five, fifteen


def uptime(proc: Path = PROC) -> float:
    """Seconds since boot."""
    return float((proc / "uptime").read_text().split()[0])


def network_bytes(proc: Path = PROC, devices: Path = NETWORK_CLASS) -> tuple[int, int]:
    """Bytes received and sent by this machine's own cards since boot.

    A card is an interface with a device behind it; bridges, veth pairs and taps would count guests' traffic twice.
    A machine without such a card (a container) counts every interface but the loopback, bridges and veth ends.
    """
    counters: dict[str, tuple[int, int]] = {}
    for line in (proc / "net/dev").read_text().splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        counters[name.strip()] = (int(fields[0]), int(fields[8]))
    cards = [name for name in counters if os.path.exists(devices / name / "device")]
    if not cards:
        cards = [name for name in counters if name != "lo" and not _made_by_software(devices / name)]
    return sum(counters[name][0] for name in cards), sum(counters[name][1] for name in cards)


def _made_by_software(device: Path) -> bool:
    return (device / "bridge").exists() or (device / "tun_flags").exists() or device.name.startswith(("veth", "docker"))


def pressure(proc: Path = PROC) -> dict[str, float]:
    """Shares of the last 10 seconds (percent) in which work waited: `cpu some`, `io full` and so on.

    Empty when the kernel does not account pressure (`psi=0`).
    """
    result: dict[str, float] = {}
    for resource in ("cpu", "io", "memory"):
        try:
            text = (proc / "pressure" / resource).read_text()
        except OSError:
            continue
        for line in text.splitlines():
            kind, average, *_ = line.split()
            result[f"{resource} {kind}"] = float(average.removeprefix("avg10="))
    return result
