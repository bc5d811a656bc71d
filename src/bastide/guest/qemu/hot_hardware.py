"""Changes of a running VM's processors, memory, USB devices and limits."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from bastide.base.errors import DeadlineExceeded, HostFailure, NotSupported
from bastide.base.units import MIB
from bastide.guest.qemu import limits
from bastide.guest.qemu.lifecycle import Lifecycle
from bastide.guest.qemu.runtime import Vm
from bastide.host.qmp import CHANGE_DEADLINE, CommandRefused
from bastide.model.vm import VmConfig

# Less than the five seconds that clients wait for an answer; an emulated guest needs longer for anything.
_UNPLUG_DEADLINES = {"kvm": 4.0, "tcg": 15.0}
_LOOK_INTERVAL = 0.5
# Linux takes memory in blocks of this size (its admin-guide/mm/memory-hotplug).
_MODULE_STEP = 128
_MODULES = 256


class HotHardware(Lifecycle):
    """The part of `VmHotChange` that knows no file."""

    async def set_link(self, vmid: int, index: int, *, up: bool) -> None:
        """Plug or unplug a network card's cable in the guest's sight."""
        await self._runtime.require(vmid).monitor.execute("set_link", {"name": f"net{index}", "up": up})

    async def set_balloon(self, vmid: int, mib: int) -> None:
        """Set the balloon's target in MiB."""
        try:
            await self._runtime.require(vmid).monitor.execute("balloon", {"value": mib * MIB})
        except CommandRefused as error:
            if error.kind == "DeviceNotActive":
                raise NotSupported(f"VM {vmid} has no balloon") from error
            raise

    async def set_limits(self, vmid: int, config: VmConfig) -> None:
        """Apply cpulimit, cpuunits and affinity."""
        self._runtime.require(vmid)
        limits.apply_limits(self._runtime.groups, self._runtime.group(vmid), config)

    async def set_vcpus(self, vmid: int, count: int) -> None:
        """Have `count` virtual CPUs plugged."""
        vm = self._runtime.require(vmid)
        async with vm.changing:
            rows = await vm.monitor.execute("query-hotpluggable-cpus")
            rows.sort(key=lambda row: [row["props"].get(f"{part}-id", 0) for part in ("socket", "core", "thread")])
            plugged = [number for number, row in enumerate(rows) if "qom-path" in row]
            if not 1 <= count <= len(rows):
                raise NotSupported(f"vcpus: VM {vmid} can have 1 to {len(rows)} virtual CPUs")
            if count != len(plugged) and vm.launched.accelerator == "tcg":
                # QEMU 7.2 aborts on a new one when its cache of translated code is full, and is corrupt after one goes.
                raise NotSupported("vcpus: virtual CPUs that QEMU emulates cannot come or go while the guest runs")
            if count >= len(plugged):
                free = [number for number in range(len(rows)) if number not in plugged]
                await self._plug_cpus(vm, rows, free[: count - len(plugged)])
            else:
                fixed = [number for number in plugged if not _is_device(rows[number])]
                loose = [number for number in plugged if number not in fixed]
                if count < len(fixed):
                    raise NotSupported(f"vcpus: VM {vmid} started with {len(fixed)} virtual CPUs that stay")
                for number in reversed(loose[count - len(fixed) :]):
                    await self._unplug(vm, f"cpu{number}", _has_cpu)
            vm.vcpus = count

    async def _plug_cpus(self, vm: Vm, rows: list[Any], numbers: list[int]) -> None:
        async with AsyncExitStack() as undo:
            for number in numbers:
                device = {"driver": rows[number]["type"], "id": f"cpu{number}", **rows[number]["props"]}
                await vm.monitor.execute("device_add", device, deadline=CHANGE_DEADLINE)
                undo.push_async_callback(forget, vm, "device_del", {"id": f"cpu{number}"})
            undo.pop_all()

    async def set_memory(self, vmid: int, mib: int) -> None:
        """Plug or unplug memory modules until the guest has `mib` MiB."""
        vm = self._runtime.require(vmid)
        if vm.launched.memory_backend is None:
            raise NotSupported(f"memory: VM {vmid} was started without `memory` in its hotplug option")
        async with vm.changing:
            rows = await vm.monitor.execute("query-memory-devices")
            modules = {row["data"]["id"]: row["data"]["size"] // MIB for row in rows if row["type"] == "dimm"}
            missing = mib - vm.launched.memory - sum(modules.values())
            if missing % _MODULE_STEP:
                raise NotSupported(f"memory: a running VM's memory changes in steps of {_MODULE_STEP} MiB")
            if missing > 0:
                await self._plug_memory(vm, modules, missing)
            elif missing < 0:
                for name in modules_to_remove(modules, -missing):
                    await self._unplug(vm, name)
                    await vm.monitor.execute("object-del", {"id": f"ram-{name}"}, deadline=CHANGE_DEADLINE)

    async def _plug_memory(self, vm: Vm, modules: Mapping[str, int], mib: int) -> None:
        number = next((one for one in range(_MODULES) if f"dimm{one}" not in modules), None)
        if number is None:
            raise NotSupported("memory: every slot holds a module")
        name = f"dimm{number}"
        backend = {**(vm.launched.memory_backend or {}), "id": f"ram-{name}", "size": mib * MIB}
        async with AsyncExitStack() as undo:
            await vm.monitor.execute("object-add", backend, deadline=CHANGE_DEADLINE)
            undo.push_async_callback(forget, vm, "object-del", {"id": backend["id"]})
            module = {"driver": "pc-dimm", "id": name, "memdev": backend["id"]}
            await vm.monitor.execute("device_add", module, deadline=CHANGE_DEADLINE)
            undo.pop_all()

    async def remove_usb(self, vmid: int, index: int) -> None:
        """Detach a USB device."""
        vm = self._runtime.require(vmid)
        async with vm.changing:
            await self._unplug(vm, f"usb{index}")

    async def _unplug(self, vm: Vm, device: str, there: Callable[[Vm, str], Awaitable[bool]] | None = None) -> None:
        """Ask the guest to let go of a device, and wait until QEMU has removed it, which `there` asks now and then.

        QEMU does not tell of every device: not of a processor that it emulates.
        """
        deadline = _UNPLUG_DEADLINES[vm.launched.accelerator]
        gone: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        vm.unplugging[device] = gone
        try:
            async with asyncio.timeout(deadline):
                await vm.monitor.execute("device_del", {"id": device}, deadline=CHANGE_DEADLINE)
                while not gone.done():
                    await asyncio.wait([gone], timeout=_LOOK_INTERVAL)
                    if not gone.done() and not await (there or has_device)(vm, device):
                        return
                if not gone.result():
                    raise HostFailure(f"the guest of VM {vm.vmid} does not let go of {device}")
        except TimeoutError:
            raise DeadlineExceeded(
                f"the guest of VM {vm.vmid} did not let go of {device} within {deadline:g} seconds"
            ) from None
        finally:
            vm.unplugging.pop(device, None)


async def has_device(vm: Vm, name: str) -> bool:
    """Whether the machine has a device of that id."""
    try:
        rows = await vm.monitor.execute("qom-list", {"path": "/machine/peripheral"})
    except CommandRefused:
        return False
    return any(row["name"] == name for row in rows)


async def _has_cpu(vm: Vm, name: str) -> bool:
    rows = await vm.monitor.execute("query-hotpluggable-cpus")
    return any(str(row.get("qom-path", "")).endswith(f"/{name}") for row in rows)


def modules_to_remove(modules: Mapping[str, int], mib: int) -> list[str]:
    """Modules, the youngest first, that hold exactly so much. Raises NotSupported when none do."""
    found: list[str] = []
    for name in sorted(modules, key=lambda one: -int(one.removeprefix("dimm"))):
        if modules[name] <= mib:
            found.append(name)
            mib -= modules[name]
    if mib:
        sizes = ", ".join(f"{size} MiB" for size in modules.values()) or "none"
        raise NotSupported(f"memory: only whole modules can be unplugged, and the guest's are: {sizes}")
    return found


def _is_device(row: Mapping[str, Any]) -> bool:
    return str(row["qom-path"]).startswith("/machine/peripheral/")


async def forget(vm: Vm, command: str, arguments: Mapping[str, Any]) -> None:
    """Undo a part of a change as far as that is possible: what failed first is what the caller gets to read."""
    with contextlib.suppress(HostFailure):
        await vm.monitor.execute(command, arguments)
