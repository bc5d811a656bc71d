"""What is measured of one running guest: its price while idle, what its system can do, what isolates it."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from bastide.architect import benchmarks
from bastide.architect.benchmarks import Benchmark, Extent
from bastide.architect.comparison import (
    Measured,
    confinement,
    container_hardware,
    container_isolation,
    vm_hardware,
    vm_isolation,
)
from bastide.base.errors import BastideError, HostFailure
from bastide.base.ids import VolumeId
from bastide.host import abilities, measure, seccomp_filters
from bastide.model.comparison import Measure
from bastide.model.guest import Guest
from bastide.operations.architect import compare_tools
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import volumes_of

Runner = Callable[[Sequence[str], float], Awaitable[str]]
"""Runs a command somewhere, within so many seconds, and returns what it wrote. Raises BastideError."""

_TOOL_SECONDS = 120.0
_LOOK_SECONDS = 60.0
_WORD, _WORDS = 80, 40  # of what a guest tells of itself, no more is kept

# Device nodes that every container has (lxc.container.conf(5), lxc.autodev), and terminals.
_COMMON = frozenset(
    {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "tty1", "tty2", "tty3", "tty4"}
)
_NODES = ["find", "/dev", "-xdev", "(", "-type", "c", "-o", "-type", "b", ")", "-printf", "%P\\n"]
_DRIVERS = "for link in /sys/bus/pci/devices/*/driver /sys/bus/virtio/devices/*/driver; do readlink $link || :; done"


@dataclass(frozen=True, slots=True)
class Suite:
    """What is measured of a system: for how long, how often, and against which end of the network.

    `port` is an iperf3 server's at `address`; None with the reason in `lacks`.
    """

    extent: Extent
    repeats: int
    address: str | None = None
    port: int | None = None
    lacks: str = ""

    def network(self) -> list[Benchmark]:
        """The benchmarks of the network that are possible."""
        if self.address is None:
            return []
        found = benchmarks.latency(self.address)
        return found + (benchmarks.network(self.extent, self.address, self.port) if self.port is not None else [])


async def idle(rooms: Rooms, guest: Guest, measured: Measured) -> None:
    """The memory and the disk that an idle guest takes of the host."""
    memory = (
        _container_memory(rooms, guest) if guest.kind == "lxc" else await asyncio.to_thread(_vm_memory, rooms, guest)
    )
    if memory:
        measured.add("memory", memory)
    else:
        measured.lack("memory", "the kernel does not tell")
    disk = sum([await _allocated(rooms, guest, volume) for volume in volumes_of(guest)])
    if disk:
        measured.add("disk", float(disk))
    else:
        measured.lack("disk", "the storage does not tell")


def _container_memory(rooms: Rooms, guest: Guest) -> float:
    usage = rooms.containers.usage(guest.vmid)
    return 0.0 if usage is None else float(usage.memory)


def _vm_memory(rooms: Rooms, guest: Guest) -> float:
    """QEMU's proportional set, and what the kernel holds for its control group."""
    pid = rooms.vms.init_pid(guest.vmid)
    own = None if pid is None else measure.proportional_memory(pid)
    return 0.0 if pid is None or own is None else float(own + measure.kernel_memory(pid))


async def _allocated(rooms: Rooms, guest: Guest, volume: VolumeId) -> int:
    storage, name = await rooms.storages.resolve(str(volume))
    used = (await storage.info(name)).used
    if used is not None:
        return used
    folder = await (await rooms.storages.containers(volume.storage)).activate(name, guest.first_id or 0)
    return await asyncio.to_thread(measure.allocated, folder)


async def facts_of(rooms: Rooms, guest: Guest) -> tuple[dict[str, str], dict[str, str]]:
    """What isolates a running guest, and what hardware it reaches. Raises HostFailure, RunError."""
    pid = rooms.engine(guest).init_pid(guest.vmid)
    if pid is None:
        raise HostFailure(f"{guest.title} does not run")
    status, uid_map, label = measure.process_facts(pid)
    refused = await asyncio.to_thread(seccomp_filters.refused, pid)
    found = confinement(status, uid_map, label)
    if refused is not None:
        found = replace(found, refused=refused[0], calls=refused[1])
    usb = measure.has_usb()
    if guest.kind == "lxc":
        listed = await compare_tools.use(rooms, guest, _NODES, _LOOK_SECONDS)
        nodes = sorted({line[:_WORD] for line in listed.splitlines() if line and line not in _COMMON})[:_WORDS]
        return container_isolation(found, os.uname().release), container_hardware(nodes, buses=usb)
    kernel = (await compare_tools.use(rooms, guest, ["uname", "-r"], _LOOK_SECONDS)).strip()[:_WORD]
    links = (await compare_tools.use(rooms, guest, ["sh", "-c", _DRIVERS], _LOOK_SECONDS)).split()
    drivers = sorted({link.rpartition("/")[2][:_WORD] for link in links})[:_WORDS]
    isolation = vm_isolation(found, kernel, rooms.vms.accelerator[0])
    return isolation, vm_hardware(drivers, iommu=abilities.iommu_groups() > 0, buses=usb)


async def work(
    run: Runner, suite: Suite, measured: Measured, tick: Callable[[Measure], None], *, lacks: str = ""
) -> None:
    """Run all benchmarks, each as often as the suite says; `tick` hears of each measure before it is taken.

    `lacks` says why there are no tools; then only what the system can do by itself is measured.
    """
    extent = replace(suite.extent, direct=not lacks and await _takes_direct(run, suite.extent.path))
    for benchmark in [*benchmarks.processor(extent), *benchmarks.disk(extent), *suite.network()]:
        if lacks and benchmark.argv[0] in benchmarks.TOOLS:
            measured.lack(benchmark.measure, lacks)
            continue
        tick(benchmark.measure)
        await _repeat(run, benchmark, suite.repeats, measured)
    for name in ("net_out", "net_in", "net_latency"):
        if name not in measured.values:
            measured.lack(name, suite.lacks)


async def _repeat(run: Runner, benchmark: Benchmark, repeats: int, measured: Measured) -> None:
    for _ in range(repeats):
        try:
            measured.add(benchmark.measure, benchmark.read(await run(benchmark.argv, _TOOL_SECONDS)))
        except (BastideError, ValueError) as error:
            measured.lack(benchmark.measure, " ".join(str(error).split())[:300])
            return


async def _takes_direct(run: Runner, path: str) -> bool:
    """Whether files there can be written past the page cache: some file systems refuse that."""
    try:
        await run(
            ["dd", "if=/dev/zero", f"of={path}", "bs=4096", "count=1", "oflag=direct", "status=none"], _TOOL_SECONDS
        )
    except BastideError:
        return False
    return True


def in_guest(rooms: Rooms, guest: Guest) -> Runner:
    """A runner of commands in a guest that has the tools."""

    async def run(argv: Sequence[str], deadline: float) -> str:
        return await compare_tools.use(rooms, guest, argv, deadline)

    return run
