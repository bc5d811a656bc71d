"""What running a guest costs this machine, and what holds the guest's process; and what the guest is measured against.

Sources: proc(5) (`smaps_rollup`, `status`, `uid_map`, `attr/current`), the kernel's admin-guide/cgroup-v1/memory and
admin-guide/cgroup-v2, stat(2) for `st_blocks`, iperf3(1), setpriv(1).
"""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from bastide.base.errors import HostFailure, NotSupported
from bastide.host import facts, run
from bastide.host.cgroups import Cgroups, host_cgroups, read

PROC = Path("/proc")
_NOBODY = "65534"
_PATIENCE = 5.0
_BLOCK = 512

Feed = Callable[[], AsyncIterator[bytes]]


def proportional_memory(pid: int, proc: Path = PROC) -> int | None:
    """Bytes of a process's proportional set (PSS): its own pages, and its share of those it has with others.

    None when the process is gone or the kernel does not tell.
    """
    for line in (read(proc / str(pid) / "smaps_rollup") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    return None


def kernel_memory(pid: int, proc: Path = PROC, groups: Cgroups | None = None) -> int:
    """Bytes that the kernel holds for the control group of a process: page tables, stacks, slabs; 0 when unknown."""
    groups = groups or host_cgroups()
    group = _memory_group(read(proc / str(pid) / "cgroup") or "", groups.version)
    if group is None:
        return 0
    if groups.version == 1:
        return groups.read_int(group, "memory", "memory.kmem.usage_in_bytes") or 0
    rows = [line.split() for line in (groups.read(group, "memory", "memory.stat") or "").splitlines()]
    stat = {row[0]: int(row[1]) for row in rows if len(row) == 2}
    return stat.get("kernel", sum(stat.get(key, 0) for key in ("slab", "kernel_stack", "pagetables", "percpu")))


def _memory_group(text: str, version: int) -> str | None:
    """The path of /proc/PID/cgroup (cgroups(7)), relative to where the hierarchy is mounted."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number == "0" and not controllers) if version == 2 else "memory" in controllers.split(","):
            return path.lstrip("/")
    return None


def allocated(path: Path) -> int:
    """Bytes that a file, or all below a folder, takes on its disk; holes take none. Blocks. 0 when it is gone."""
    try:
        total = path.lstat().st_blocks
    except OSError:
        return 0
    if path.is_dir() and not path.is_symlink():
        for name, folders, files in os.walk(path):
            for entry in (*folders, *files):
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(name, entry)).st_blocks
    return total * _BLOCK


def process_facts(pid: int, proc: Path = PROC) -> tuple[str, str, str | None]:
    """The texts of `status`, `uid_map` and the security module's label of a process. Raises HostFailure."""
    folder = proc / str(pid)
    status, uid_map = read(folder / "status"), read(folder / "uid_map")
    if status is None or uid_map is None:
        raise HostFailure(f"the process {pid} is gone")
    label = read(folder / "attr/apparmor/current") or read(folder / "attr/current")
    return status, uid_map, label.rstrip("\0") if label else None


def processor() -> str:
    """What the processors are, and how many."""
    found = facts.processors()
    return f"{found.cpus} x {found.model}"


def has_usb(sysfs: Path = Path("/sys/bus/usb/devices")) -> bool:
    """Whether there is any USB bus."""
    with contextlib.suppress(OSError):
        return any(sysfs.iterdir())
    return False


@contextlib.asynccontextmanager
async def serving(address: str, feed: Feed) -> AsyncIterator[int]:
    """A TCP port at that address at which everybody who connects gets the feed's bytes, until the block ends."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            async for data in feed():
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, address, 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


@contextlib.asynccontextmanager
async def iperf_server(address: str) -> AsyncIterator[int]:
    """An iperf3 server of nobody's, at a port of that address, until the block ends; with this process it dies too.

    Raises NotSupported when iperf3 is not installed, HostFailure when it does not listen.
    """
    if not has_tool("iperf3"):  # setpriv would only end with 127
        raise NotSupported("iperf3 is not installed")
    port = _free_port(address)
    drop = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs")
    argv = (*drop, "--pdeathsig", "KILL", "iperf3", "-s", "-B", address, "-p", str(port))
    process = await run.spawn(argv)
    try:
        async with asyncio.timeout(_PATIENCE):
            while not await _answers(address, port):
                if process.returncode is not None:
                    raise HostFailure(f"iperf3 ended at once with {process.returncode}")
                await asyncio.sleep(0.05)
        yield port
    except TimeoutError:
        raise HostFailure("iperf3 does not listen") from None
    finally:
        await run.kill_group(process)


async def _answers(address: str, port: int) -> bool:
    # Looked up, not tried: a connection that says nothing would be the test that iperf3 then waits for.
    wanted = f"{_hex_address(address)}:{port:04X}"
    tables = [PROC / "net/tcp", PROC / "net/tcp6"]
    rows = [line.split() for table in tables for line in (read(table) or "").splitlines()]
    return any(len(row) > 3 and row[1] == wanted and row[3] == "0A" for row in rows)


def _hex_address(address: str) -> str:
    """An IPv4 address as /proc/net/tcp writes it."""
    return f"{int.from_bytes(socket.inet_aton(address), 'little'):08X}"


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def has_tool(*names: str) -> bool:
    """Whether any of these programs is installed."""
    return any(shutil.which(name, path=run.PATH) for name in names)


async def native(argv: Sequence[str], deadline: float) -> str:
    """What a command writes that runs on this machine. Raises RunError, DeadlineExceeded, NotSupported."""
    return (await run.run(argv, deadline=deadline)).text
