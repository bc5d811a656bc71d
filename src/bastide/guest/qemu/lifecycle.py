"""Start, stop, and the states between. The kernel says what runs, QEMU's events in which state."""

import asyncio
import contextlib
import json
import os
import re
import shutil
from contextlib import AsyncExitStack

from bastide.base.errors import BastideError, DeadlineExceeded, HostFailure, WrongState
from bastide.guest.qemu import limits, migration, tpm, usb
from bastide.guest.qemu.agent import Agent
from bastide.guest.qemu.events import STOPPED_STATES, ask_state, functions
from bastide.guest.qemu.figures import ask_figures, status_of
from bastide.guest.qemu.opening import Opened, open_needs
from bastide.guest.qemu.render.argv import needs, render_argv, startup_commands
from bastide.guest.qemu.render.base import uses_kvm
from bastide.guest.qemu.render.machine import memory_module
from bastide.guest.qemu.runtime import Launched, Runtime, Vm, new_log, read_log, write_process
from bastide.guest.vm_protocol import VmPlan, VmStatus
from bastide.host import abilities, cgroup_tree, confined, pci, processes, vfio
from bastide.host.confined import Walls
from bastide.host.qemu_facts import HostFacts
from bastide.host.qmp import CHANGE_DEADLINE, CommandRefused
from bastide.model.guest import GuestState

_DEVICES = "devices.json"
_START_DEADLINE = 120.0
_STATUS_DEADLINE = 1.9
_QUIT_DEADLINE = 3.0
_AGENT_DEADLINE = 3.0
_KILL_DEADLINE = 20.0
_UNDO_DEADLINE = 5.0
_PREFIX = re.compile(r"^(?:\d{4}-\d\d-\d\dT[0-9:.]+Z )?(?:qemu-system-\w+: )?")
_DEVICES_OF_KVM = ("/dev/kvm",)


