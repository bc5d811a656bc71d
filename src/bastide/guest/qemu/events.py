"""What QEMU's events say of a VM's state, and asking it where they do not say enough."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from bastide.base.errors import HostFailure
from bastide.guest.qemu import usb
from bastide.guest.qemu.runtime import GONE, Runtime, Vm
from bastide.host import vfio

STOPPED_STATES = frozenset(
    {"paused", "io-error", "internal-error", "guest-panicked", "prelaunch", "watchdog", "debug"}
    | {"finish-migrate", "inmigrate", "postmigrate"}
)
"""The RunStates in which the virtual CPUs stand still until somebody resumes them."""

_PANICKED = "the guest's kernel panicked"
BALLOON = "/machine/peripheral/balloon0"


class Events:
    """Keeps the VMs' state as events tell it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        runtime.on_event = self._on_event
        runtime.on_gone = self._on_gone

    def _on_event(self, vm: Vm, event: str, data: Mapping[str, Any]) -> None:
        note(vm, event, data)
        if event in ("CONNECTED", "STOP"):
            # Why it stopped is not in the event, and what happened before a connection is in none.
            self._runtime.spawn(_asked(vm))
        if event != "CONNECTED":
            self._runtime.tell(vm, event, data)

    def _on_gone(self, vm: Vm) -> None:
        text = self._runtime.keep_log(vm)
        vm.close_log()
        usb.take_back(vm.launched.uid)
        if vm.launched.pci:
            self._runtime.spawn(vfio.release(vm.launched.pci, vm.launched.uid))
        self._runtime.tell(vm, GONE, {"log": text[-1000:]})


async def _asked(vm: Vm) -> None:
    with contextlib.suppress(HostFailure):
        await ask_state(vm)


def functions(devices: Iterable[str]) -> list[str]:
    """Those of a plan's PCI devices that are functions by address, and not mediated ones by path."""
    return [device for device in devices if not device.startswith("/")]


def drive_of(name: str) -> str:
    """The drive's key from the name of a node of its (`drive-scsi0`, `filter-scsi0-1a2b`); another name as it is."""
    kind, _, rest = name.partition("-")
    return rest.partition("-")[0] if rest and kind in ("drive", "filter") else name


async def ask_state(vm: Vm) -> str:
    """The RunState, asked now. Raises HostFailure, DeadlineExceeded."""
    state = str((await vm.monitor.execute("query-status"))["status"])
    vm.state = state
    if state == "guest-panicked" and vm.error is None:
        vm.error = _PANICKED
    return state


def note(vm: Vm, event: str, data: Mapping[str, Any]) -> None:
    """Take note of one event."""
    if event == "STOP":
        vm.state = "io-error" if vm.state == "io-error" else "paused"
    elif event == "RESUME":
        vm.state = "running"
        if vm.tpm_alive:
            vm.error = None
    elif event == "RESET" and vm.error == _PANICKED:
        vm.error = None
    elif event in ("SUSPEND", "SUSPEND_DISK"):
        vm.state = "suspended"
    elif event == "WAKEUP":
        vm.state = "running"
    elif event == "BLOCK_IO_ERROR":
        _note_block_error(vm, data)
    elif event == "GUEST_PANICKED":
        vm.error = _PANICKED
        if data.get("action") == "pause":
            vm.state = "guest-panicked"
    elif event == "BALLOON_CHANGE" and isinstance(data.get("actual"), int):
        vm.balloon = data["actual"]
    elif event in ("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR"):
        _note_unplug(vm, event, data)


def _note_block_error(vm: Vm, data: Mapping[str, Any]) -> None:
    drive = drive_of(str(data.get("node-name") or data.get("device") or "a disk"))
    why = "no space left on the storage" if data.get("nospace") else str(data.get("reason", "input/output error"))[:200]
    if data.get("action") == "stop":
        vm.state = "io-error"
        vm.error = f"{drive} cannot be {'written' if data.get('operation') == 'write' else 'read'}: {why}"


def _note_unplug(vm: Vm, event: str, data: Mapping[str, Any]) -> None:
    waiter = vm.unplugging.get(str(data.get("device", "")))
    if waiter is not None and not waiter.done():
        waiter.set_result(event == "DEVICE_DELETED")
