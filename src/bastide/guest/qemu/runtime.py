"""The VMs that run: their processes, what QEMU's events last said of them, and where their files are.

`<runtime>/qemu/<vmid>/` (0700, root) holds `pid` and `tpm.pid` (process id and start time in clock ticks), `vm.json`
(what the start was, written when it is complete), and the sockets that QEMU listens at: `qmp.sock`, `qga.sock`,
`serial0.sock` ... Nothing else is kept: a new daemon finds every VM again from these folders and the kernel.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bastide.base.errors import WrongState
from bastide.base.layout import Layout
from bastide.guest.vm_protocol import DiskCounters
from bastide.host import processes
from bastide.host.cgroups import Cgroups, host_cgroups
from bastide.host.qmp import Monitor
from bastide.model.guest import Address

Listener = Callable[[int, str, Mapping[str, Any]], Awaitable[None]]
GONE = "GONE"
TPM_ENDED = "the TPM's process has ended"
_LOG_LIMIT = 64 * 1024
_CLEAR_DEADLINE = 5.0


@dataclass(frozen=True, slots=True)
class Launched:
    """What must be known of a running VM and cannot be asked of it. `taps` has a tap's name for each index of `net`.

    `memory` is what it started with, in MiB. `pci` holds the addresses of the host's devices that it took,
    `memory_backend` what a further memory module's object is like, None when there can be none.
    """

    uid: int
    machine: str
    accelerator: Literal["kvm", "tcg"]
    qemu: str
    memory: int
    agent: bool
    tpm: bool
    taps: Mapping[int, str]
    pci: tuple[str, ...] = ()
    memory_backend: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """The text of `vm.json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Launched":
        """Read `vm.json`. Raises ValueError, TypeError."""
        raw = json.loads(text)
        taps = {int(index): str(name) for index, name in raw.pop("taps").items()}
        return cls(**{**raw, "taps": taps, "pci": tuple(raw["pci"])})


@dataclass(eq=False)
class Vm:
    """A running VM. `state` is a RunState of QEMU's, empty until it is known; `error` is what went wrong in it."""

    vmid: int
    handle: processes.Handle
    started: int
    monitor: Monitor
    launched: Launched
    tpm: processes.Handle | None = None
    state: str = ""
    error: str | None = None
    balloon: int | None = None
    guest_memory: tuple[int, int] | None = None
    vcpus: int | None = None
    disks: Mapping[str, DiskCounters] = field(default_factory=dict)
    log: int | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    told: asyncio.Lock = field(default_factory=asyncio.Lock)
    unplugging: dict[str, "asyncio.Future[bool]"] = field(default_factory=dict)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    agent_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    figures_asked: float = -1e9
    addresses: list[Address] = field(default_factory=list)
    addresses_asked: float = -1e9
    addresses_turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def tpm_alive(self) -> bool:
        """Whether its TPM, if it has one, works."""
        return not self.launched.tpm or (self.tpm is not None and self.tpm.alive())

    def close_log(self) -> None:
        """Let go of what QEMU said."""
        if self.log is not None:
            os.close(self.log)
            self.log = None


class Runtime:
    """Paths, names and living processes of the VMs of one Bastide."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.groups: Cgroups = host_cgroups()
        self.listeners: list[Listener] = []
        self._loop = asyncio.get_running_loop()
        self.on_gone: Callable[[Vm], None] = lambda _vm: None
        self._tidying: dict[int, asyncio.Task[None]] = {}
        self.on_event: Callable[[Vm, str, Mapping[str, Any]], None] = lambda _vm, _event, _data: None
        self._folder = layout.runtime / "qemu"
        self._vms: dict[int, Vm] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watched: dict[int, int] = {}
        for vmid in self.known():
            self.adopt(vmid)

    def folder(self, vmid: int) -> Path:
        """The VM's files."""
        return self._folder / str(vmid)

    def socket(self, vmid: int, name: str) -> Path:
        """A socket that its QEMU listens at."""
        return self.folder(vmid) / f"{name}.sock"

    def log(self, vmid: int) -> Path:
        """What QEMU said in the run before this one."""
        return self.layout.logs / "qemu" / f"{vmid}.log"

    def group(self, vmid: int) -> str:
        """The VM's control group."""
        return f"{self.layout.instance}/{vmid}"

    def known(self) -> frozenset[int]:
        """VMs that have files: those that run, start, or have not been cleaned up after."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return frozenset()
        return frozenset(int(name) for name in names if name.isdecimal())

    def adopt(self, vmid: int) -> bool:
        """Take note of a VM that an earlier daemon started, if it lives."""
        folder = self.folder(vmid)
        handle = open_process(folder / "pid")
        if handle is None:
            return False
        try:
            launched = Launched.from_json((folder / "vm.json").read_text())
        except (OSError, ValueError, TypeError, KeyError):
            # The start was never completed.
            handle.close()
            return False
        vm = self.new(vmid, handle, launched)
        vm.tpm = open_process(folder / "tpm.pid")
        vm.error = None if vm.tpm_alive else TPM_ENDED
        with contextlib.suppress(OSError):
            vm.log = os.open(f"/proc/{handle.pid}/fd/2", os.O_RDONLY | os.O_CLOEXEC)
        self._vms[vmid] = vm
        return True

    def new(self, vmid: int, handle: processes.Handle, launched: Launched) -> Vm:
        """A VM with its monitor; it counts as running once it is `entered`."""

        def tell(event: str, data: Mapping[str, Any]) -> None:
            self.on_event(vm, event, data)

        vm = Vm(vmid, handle, processes.started(handle.pid) or 0, Monitor(self.socket(vmid, "qmp"), tell), launched)
        return vm

    def relaunched(self, vm: Vm, **changes: Any) -> None:
        """Note what has changed since the start, also for the next daemon."""
        vm.launched = replace(vm.launched, **changes)
        (self.folder(vm.vmid) / "vm.json").write_text(vm.launched.to_json())

    def enter(self, vm: Vm) -> None:
        """Count it as running, and notice its end."""
        self._vms[vm.vmid] = vm
        self.watch(vm)

    def watch_all(self) -> None:
        """Follow the VMs that were found."""
        for vm in list(self._vms.values()):
            vm.monitor.follow()
            self.watch(vm)

    def watch(self, vm: Vm) -> None:
        """Notice the end of the VM's process and of its TPM's. Needs a running event loop."""
        self._watch(vm.handle, lambda: self._ended(vm))
        if vm.tpm is not None:
            self._watch(vm.tpm, lambda: self._tpm_ended(vm))

    def _watch(self, handle: processes.Handle, then: Callable[[], None]) -> None:
        if handle.fd >= 0 and handle.fd not in self._watched:
            self._watched[handle.fd] = handle.pid
            asyncio.get_running_loop().add_reader(handle.fd, then)

    def _unwatch(self, handle: processes.Handle) -> None:
        if self._watched.pop(handle.fd, None) is not None:
            asyncio.get_running_loop().remove_reader(handle.fd)

    def _ended(self, vm: Vm) -> None:
        self._unwatch(vm.handle)
        if self._vms.get(vm.vmid) is vm:
            del self._vms[vm.vmid]
        self._drop(vm)
        task = self.spawn(self._tidy(vm))
        self._tidying[vm.vmid] = task
        task.add_done_callback(lambda done: self._tidied(vm.vmid, done))

    def _tidied(self, vmid: int, task: "asyncio.Task[None]") -> None:
        if self._tidying.get(vmid) is task:
            del self._tidying[vmid]

    async def _tidy(self, vm: Vm) -> None:
        try:
            await self.clear(vm.vmid)
        finally:
            vm.gone.set()
            self.on_gone(vm)

    async def settled(self, vmid: int) -> None:
        """Return once nothing is tidied up after a VM's last run."""
        task = self._tidying.get(vmid)
        if task is not None:
            await asyncio.wait([task])

    async def clear(self, vmid: int) -> None:
        """End what is left in a VM's group, and remove its traces."""
        group = self.group(vmid)
        self.groups.kill(group)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLEAR_DEADLINE):
                await processes.until(lambda: not self.groups.processes(group), 0.01)
        self.remove_traces(vmid)

    def _tpm_ended(self, vm: Vm) -> None:
        if vm.tpm is not None:
            self._unwatch(vm.tpm)
            vm.tpm.close()
            vm.tpm = None
        # A VM that ends takes its TPM along; whichever descriptor is looked at first.
        if vm.handle.alive():
            vm.error = TPM_ENDED
            self.tell(vm, "TPM_GONE", {})

    def _drop(self, vm: Vm) -> None:
        if vm.tpm is not None:
            self._unwatch(vm.tpm)
            vm.tpm.kill()
            vm.tpm.close()
            vm.tpm = None
        vm.handle.close()
        self.spawn(vm.monitor.close())

    def find(self, vmid: int) -> Vm | None:
        """The running VM of that number."""
        vm = self._vms.get(vmid)
        return vm if vm is not None and vm.handle.alive() else None

    def require(self, vmid: int) -> Vm:
        """The running VM of that number. Raises WrongState."""
        vm = self.find(vmid)
        if vm is None:
            raise WrongState(f"VM {vmid} not running")
        return vm

    def running(self) -> frozenset[int]:
        """The VMs whose process lives."""
        return frozenset(vmid for vmid in list(self._vms) if self.find(vmid) is not None)

    def spawn_from_thread(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background of the engine's loop, from whichever thread asks."""
        self._loop.call_soon_threadsafe(self.spawn, work)

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a coroutine in the background, and keep it alive."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def tell(self, vm: Vm, event: str, data: Mapping[str, Any]) -> None:
        """Tell the listeners of an event of a VM's, one event after another."""
        if self.listeners:
            self.spawn(self._tell(vm, event, data))

    async def _tell(self, vm: Vm, event: str, data: Mapping[str, Any]) -> None:
        async with vm.told:
            for listener in self.listeners:
                with contextlib.suppress(Exception):
                    await listener(vm.vmid, event, data)

    def remove_traces(self, vmid: int) -> None:
        """Remove the group and the sockets of a VM that has ended."""
        self.groups.remove(self.group(vmid))
        for path in self.folder(vmid).glob("*.sock"):
            path.unlink(missing_ok=True)

    def remove_folder(self, vmid: int) -> None:
        """Forget a VM that has ended."""
        shutil.rmtree(self.folder(vmid), ignore_errors=True)

    def keep_log(self, vm: Vm) -> str:
        """Write what QEMU said in its last run to the log file, and return it."""
        text = "" if vm.log is None else read_log(vm.log)
        path = self.log(vm.vmid)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return text

    async def close(self) -> None:
        """Let go of every VM without touching it."""
        for vm in list(self._vms.values()):
            self._unwatch(vm.handle)
            if vm.tpm is not None:
                self._unwatch(vm.tpm)
                vm.tpm.close()
            await vm.monitor.close()
            vm.handle.close()
            vm.close_log()
        self._vms.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def open_process(path: Path) -> processes.Handle | None:
    """The living process that a file names by its id and start time, or None."""
    try:
        pid, started = (int(part) for part in path.read_text().split())
        handle = processes.Handle(pid)
    except (OSError, ValueError):
        return None
    # Looked at after the handle is open: what it refers to cannot change any more.
    if processes.started(pid) != started or not handle.alive():
        handle.close()
        return None
    return handle


def write_process(path: Path, pid: int) -> None:
    """Note a process for `open_process`."""
    path.write_text(f"{pid} {processes.started(pid) or 0}\n")


def new_log() -> int:
    """A file in memory for what a process says; the kernel lets nobody make it larger than 64 KiB."""
    descriptor = os.memfd_create("log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, _LOG_LIMIT)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return descriptor


def read_log(descriptor: int) -> str:
    """What stands in such a file."""
    return os.pread(descriptor, _LOG_LIMIT, 0).rstrip(b"\0").decode(errors="replace")