class Lifecycle(Agent):
    """The `VmLifecycle` part of the engine."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._starting: set[int] = set()

    async def _host(self) -> HostFacts:
        raise HostFailure("this host's QEMU is not known")

    def state(self, vmid: int) -> GuestState:
        """What the kernel and QEMU's events say."""
        vm = self._runtime.find(vmid)
        if vm is None:
            return GuestState.STOPPED
        return GuestState.PAUSED if vm.state in STOPPED_STATES else GuestState.RUNNING

    def running(self) -> frozenset[int]:
        """The VMs whose process lives."""
        return self._runtime.running()

    def init_pid(self, vmid: int) -> int | None:
        """QEMU's process id."""
        vm = self._runtime.find(vmid)
        return None if vm is None else vm.handle.pid

    def started_at(self, vmid: int) -> float | None:
        """Seconds since the epoch at which QEMU started."""
        vm = self._runtime.find(vmid)
        return None if vm is None else processes.epoch(vm.started)

    async def start(self, plan: VmPlan, *, paused: bool = False) -> None:
        """Start it; returns when QEMU runs the guest."""
        await self._start(plan, paused=paused or bool(plan.config.freeze))

    async def start_from(self, plan: VmPlan, memory: int) -> None:
        """Start it with what `save_memory` wrote to an open file."""
        await self._start(plan, memory=memory)

    async def _start(self, plan: VmPlan, *, paused: bool = False, memory: int | None = None) -> None:
        vmid = plan.vmid
        if vmid in self._starting or self._runtime.find(vmid) is not None:
            raise WrongState(f"VM {vmid} already running")
        host = await self._host()
        self._starting.add(vmid)
        try:
            await self._runtime.settled(vmid)
            async with AsyncExitStack() as undo:
                undo.push_async_callback(self._undo_start, vmid)
                vm = await self._launch(plan, host, undo, incoming=memory is not None)
                await self._greeted(vm)
                await self._begin(vm, plan, paused=paused, memory=memory)
                self._runtime.enter(vm)
                (self._runtime.folder(vmid) / "vm.json").write_text(vm.launched.to_json())
                undo.pop_all()
        finally:
            self._starting.discard(vmid)

    async def _launch(self, plan: VmPlan, host: HostFacts, undo: AsyncExitStack, *, incoming: bool) -> Vm:
        vmid, runtime = plan.vmid, self._runtime
        folder = runtime.folder(vmid)
        await self._release_devices(vmid)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        undo.callback(usb.take_back, plan.uid)
        usb.hand_over(plan, sorted(plan.config.usb))
        await self._take_devices(plan, undo)
        groups = cgroup_tree.make(runtime.groups, runtime.group(vmid))
        limits.apply_limits(runtime.groups, runtime.group(vmid), plan.config)
        walls = _walls(plan, host, [str(group) for group in groups])
        log = new_log()
        undo.callback(os.close, log)
        opened = open_needs(needs(plan, host), lambda name: runtime.socket(vmid, name))
        try:
            tpm_handle = await self._start_tpm(plan, opened, walls)
            argv = [str(host.emulator.binary), *render_argv(plan, host, opened.numbers, incoming=incoming)[1:]]
            handle = await confined.start(argv, walls, log=log, inherit=opened.all())
        except HostFailure as error:
            raise _failed(vmid, log, error) from error
        finally:
            opened.close()
        write_process(folder / "pid", handle.pid)
        vm = runtime.new(vmid, handle, _launched(plan, host))
        vm.tpm, vm.log = tpm_handle, log
        undo.push_async_callback(self._abandon, vm)
        return vm

    async def _take_devices(self, plan: VmPlan, undo: AsyncExitStack) -> None:
        if plan.pci:
            # A start that is cut short is cleaned up after by what lies here.
            taken = {"uid": plan.uid, "devices": [device for found in plan.pci.values() for device in found]}
            (self._runtime.folder(plan.vmid) / _DEVICES).write_text(json.dumps(taken))
        addresses = functions(address for found in plan.pci.values() for address in found)
        if addresses:
            await vfio.acquire(addresses, plan.uid)
            undo.push_async_callback(vfio.release, addresses, plan.uid)
        for index, device in plan.config.hostpci.items():
            if device.mdev is not None and device.host is not None:
                (folder,) = plan.pci[index]
                undo.push_async_callback(vfio.release, [folder])
                await vfio.create_mdev(pci.expand(device.host)[0], device.mdev, os.path.basename(folder), plan.uid)

    async def _release_devices(self, vmid: int) -> None:
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            taken = json.loads((self._runtime.folder(vmid) / _DEVICES).read_text())
            await vfio.release(taken["devices"], taken["uid"])

    async def _start_tpm(self, plan: VmPlan, opened: Opened, walls: Walls) -> processes.Handle | None:
        disk = plan.disk("tpmstate0")
        if disk is None or "tpm" not in opened.peers:
            return None
        bare = Walls(walls.uid, walls.cgroups)
        handle = await tpm.start(disk, opened.peers["tpm"], bare)
        write_process(self._runtime.folder(plan.vmid) / "tpm.pid", handle.pid)
        return handle

    async def _greeted(self, vm: Vm) -> None:
        """Wait until QEMU's monitor speaks. Raises HostFailure with what QEMU said when it ends instead."""
        vm.monitor.follow()
        greeting = asyncio.ensure_future(vm.monitor.wait_connected(_START_DEADLINE))
        end = asyncio.ensure_future(processes.ended(vm.handle))
        try:
            await asyncio.wait([greeting, end], return_when=asyncio.FIRST_COMPLETED)
            if greeting.done():
                greeting.result()
                return
            raise _failed(vm.vmid, vm.log, None)
        finally:
            greeting.cancel()
            end.cancel()

    async def _begin(self, vm: Vm, plan: VmPlan, *, paused: bool, memory: int | None) -> None:
        try:
            if memory is not None:
                await migration.receive(vm, memory)
            for command, arguments in startup_commands(plan):
                await vm.monitor.execute(command, arguments, deadline=CHANGE_DEADLINE)
            state = await ask_state(vm)
            if not paused and state in ("prelaunch", "paused"):
                await vm.monitor.execute("cont", deadline=CHANGE_DEADLINE)
                await ask_state(vm)
        except HostFailure as error:
            if vm.handle.alive():
                raise HostFailure(f"VM {vm.vmid} did not start: {error}") from error
            raise _failed(vm.vmid, vm.log, error) from error

    async def _abandon(self, vm: Vm) -> None:
        vm.handle.kill()
        if vm.tpm is not None:
            vm.tpm.kill()
            vm.tpm.close()
        await vm.monitor.close()
        self._runtime.keep_log(vm)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_UNDO_DEADLINE):
                await processes.ended(vm.handle)
        vm.handle.close()

    async def _undo_start(self, vmid: int) -> None:
        await self._runtime.clear(vmid)
        self._runtime.remove_folder(vmid)

    async def stop(self, vmid: int) -> None:
        """End QEMU: by its monitor, so that it finishes its writes, else by force."""
        vm = self._runtime.find(vmid)
        if vm is None:
            return
        with contextlib.suppress(HostFailure, TimeoutError):
            async with asyncio.timeout(_QUIT_DEADLINE):
                with contextlib.suppress(CommandRefused):
                    await vm.monitor.execute("quit", deadline=_QUIT_DEADLINE)
                await processes.ended(vm.handle)
        if vm.handle.alive():
            vm.handle.kill()
        await self._gone(vm)

    async def _gone(self, vm: Vm) -> None:
        try:
            async with asyncio.timeout(_KILL_DEADLINE):
                await vm.gone.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"VM {vm.vmid} cannot be killed; its process hangs in the kernel") from None

    async def shutdown(self, vmid: int, deadline: float) -> bool:
        """Ask it to halt by its agent, or by the power button; whether QEMU ended within the deadline."""
        vm = self._runtime.find(vmid)
        if vm is None:
            return True
        try:
            async with asyncio.timeout(deadline):
                if not await self._halted_by_agent(vm):
                    await vm.monitor.execute("system_powerdown", deadline=CHANGE_DEADLINE)
                await vm.gone.wait()
        except TimeoutError:
            return False
        except HostFailure:
            if vm.handle.alive():
                raise
            await self._gone(vm)
        return True

    async def _halted_by_agent(self, vm: Vm) -> bool:
        if not vm.launched.agent:
            return False
        try:
            await self.tell_agent(vm.vmid, "guest-shutdown", {"mode": "powerdown"}, deadline=_AGENT_DEADLINE)
        except BastideError:
            return False
        return True

    async def reset(self, vmid: int) -> None:
        """Press the reset button."""
        await self._runtime.require(vmid).monitor.execute("system_reset", deadline=CHANGE_DEADLINE)

    async def pause(self, vmid: int) -> None:
        """Stop the virtual CPUs."""
        vm = self._runtime.require(vmid)
        await vm.monitor.execute("stop", deadline=CHANGE_DEADLINE)
        await ask_state(vm)

    async def resume(self, vmid: int) -> None:
        """Let the virtual CPUs go on, also after an input/output error, or when its memory was being saved."""
        vm = self._runtime.require(vmid)
        await migration.give_up(vm)
        if vm.state == "guest-panicked":
            # QEMU lets only a reset machine leave this state.
            await vm.monitor.execute("system_reset", deadline=CHANGE_DEADLINE)
        await vm.monitor.execute("cont", deadline=CHANGE_DEADLINE)
        await ask_state(vm)

    async def wake(self, vmid: int) -> None:
        """Wake a guest that suspended itself to memory."""
        await self._runtime.require(vmid).monitor.execute("system_wakeup", deadline=CHANGE_DEADLINE)

    async def status(self, vmid: int) -> VmStatus | None:
        """What QEMU says, within 2 s even when it hangs."""
        vm = self._runtime.find(vmid)
        if vm is None:
            return None
        try:
            async with asyncio.timeout(_STATUS_DEADLINE):
                await ask_state(vm)
                await ask_figures(vm)
        except (HostFailure, TimeoutError):
            if not vm.handle.alive():
                return None
            return status_of(vm, "unknown")
        return status_of(vm, vm.state)

    def known_status(self, vmid: int) -> VmStatus | None:
        """What events told last."""
        vm = self._runtime.find(vmid)
        return None if vm is None else status_of(vm, vm.state or "unknown")

    async def wait_stopped(self, vmid: int) -> None:
        """Return once the VM does not run."""
        vm = self._runtime.find(vmid)
        if vm is not None:
            await vm.gone.wait()

    def ended(self) -> frozenset[int]:
        """The VMs that have files and no process."""
        return self._runtime.known() - self._runtime.running() - self._starting

    async def cleanup(self, vmid: int) -> bool:
        """Remove files and groups of a VM that has ended; whether there were any."""
        if vmid in self._starting or self._runtime.find(vmid) is not None:
            return False
        there = self._runtime.folder(vmid).exists()
        await self._runtime.settled(vmid)
        await self._runtime.clear(vmid)
        await self._release_devices(vmid)
        self._runtime.remove_folder(vmid)
        return there

    def forget(self, vmid: int) -> None:
        """Remove what QEMU said: a later VM of the same number begins with none of it."""
        self._runtime.log(vmid).unlink(missing_ok=True)


