"""A VM engine without VMs: a first-class driver for tests and for trying the API without root.

It keeps what a real engine would ask QEMU, and fails on demand: `fail_next["start"] = error`.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bastide.base.errors import BastideError, HostFailure, InvalidParameter, NotSupported, WrongState
from bastide.base.units import MIB
from bastide.guest.vm_protocol import Mirror, PlannedDisk, VmPlan, VmStatus, at_once
from bastide.model.backup import DiskExport
from bastide.model.guest import Address, GuestState, Usage
from bastide.model.vm import VmConfig

Listener = Callable[[int, str, Mapping[str, Any]], Awaitable[None]]


@dataclass
class _Running:
    plan: VmPlan
    started: float
    status: VmStatus
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    mirrors: dict[str, tuple[PlannedDisk, str]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    held: dict[str, DiskExport] | None = None


class FakeVmEngine:
    """In-memory VMs.

    `told` holds what was asked of a running VM, as tuples of the action, the vmid and the arguments. `answers` maps a
    command of the agent's to its answer, or to the error that it raises; without any the guest has no agent. `peers`
    are the other ends of the consoles that were opened.
    """

    def __init__(self) -> None:
        self.guests: dict[int, _Running] = {}
        self.fail_next: dict[str, BastideError] = {}
        self.told: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {}
        self.peers: list[socket.socket] = []
        self.stale: set[int] = set()
        self.refused: dict[str, str] = {}
        self.listeners: list[Listener] = []
        self.kept: dict[tuple[int, str], list[str]] = {}

    @property
    def accelerator(self) -> tuple[Literal["kvm", "tcg"], str | None]:
        """See VmEngine."""
        return "tcg", "there are no VMs in this engine"

    def _maybe_fail(self, action: str) -> None:
        error = self.fail_next.pop(action, None)
        if error is not None:
            raise error

    def _guest(self, vmid: int) -> _Running:
        try:
            return self.guests[vmid]
        except KeyError:
            raise WrongState(f"VM {vmid} not running") from None

    def _note(self, action: str, vmid: int, *arguments: Any) -> _Running:
        self._maybe_fail(action)
        guest = self._guest(vmid)
        self.told.append((action, vmid, *arguments))
        return guest

    async def emit(self, vmid: int, event: str, data: Mapping[str, Any] | None = None) -> None:
        """Tell the listeners of an event, as QEMU would cause it."""
        for listener in self.listeners:
            await listener(vmid, event, data or {})

    def set_status(self, vmid: int, **changes: Any) -> None:
        """Change what `status` and `known_status` say."""
        guest = self._guest(vmid)
        guest.status = replace(guest.status, **changes)

    # lifecycle

    def state(self, vmid: int) -> GuestState:
        """See Look."""
        guest = self.guests.get(vmid)
        if guest is None:
            return GuestState.STOPPED
        return GuestState.RUNNING if guest.status.state in ("running", "suspended") else GuestState.PAUSED

    def running(self) -> frozenset[int]:
        """See Look."""
        return frozenset(self.guests)

    def init_pid(self, vmid: int) -> int | None:
        """See Look."""
        return os.getpid() if vmid in self.guests else None

    def started_at(self, vmid: int) -> float | None:
        """See Look."""
        return self.guests[vmid].started if vmid in self.guests else None

    async def start(self, plan: VmPlan, *, paused: bool = False) -> None:
        """See VmLifecycle."""
        self._maybe_fail("start")
        if plan.vmid in self.guests:
            raise WrongState(f"VM {plan.vmid} already running")
        state = "prelaunch" if paused or plan.config.freeze else "running"
        status = VmStatus(
            state, "tcg", plan.machine, "0.0.0", balloon=plan.config.memory_bytes, vcpus=plan.config.vcpu_count
        )
        self.guests[plan.vmid] = _Running(plan, time.time(), status)

    async def stop(self, vmid: int) -> None:
        """See Look."""
        self._maybe_fail("stop")
        guest = self.guests.pop(vmid, None)
        if guest is not None:
            guest.stopped.set()
            self.stale.add(vmid)
            await self.emit(vmid, "GONE")

    async def shutdown(self, vmid: int, deadline: float) -> bool:
        """See VmLifecycle; with `fail_next["shutdown"]` the guest takes no notice."""
        if self.fail_next.pop("shutdown", None) is not None:
            return False
        await self.stop(vmid)
        return True

    async def wait_stopped(self, vmid: int) -> None:
        """See Look."""
        if vmid in self.guests:
            await self.guests[vmid].stopped.wait()

    def ended(self) -> frozenset[int]:
        """See Look."""
        return frozenset(self.stale)

    def forget(self, vmid: int) -> None:
        """See Look."""

    async def cleanup(self, vmid: int) -> bool:
        """See Look."""
        there = vmid in self.stale
        self.stale.discard(vmid)
        return there

    async def reset(self, vmid: int) -> None:
        """See VmLifecycle."""
        self._note("reset", vmid)

    async def pause(self, vmid: int) -> None:
        """See VmLifecycle."""
        self._note("pause", vmid)
        self.set_status(vmid, state="paused")

    async def resume(self, vmid: int) -> None:
        """See VmLifecycle."""
        self._note("resume", vmid)
        self.set_status(vmid, state="running", error=None)

    async def wake(self, vmid: int) -> None:
        """See VmLifecycle."""
        self._note("wake", vmid)
        self.set_status(vmid, state="running")

    async def status(self, vmid: int) -> VmStatus | None:
        """See VmLifecycle."""
        return self.known_status(vmid)

    def known_status(self, vmid: int) -> VmStatus | None:
        """See VmLifecycle."""
        return self.guests[vmid].status if vmid in self.guests else None

    # inspection

    def usage(self, vmid: int, *, stalls: bool = False) -> Usage | None:
        """See Inspection."""
        if vmid not in self.guests:
            return None
        return Usage(cpu_seconds=1.0, memory=10 << 20, swap=0, disk_read=0, disk_written=0, processes=1)

    async def addresses(self, vmid: int) -> Sequence[Address]:
        """See Inspection; `answers["addresses"]` are Address records."""
        found: Sequence[Address] = self.answers.get("addresses", []) if vmid in self.guests else []
        return found

    def traffic(self, vmid: int) -> tuple[int, int]:
        """See Inspection."""
        return 0, 0

    # hot changes

    async def add_disk(self, plan: VmPlan, key: str) -> None:
        """See VmHotChange."""
        self._note("add_disk", plan.vmid, key).plan = plan

    async def remove_disk(self, vmid: int, key: str) -> None:
        """See VmHotChange."""
        self._note("remove_disk", vmid, key)

    async def change_medium(self, plan: VmPlan, key: str) -> None:
        """See VmHotChange."""
        self._note("change_medium", plan.vmid, key).plan = plan

    async def change_disk_limits(self, plan: VmPlan, key: str) -> None:
        """See VmHotChange."""
        self._note("change_disk_limits", plan.vmid, key).plan = plan

    async def resize_disk(self, vmid: int, key: str, size: int) -> None:
        """See VmHotChange."""
        self._note("resize_disk", vmid, key, size)

    async def add_interface(self, plan: VmPlan, index: int) -> None:
        """See VmHotChange."""
        self._note("add_interface", plan.vmid, index).plan = plan

    async def remove_interface(self, vmid: int, index: int) -> None:
        """See VmHotChange."""
        self._note("remove_interface", vmid, index)

    async def set_link(self, vmid: int, index: int, *, up: bool) -> None:
        """See VmHotChange."""
        self._note("set_link", vmid, index, up)

    async def set_vcpus(self, vmid: int, count: int) -> None:
        """See VmHotChange."""
        self._note("set_vcpus", vmid, count)
        self.set_status(vmid, vcpus=count)

    async def set_memory(self, vmid: int, mib: int) -> None:
        """See VmHotChange."""
        self._note("set_memory", vmid, mib)
        self.set_status(vmid, balloon=mib * MIB)

    async def set_balloon(self, vmid: int, mib: int) -> None:
        """See VmHotChange."""
        self._note("set_balloon", vmid, mib)
        self.set_status(vmid, balloon=mib * MIB)

    async def add_usb(self, plan: VmPlan, index: int) -> None:
        """See VmHotChange."""
        self._note("add_usb", plan.vmid, index).plan = plan

    async def remove_usb(self, vmid: int, index: int) -> None:
        """See VmHotChange."""
        self._note("remove_usb", vmid, index)

    async def set_limits(self, vmid: int, config: VmConfig) -> None:
        """See VmHotChange."""
        self._note("set_limits", vmid, config)

    # snapshots

    async def snapshot_disks(self, vmid: int, snapshot: str, keys: Sequence[str]) -> None:
        """See VmSnapshots; `kept` holds them as (vmid, key): names."""
        guest = self._note("snapshot_disks", vmid, snapshot, *keys)
        if guest.status.state == "postmigrate":
            raise WrongState(f"VM {vmid} has let go of its disks")
        for key in keys:
            disk = guest.plan.disk(key)
            if disk is None or disk.format != "qcow2":
                raise HostFailure(f"{key} cannot keep snapshots")
            if snapshot in self.kept.get((vmid, key), ()):
                raise HostFailure(f"{key} has a snapshot '{snapshot}' already")
        for key in keys:
            self.kept.setdefault((vmid, key), []).append(snapshot)

    async def delete_disk_snapshot(self, vmid: int, snapshot: str, key: str) -> None:
        """See VmSnapshots."""
        self._note("delete_disk_snapshot", vmid, snapshot, key)
        if snapshot in self.kept.get((vmid, key), ()):
            self.kept[vmid, key].remove(snapshot)

    async def save_memory(self, vmid: int, target: int, at_rest: Callable[[], Awaitable[None]] | None = None) -> None:
        """See VmSnapshots; what is written is the VM's uuid."""
        guest = self._note("save_memory", vmid)
        before = guest.status.state
        self.set_status(vmid, state="finish-migrate")
        try:
            if at_rest is not None:
                await at_rest()
            os.pwrite(target, guest.plan.uuid.encode(), 0)
        except BaseException:
            self.set_status(vmid, state=before)
            raise
        self.set_status(vmid, state="postmigrate")

    async def start_from(self, plan: VmPlan, memory: int) -> None:
        """See VmSnapshots."""
        self._maybe_fail("start_from")
        if os.pread(memory, 64, 0).rstrip(b"\0").decode(errors="replace") != plan.uuid:
            raise HostFailure("this memory is not the VM's")
        await self.start(plan)
        self.told.append(("start_from", plan.vmid))

    # mirrors

    async def mirror(self, plan: VmPlan, key: str, target: PlannedDisk, token: str, *, speed: int = 0) -> None:
        """See VmMirrors; the copy is in step at once, unless `answers["mirror"]` is another Mirror."""
        guest = self._note("mirror", plan.vmid, key, token, speed)
        if key in guest.mirrors:
            raise HostFailure(f"{key} is copied already")
        guest.mirrors[key] = (target, token)

    async def mirror_progress(self, vmid: int, key: str) -> Mirror | None:
        """See VmMirrors."""
        self._maybe_fail("mirror_progress")
        found = self._guest(vmid).mirrors.get(key)
        if found is None:
            return None
        answer: Mirror = self.answers.get("mirror") or Mirror(found[0].size, found[0].size, ready=True)
        return answer

    async def change_over(self, vmid: int, key: str) -> None:
        """See VmMirrors."""
        guest = self._note("change_over", vmid, key)
        if key not in guest.mirrors:
            raise HostFailure(f"{key} is not copied")
        guest.tokens[key] = guest.mirrors.pop(key)[1]

    async def cancel_mirror(self, vmid: int, key: str) -> None:
        """See VmMirrors."""
        self._note("cancel_mirror", vmid, key).mirrors.pop(key, None)

    async def image_token(self, vmid: int, key: str) -> str | None:
        """See VmMirrors."""
        self._maybe_fail("image_token")
        return self._guest(vmid).tokens.get(key)

    # backups

    async def begin_backup(
        self,
        vmid: int,
        fleeces: Mapping[str, int],
        *,
        resume: bool = False,
        still: Callable[[], AbstractAsyncContextManager[None]] = at_once,
    ) -> Mapping[str, DiskExport]:
        """See VmBackups; nothing speaks at the socket that it tells of. `fail_next["still"]` comes at the moment."""
        guest = self._note("begin_backup", vmid, *fleeces)
        if guest.held is not None:
            raise WrongState(f"there is a backup of VM {vmid} under way already")
        disks = {key: guest.plan.disk(key) for key in fleeces}
        if missing := [key for key, disk in disks.items() if disk is None or disk.path is None]:
            raise WrongState(f"VM {vmid} has no drive '{missing[0]}' with an image")
        async with still():
            self.told.append(("moment", vmid, guest.status.state))
            self._maybe_fail("still")
        if resume:
            self.set_status(vmid, state="running")
        path = Path("/nowhere/nbd.sock")
        guest.held = {key: DiskExport(key, path, disk.size, key) for key, disk in disks.items() if disk is not None}
        return guest.held

    async def backup_failed(self, vmid: int) -> str | None:
        """See VmBackups; `answers["backup_failed"]` is the reason."""
        if vmid not in self.guests:
            return f"VM {vmid} has ended"
        if self.guests[vmid].held is None:
            return f"no state of VM {vmid}'s disks is held"
        why: str | None = self.answers.get("backup_failed")
        return why

    async def end_backup(self, vmid: int) -> None:
        """See VmBackups."""
        self._maybe_fail("end_backup")
        if vmid in self.guests:
            self.told.append(("end_backup", vmid))
            self.guests[vmid].held = None

    # agent and consoles

    async def ask(self, vmid: int, command: str, arguments: Mapping[str, Any] | None = None, *, deadline: float) -> Any:
        """See VmAgent. An answer that is callable is called with the arguments."""
        self._note("ask", vmid, command, arguments)
        if command not in self.answers:
            raise WrongState("QEMU guest agent is not running")
        answer = self.answers[command]
        if isinstance(answer, BastideError):
            raise answer
        return answer(arguments) if callable(answer) else answer

    async def agent_answers(self, vmid: int) -> bool:
        """See VmAgent."""
        return vmid in self.guests and "guest-ping" in self.answers

    def _peer(self, greeting: bytes) -> int:
        ours, theirs = socket.socketpair()
        theirs.sendall(greeting)
        self.peers.append(theirs)
        return ours.detach()

    async def serial(self, vmid: int, port: int) -> int:
        """See VmConsole."""
        guest = self._note("serial", vmid, port)
        if guest.plan.config.serial.get(port) != "socket":
            raise WrongState(f"VM {vmid} has no serial port serial{port} with a socket")
        return self._peer(b"login: ")

    async def vnc(self, vmid: int, password: str | None = None) -> int:
        """See VmConsole."""
        self._note("vnc", vmid, password)
        return self._peer(b"RFB 003.008\n")

    async def spice_password(self, vmid: int, password: str, seconds: int) -> None:
        """See VmConsole."""
        guest = self._note("spice_password", vmid)
        vga = guest.plan.config.vga
        if vga is None or not (vga.type or "").startswith("qxl"):
            raise WrongState(f"VM {vmid} has no SPICE")

    async def spice(self, vmid: int) -> int:
        """See VmConsole."""
        self._note("spice", vmid)
        return self._peer(b"REDQ")

    async def screenshot(self, vmid: int) -> bytes:
        """See VmConsole."""
        self._note("screenshot", vmid)
        return b"\x89PNG\r\n\x1a\n"

    async def send_keys(self, vmid: int, keys: Sequence[str]) -> None:
        """See VmConsole."""
        self._note("send_keys", vmid, *keys)

    async def monitor(self, vmid: int, line: str) -> str:
        """See VmConsole."""
        self._note("monitor", vmid, line)
        return f"{line}\r\n"

    # choices

    def choose_uid(self, vmid: int, taken: Collection[int]) -> int:
        """See VmEngine."""
        return max([1_900_000_000 + vmid, *(uid + 1 for uid in taken)])

    def pin_machine(self, config: VmConfig) -> str:
        """See VmEngine."""
        asked = config.machine.type if config.machine is not None else None
        if asked in (None, "pc"):
            return "pc-i440fx-7.2"
        return "pc-q35-7.2" if asked == "q35" else str(asked)

    def check(self, config: VmConfig) -> None:
        """See VmEngine; `refused` maps options to why they are refused."""
        named = {key: why for key, why in self.refused.items() if key in config.to_text()}
        if named:
            raise InvalidParameter(named)

    def efi_variables(self, config: VmConfig) -> Path:
        """See VmEngine; `answers["efi_variables"]` is the path."""
        path = self.answers.get("efi_variables")
        if path is None:
            raise NotSupported("efidisk0: this host has no UEFI firmware")
        return Path(path)

    def on_event(self, listener: Listener) -> None:
        """See VmEngine."""
        self.listeners.append(listener)

    async def prepare(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Close the consoles that are open."""
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.close()

    async def purge(self) -> None:
        """Nothing to undo."""
