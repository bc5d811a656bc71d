"""What this machine is: processors, kernel, firmware, root file system, clock. No process is started.

Sources: proc(5), sysfs(5), uname(2), statvfs(3), localtime(5), `Documentation/ABI/testing/sysfs-kernel-mm-ksm`.
"""

import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bastide.base.errors import InvalidParameter
from bastide.host import sampling

ZONEINFO = Path("/usr/share/zoneinfo")
_EFI = Path("/sys/firmware/efi")
_SECURE_BOOT = _EFI / "efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_KSM_SHARING = Path("/sys/kernel/mm/ksm/pages_sharing")


@dataclass(frozen=True, slots=True)
class Processors:
    """The processors: `cpus` logical ones on `cores` physical cores in `sockets`; `mhz` of the first one.

    `vendor` is the word of the CPUID instruction (`GenuineIntel`), empty on machines without it.
    """

    model: str
    cpus: int
    cores: int
    sockets: int
    mhz: str
    flags: frozenset[str]
    vendor: str = ""

    @property
    def virtualization(self) -> bool:
        """Whether they can run virtual machines by themselves (Intel VT-x or AMD-V)."""
        return not self.flags.isdisjoint({"vmx", "svm"})


@dataclass(frozen=True, slots=True)
class Space:
    """A file system in bytes and inodes. `available` is what an ordinary user may still take."""

    total: int
    used: int
    free: int
    available: int
    inodes: int
    inodes_free: int


def parse_cpuinfo(text: str) -> Processors:
    """Read /proc/cpuinfo. Machines that do not tell cores and sockets (arm64) count one socket."""
    cpus = 0
    package = "0"
    cores: set[tuple[str, str]] = set()
    first: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "processor":
            cpus += 1
        elif name == "physical id":
            package = value
        elif name == "core id":
            cores.add((package, value))
        first.setdefault(name, value)
    return Processors(
        model=first.get("model name") or first.get("Model") or first.get("uarch") or "unknown",
        cpus=cpus,
        cores=len(cores) or cpus,
        sockets=len({package for package, _ in cores}) or 1,
        mhz=first.get("cpu MHz", "0"),
        flags=frozenset((first.get("flags") or first.get("Features") or "").split()),
        vendor=first.get("vendor_id", ""),
    )


@cache
def processors() -> Processors:
    """This machine's processors; read once, for reading them costs a millisecond per CPU."""
    return parse_cpuinfo((sampling.PROC / "cpuinfo").read_text())


def cpu_count() -> int:
    """Logical processors that are online."""
    return os.cpu_count() or 1


def space(path: Path) -> Space:
    """Space of the file system that holds a path. Raises OSError."""
    stat = os.statvfs(path)
    total = stat.f_blocks * stat.f_frsize
    free = stat.f_bfree * stat.f_frsize
    return Space(
        total=total,
        used=total - free,
        free=free,
        available=stat.f_bavail * stat.f_frsize,
        inodes=stat.f_files,
        inodes_free=stat.f_favail,
    )


def boot_info() -> dict[str, str | int]:
    """How the machine booted: `mode` is `efi` or `legacy-bios`; `secureboot` 0 or 1 where the firmware tells."""
    if not _EFI.exists():
        return {"mode": "legacy-bios"}
    try:
        # An EFI variable begins with four bytes of attributes.
        return {"mode": "efi", "secureboot": int(_SECURE_BOOT.read_bytes()[4] == 1)}
    except (OSError, IndexError):
        return {"mode": "efi"}


def node_status(*, cpu: float, wait: float, pveversion: str) -> dict[str, object]:
    """The body of `GET /nodes/{node}/status`. `cpu` and `wait` are fractions of all processors' time.

    They need two looks at the counters, so the caller that keeps the earlier look hands them in.
    """
    memory = sampling.memory()
    root = space(Path("/"))
    kernel = os.uname()
    return {
        "cpu": cpu,
        "wait": wait,
        "idle": 0,
        "cpuinfo": _cpuinfo(processors()),
        "memory": {
            "total": memory.total,
            "used": memory.used,
            "free": memory.free,
            "available": memory.available,
        },
        "swap": {"total": memory.swap_total, "used": memory.swap_used, "free": memory.swap_free},
        "rootfs": {"total": root.total, "used": root.used, "free": root.free, "avail": root.available},
        "ksm": {"shared": _ksm_shared()},
        "loadavg": list(sampling.load_averages()),
        "uptime": int(sampling.uptime()),
        "kversion": f"{kernel.sysname} {kernel.release} {kernel.version}",
        "current-kernel": {
            "sysname": kernel.sysname,
            "release": kernel.release,
            "version": kernel.version,
            "machine": kernel.machine,
        },
        "boot-info": boot_info(),
        "pveversion": pveversion,
    }


def _cpuinfo(cpu: Processors) -> dict[str, str | int]:
    return {
        "model": cpu.model,
        "cpus": cpu.cpus,
        "cores": cpu.cores,
        "sockets": cpu.sockets,
        "mhz": cpu.mhz,
        "flags": " ".join(sorted(cpu.flags)),
        "hvm": str(int(cpu.virtualization)),
        "user_hz": os.sysconf("SC_CLK_TCK"),
    }


def _ksm_shared() -> int:
    try:
        return int(_KSM_SHARING.read_text()) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def timezone() -> str:
    """The machine's time zone, such as `Europe/Vienna`; `UTC` when none is set."""
    try:
        target = Path("/etc/localtime").resolve(strict=True)
        if target.is_relative_to(ZONEINFO):
            return str(target.relative_to(ZONEINFO))
        return Path("/etc/timezone").read_text().strip() or "UTC"
    except OSError:
        return "UTC"


def zone() -> ZoneInfo:
    """The machine's time zone, UTC where it is not known."""
    try:
        return ZoneInfo(timezone())
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def is_timezone(zone: str) -> bool:
    """Whether the machine knows a zone of that name."""
    if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}", zone, re.ASCII):
        return False
    file = ZONEINFO / zone
    try:
        return file.read_bytes()[:4] == b"TZif"
    except OSError:
        return False


def set_timezone(zone: str, etc: Path = Path("/etc")) -> None:
    """Set the machine's time zone: the link `localtime` and, where the distribution keeps one, the file `timezone`.

    Raises InvalidParameter when the machine does not know the zone.
    """
    if not is_timezone(zone):
        raise InvalidParameter({"timezone": f"'{zone[:80]}' is not a time zone of this machine"})
    fresh = etc / f".localtime.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(ZONEINFO / zone)
    fresh.replace(etc / "localtime")
    if (etc / "timezone").exists():
        (etc / "timezone").write_text(f"{zone}\n")


def clock() -> dict[str, str | int]:
    """The body of `GET /nodes/{node}/time`, in seconds since the epoch.

    `localtime` is `time` plus the zone's offset: what a clock on the wall shows, counted as if it were UTC.
    """
    zone = timezone()
    now = int(time.time())
    try:
        offset = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    except (ZoneInfoNotFoundError, ValueError):
        offset = None
    return {"timezone": zone, "time": now, "localtime": now + int(offset.total_seconds() if offset else 0)}