def _walls(plan: VmPlan, host: HostFacts, cgroups: list[str]) -> Walls:
    groups = []
    devices = [usb.FOLDER]  # what is plugged in later is seen there, too
    if uses_kvm(plan, host):
        devices += _DEVICES_OF_KVM
        group = abilities.kvm_group()
        groups += [] if group is None else [group]
    if plan.pci:
        devices.append("/dev/vfio")
    return Walls(plan.uid, cgroups, groups, devices, locked_memory=bool(plan.pci))


def _launched(plan: VmPlan, host: HostFacts) -> Launched:
    return Launched(
        uid=plan.uid,
        machine=plan.machine,
        accelerator="kvm" if uses_kvm(plan, host) else "tcg",
        qemu=".".join(map(str, host.emulator.version)),
        memory=plan.config.memory_mib,
        agent=plan.config.agent_enabled,
        tpm=plan.disk("tpmstate0") is not None,
        taps=dict(plan.taps),
        pci=tuple(address for addresses in plan.pci.values() for address in addresses),
        memory_backend=memory_module(plan, host, 0, 128)[0] if "memory" in plan.config.hotplugged else None,
    )


def _failed(vmid: int, log: int | None, error: HostFailure | None) -> HostFailure:
    said = cause("" if log is None else read_log(log))
    return HostFailure(f"VM {vmid} did not start: {said or error or 'QEMU ended and said nothing'}")


def cause(log: str) -> str:
    """The last line of what QEMU said that is no warning, without the time and its name."""
    lines = [_PREFIX.sub("", line.strip()) for line in log.splitlines()]
    said = [line for line in lines if line and not line.startswith(("warning:", "info:"))]
    return said[-1][:500] if said else ""
