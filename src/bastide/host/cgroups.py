"""Control groups of both versions, read and written as files.

A *group* is a path such as `bastide/100`, the same in every hierarchy. Version 1 has one hierarchy a controller (or a
few together), version 2 one for all; a machine with both (hybrid) counts as version 1, because that is where the
controllers are. Sources: cgroups(7), the kernel's admin-guide/cgroup-v1 and cgroup-v2.
"""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "blkio", "io", "pids", "freezer", "devices")


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Where the hierarchies are mounted: `controllers` maps a version 1 controller, `unified` is version 2."""

    version: Literal[1, 2]
    unified: Path | None
    controllers: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def parse(cls, mountinfo: str) -> "Cgroups":
        """From the text of /proc/self/mountinfo (proc(5)); faulty lines are left out."""
        unified: Path | None = None
        controllers: dict[str, Path] = {}
        for line in mountinfo.splitlines():
            left, _, right = line.partition(" - ")
            first, last = left.split(" "), right.split(" ")
            if len(first) < 5 or len(last) < 3:
                continue
            mountpoint, kind, options = Path(first[4]), last[0], last[2]
            if not mountpoint.is_relative_to("/sys/fs/cgroup"):
                continue
            if kind == "cgroup2":
                unified = mountpoint
            elif kind == "cgroup":
                for option in options.split(","):
                    if option in CONTROLLERS or option.startswith("name="):
                        controllers[option] = mountpoint
        return cls(1 if "memory" in controllers or unified is None else 2, unified, controllers)

    def path(self, group: str, controller: str) -> Path | None:
        """The group's folder for a controller, whether or not it exists; None when the host lacks the controller."""
        if self.version == 2:
            return None if self.unified is None else self.unified / group
        root = self.controllers.get(controller)
        return None if root is None else root / group

    def hierarchies(self, group: str) -> list[Path]:
        """The group's folders in every hierarchy."""
        roots = dict.fromkeys(self.controllers.values())
        if self.unified is not None:
            roots[self.unified] = None
        return [root / group for root in roots]

    def read(self, group: str, controller: str, name: str) -> str | None:
        """A file of the group, without its last newline; None when there is none."""
        folder = self.path(group, controller)
        return None if folder is None else read(folder / name)

    def read_int(self, group: str, controller: str, name: str) -> int | None:
        """A file that holds one number; None when there is none (`max` is none too)."""
        text = self.read(group, controller, name)
        return int(text) if text is not None and text.lstrip("-").isdigit() else None

    def write(self, group: str, controller: str, name: str, value: str) -> None:
        """Write a file of the group. Raises OSError; FileNotFoundError also when the host lacks the controller."""
        folder = self.path(group, controller)
        if folder is None:
            raise FileNotFoundError(f"this host has no cgroup controller '{controller}'")
        with open(folder / name, "w") as file:
            file.write(value)

    def has(self, group: str, controller: str, name: str) -> bool:
        """Whether the group has such a file."""
        folder = self.path(group, controller)
        return folder is not None and (folder / name).exists()

    def processes(self, group: str) -> set[int]:
        """Every process in the group and the ones below it."""
        folder = self.path(group, "pids") or self.path(group, "memory")
        if folder is None:
            return set()
        found: set[int] = set()
        for below in _walk(folder):
            found.update(int(pid) for pid in (read(below / "cgroup.procs") or "").split())
        return found

    def kill(self, group: str) -> None:
        """Kill every process in the group and below."""
        if self.unified is not None:
            with contextlib.suppress(OSError), open(self.unified / group / "cgroup.kill", "w") as file:
                file.write("1")
                return
        for pid in self.processes(group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def frozen(self, group: str) -> bool:
        """Whether the group is frozen, or about to be."""
        if self.version == 1:
            return (self.read(group, "freezer", "freezer.state") or "THAWED") != "THAWED"
        return self.read(group, "freezer", "cgroup.freeze") == "1"

    def freeze(self, group: str, *, frozen: bool) -> None:
        """Freeze or thaw the group; the kernel does so within moments. Raises OSError."""
        if self.version == 1:
            self.write(group, "freezer", "freezer.state", "FROZEN" if frozen else "THAWED")
        else:
            self.write(group, "freezer", "cgroup.freeze", "1" if frozen else "0")

    def settled(self, group: str, *, frozen: bool) -> bool:
        """Whether the last `freeze` took effect on every process."""
        if self.version == 1:
            return self.read(group, "freezer", "freezer.state") == ("FROZEN" if frozen else "THAWED")
        events = _keyed(self.read(group, "freezer", "cgroup.events"))
        return events.get("frozen", 0) == int(frozen)

    def remove(self, group: str) -> None:
        """Remove the group and those below it from every hierarchy, as far as they are empty."""
        for folder in self.hierarchies(group):
            for below in sorted(_walk(folder), key=lambda path: len(path.parts), reverse=True):
                with contextlib.suppress(OSError):
                    below.rmdir()

    def folders(self, group: str, controller: str) -> list[Path]:
        """The group's folder and all below it, outer ones first."""
        folder = self.path(group, controller)
        return [] if folder is None else sorted(_walk(folder), key=lambda path: len(path.parts))

    def cpu_seconds(self, group: str) -> float:
        """CPU time the group has used."""
        if self.version == 1:
            return (self.read_int(group, "cpuacct", "cpuacct.usage") or 0) / 1e9
        return _keyed(self.read(group, "cpu", "cpu.stat")).get("usage_usec", 0) / 1e6

    def memory(self, group: str) -> tuple[int, int]:
        """Bytes of the working set (usage without file pages not lately used), and of swap."""
        stat = _keyed(self.read(group, "memory", "memory.stat"))
        if self.version == 1:
            usage = self.read_int(group, "memory", "memory.usage_in_bytes") or 0
            return max(0, usage - stat.get("total_inactive_file", 0)), stat.get("total_swap", 0)
        usage = self.read_int(group, "memory", "memory.current") or 0
        swap = self.read_int(group, "memory", "memory.swap.current") or 0
        return max(0, usage - stat.get("inactive_file", 0)), swap

    def disk(self, group: str) -> tuple[int, int]:
        """Bytes read from and written to block devices."""
        if self.version == 1:
            rows = (self.read(group, "blkio", "blkio.throttle.io_service_bytes_recursive") or "").splitlines()
            words = [row.split() for row in rows]
            return (
                sum(int(word[2]) for word in words if len(word) == 3 and word[1] == "Read"),
                sum(int(word[2]) for word in words if len(word) == 3 and word[1] == "Write"),
            )
        pairs = [part.partition("=") for part in (self.read(group, "io", "io.stat") or "").split()]
        return (
            sum(int(value) for key, _, value in pairs if key == "rbytes"),
            sum(int(value) for key, _, value in pairs if key == "wbytes"),
        )

    def pressure(self, group: str) -> dict[str, int]:
        """Microseconds in which the group's work waited: `cpu some`, `io full` and so on.

        Empty where the kernel does not account it, and in version 1 alone. Source: the kernel's accounting/psi.rst.
        """
        result: dict[str, int] = {}
        if self.unified is None:
            return result
        for resource in ("cpu", "io", "memory"):
            for line in (read(self.unified / group / f"{resource}.pressure") or "").splitlines():
                share, *_, total = line.split()
                result[f"{resource} {share}"] = int(total.removeprefix("total="))
        return result

    def oom_kills(self, group: str) -> int | None:
        """Processes of the group that the kernel killed for want of memory; None where it keeps no count.

        Version 1 counts each group for itself: the group and those in it are asked, but none below, of which a guest
        may make any number.
        """
        if self.version == 2:
            return _keyed(self.read(group, "memory", "memory.events")).get("oom_kill")
        folder = self.path(group, "memory")
        if folder is None or not folder.is_dir():
            return None
        folders = [folder]
        with os.scandir(folder) as entries:
            folders += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        counts = [_keyed(read(at / "memory.oom_control")).get("oom_kill") for at in folders]
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    def process_count(self, group: str) -> int:
        """Processes and threads in the group."""
        return self.read_int(group, "pids", "pids.current") or 0


def read(path: Path) -> str | None:
    """A small kernel file without its last newline, or None when it cannot be read."""
    try:
        return path.read_text().rstrip("\n")
    except OSError:
        return None


def _keyed(text: str | None) -> dict[str, int]:
    """`key number` lines."""
    pairs = (line.split() for line in (text or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _walk(folder: Path) -> Iterator[Path]:
    """A folder of a cgroup hierarchy and all below, fine with folders that vanish meanwhile."""
    if folder.is_dir():
        yield folder
        for name, below, _files in os.walk(folder):
            yield from (Path(name) / part for part in below)


@cache
def host_cgroups() -> Cgroups:
    """This machine's."""
    return Cgroups.parse(Path("/proc/self/mountinfo").read_text())
