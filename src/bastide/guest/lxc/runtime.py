"""Where the engine keeps a container's generated files, and the monitors that are alive.

`<runtime>/lxc/<vmid>/` holds `config`, `seccomp`, `mounts.json`, `log` and `pid`, the process id of LXC's monitor.
Nothing else is kept: a new daemon finds every guest again from these folders and the kernel.
"""

import asyncio
import contextlib
import os
from pathlib import Path

from bastide.base.layout import Layout
from bastide.host import processes
from bastide.host.cgroups import Cgroups, host_cgroups

# LXC uses its path for names only (sockets, locks), as every file is named; but the guest's root must be able to
# enter it, as well as what is mounted for it. Our own folders may lie where nobody else can enter.
_SHARED = Path("/run")
# The guest's root must be able to enter the control groups that LXC's tools make: mounting version 2, the kernel walks
# to the guest's group with the guest's rights. And what runs in a guest does not inherit the daemon's strictness.
UMASK = 0o022


class Runtime:
    """Paths, names and living monitors of the containers of one Bastide."""

    def __init__(self, layout: Layout) -> None:
        """Find the containers that run."""
        self.layout = layout
        self.groups: Cgroups = host_cgroups()
        self._folder = layout.runtime / "lxc"
        self._monitors: dict[int, processes.Handle] = {}
        for folder in self._folder.glob("[0-9]*"):
            if folder.name.isdigit():
                self.adopt(int(folder.name))

    def folder(self, vmid: int) -> Path:
        """The container's generated files."""
        return self._folder / str(vmid)

    @property
    def shared(self) -> Path:
        """What guests' roots must be able to reach: their root file systems and lxcfs."""
        return _SHARED / f"{self.layout.instance}-guests"

    def stage(self, vmid: int) -> Path:
        """Where the container's root file system is mounted on the host while it runs."""
        return self.shared / str(vmid) / "rootfs"

    def name(self, vmid: int) -> str:
        """The container's name as LXC knows it, unique on the machine."""
        return f"{self.layout.instance}-{vmid}"

    def lxc_folder(self, vmid: int) -> Path:
        """Where LXC itself keeps what it generates: AppArmor's profile."""
        return _SHARED / self.name(vmid)

    def group(self, vmid: int) -> str:
        """The control group that holds its limits."""
        return f"{self.layout.instance}/{vmid}"

    def monitor_group(self, vmid: int) -> str:
        """The control group of LXC's monitor."""
        return f"{self.layout.instance}/monitor-{vmid}"

    def tool(self, program: str, vmid: int) -> list[str]:
        """The beginning of an LXC tool's argument list for that container."""
        return [program, "-P", str(_SHARED), "-n", self.name(vmid), "--rcfile", str(self.folder(vmid) / "config")]

    def adopt(self, vmid: int) -> bool:
        """Take note of the monitor named in the pid file, if it lives and is this container's."""
        try:
            pid = int((self.folder(vmid) / "pid").read_text())
            handle = processes.Handle(pid)
        except (OSError, ValueError):
            return False
        # Checked after the handle is open: what it refers to cannot change any more.
        if not handle.alive() or not _belongs(pid, self.name(vmid)):
            handle.close()
            return False
        self._drop(vmid)
        self._monitors[vmid] = handle
        return True

    def kill_starting(self, vmid: int) -> int:
        """Kill what a start that was cut short has made, in whichever group it is by now; how many processes."""
        name = self.name(vmid)
        return processes.kill_all(lambda pid: _belongs(pid, name))

    def monitor(self, vmid: int) -> processes.Handle | None:
        """The living monitor of a container, or None when the container does not run."""
        handle = self._monitors.get(vmid)
        if handle is None:
            return None
        if not handle.alive():
            self._drop(vmid)
            return None
        return handle

    def running(self) -> frozenset[int]:
        """Containers with a living monitor."""
        return frozenset(vmid for vmid in list(self._monitors) if self.monitor(vmid) is not None)

    def known(self) -> frozenset[int]:
        """Containers that have generated files: those that run, start, or have not been cleaned up after."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return frozenset()
        return frozenset(int(name) for name in names if name.isdecimal())

    def init_pid(self, vmid: int) -> int | None:
        """The guest's first process; None while there is none, as in the middle of a reboot."""
        handle = self.monitor(vmid)
        if handle is None:
            return None
        below = processes.children(handle.pid)
        if len(below) > 1:
            below = [pid for pid in below if _is_init(pid)]
        return below[0] if below else None

    async def wait_ended(self, vmid: int) -> None:
        """Return once the container's monitor has ended; nothing is asked meanwhile."""
        handle = self.monitor(vmid)
        if handle is None:
            return
        await wait_for_end(handle)
        self.monitor(vmid)

    def _drop(self, vmid: int) -> None:
        handle = self._monitors.pop(vmid, None)
        if handle is not None:
            handle.close()


async def wait_for_end(handle: processes.Handle) -> None:
    """Return once a process has ended. Several may wait for the same one."""
    # A descriptor of our own: the loop allows one reader a descriptor, and the handle may be closed meanwhile.
    try:
        descriptor = os.dup(handle.fd)
    except OSError:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def tell() -> None:
        loop.remove_reader(descriptor)
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, tell)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _belongs(pid: int, name: str) -> bool:
    """Whether a process is the monitor of that container, or is on the way to be: LXC puts its name into the title."""
    words = b" ".join(processes.arguments(pid)).split()
    return name.encode() in words and processes.command(pid).startswith(("lxc-start", "[lxc monitor]"))


def _is_init(pid: int) -> bool:
    """Whether a process is the first of its pid namespace (NSpid in proc(5))."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return False
    line = next((line for line in status.splitlines() if line.startswith("NSpid:")), "")
    return len(line.split()) > 2 and line.split()[-1] == "1"
