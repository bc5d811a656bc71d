"""Changes of a running VM's disks, media, network cards and USB devices, each undone when it fails half-way."""

import contextlib
from contextlib import AsyncExitStack

from bastide.base.errors import HostFailure, NotFound, NotSupported
from bastide.guest.qemu import usb
from bastide.guest.qemu.hot_hardware import HotHardware, forget, has_device
from bastide.guest.qemu.nodes import add_node, change, node_of, remove_nodes
from bastide.guest.qemu.opening import open_needs
from bastide.guest.qemu.render import disks as render_disks
from bastide.guest.qemu.render import network as render_network
from bastide.guest.qemu.render import usb as render_usb
from bastide.guest.qemu.runtime import Vm
from bastide.guest.vm_protocol import PlannedDisk, VmPlan
from bastide.host.qmp import CommandRefused

_TRAY_TRIES = 4


class HotChange(HotHardware):
    """The `VmHotChange` part of the engine."""

    async def add_disk(self, plan: VmPlan, key: str) -> None:
        """Attach `plan.disk(key)`, with the controller and the thread that it needs."""
        vm, disk = self._runtime.require(plan.vmid), _planned(plan, key)
        controller, thread = render_disks.disk_controller(plan, disk), render_disks.disk_iothread(plan, disk)
        if controller is not None and controller["driver"] == "ahci" and not await has_device(vm, controller["id"]):
            raise NotSupported(f"{key}: a running VM cannot get its first SATA disk")
        async with vm.changing, AsyncExitStack() as undo:
            # First what fails more often: only the guest can let go of a controller again.
            await add_node(vm, plan, disk, undo)
            missing = controller is not None and not await has_device(vm, controller["id"])
            if thread is not None and (controller is None or missing):
                await change(vm, "object-add", thread)
                undo.push_async_callback(forget, vm, "object-del", {"id": thread["id"]})
            if controller is not None and missing:
                await change(vm, "device_add", controller)
                undo.push_async_callback(forget, vm, "device_del", {"id": controller["id"]})
            await change(vm, "device_add", render_disks.disk_device(plan, disk))
            undo.push_async_callback(forget, vm, "device_del", {"id": key})
            if render_disks.is_limited(disk):
                await change(vm, "block_set_io_throttle", render_disks.disk_limits(disk))
            undo.pop_all()

    async def remove_disk(self, vmid: int, key: str) -> None:
        """Detach a disk, and what served it alone."""
        vm = self._runtime.require(vmid)
        async with vm.changing:
            controller = await _controller_of(vm, key)
            await self._unplug(vm, key)
            await remove_nodes(vm, key)
            if controller is not None:
                # Each disk of `virtio-scsi-single` has a controller and a thread of its own.
                with contextlib.suppress(HostFailure):
                    await self._unplug(vm, controller)
            await forget(vm, "object-del", {"id": f"iothread-{key}"})

    async def change_medium(self, plan: VmPlan, key: str) -> None:
        """Put `plan.disk(key)` into its CD-ROM drive, or empty the drive. A failure leaves the drive empty."""
        vm, disk = self._runtime.require(plan.vmid), _planned(plan, key)
        async with vm.changing, AsyncExitStack() as undo:
            await change(vm, "blockdev-open-tray", {"id": key, "force": True})
            undo.push_async_callback(forget, vm, "blockdev-close-tray", {"id": key})
            with contextlib.suppress(CommandRefused):  # it was empty
                await change(vm, "blockdev-remove-medium", {"id": key})
                await remove_nodes(vm, key)
            if disk.path is not None:
                await add_node(vm, plan, disk, undo)
                await _insert_medium(vm, key)
                undo.push_async_callback(forget, vm, "blockdev-remove-medium", {"id": key})
            await change(vm, "blockdev-close-tray", {"id": key})
            undo.pop_all()

    async def change_disk_limits(self, plan: VmPlan, key: str) -> None:
        """Apply the rates of a disk's options."""
        limits = render_disks.disk_limits(_planned(plan, key))
        await change(self._runtime.require(plan.vmid), "block_set_io_throttle", limits)

    async def resize_disk(self, vmid: int, key: str, size: int) -> None:
        """Grow a disk to `size` bytes, in its file and in the guest's sight."""
        vm = self._runtime.require(vmid)
        await change(vm, "block_resize", {"node-name": await node_of(vm, key), "size": size})

    async def add_interface(self, plan: VmPlan, index: int) -> None:
        """Attach `plan.config.net[index]` by its tap."""
        vm, host = self._runtime.require(plan.vmid), await self._host()
        async with vm.changing, AsyncExitStack() as undo:
            needs = render_network.nic_needs(plan, host, index)
            opened = open_needs(needs, lambda name: self._runtime.socket(plan.vmid, name))
            try:
                names: dict[str, list[str]] = {"tap": [], "vhost": []}
                for need in needs:
                    for place, descriptor in enumerate(opened.numbers.get(need.name, ())):
                        name = f"{need.name}-{place}"
                        await vm.monitor.execute_with(descriptor, "getfd", {"fdname": name})
                        undo.push_async_callback(forget, vm, "closefd", {"fdname": name})
                        names[need.kind].append(name)
            finally:
                opened.close()
            await change(vm, "netdev_add", render_network.nic_netdev(plan, index, names["tap"], names["vhost"]))
            undo.push_async_callback(forget, vm, "netdev_del", {"id": f"hostnet{index}"})
            await change(vm, "device_add", render_network.nic_device(plan, index))
            undo.pop_all()
        self._runtime.relaunched(vm, taps={**vm.launched.taps, index: plan.taps[index]})

    async def remove_interface(self, vmid: int, index: int) -> None:
        """Detach a network card; its tap goes with it."""
        vm = self._runtime.require(vmid)
        async with vm.changing:
            await self._unplug(vm, f"net{index}")
            await change(vm, "netdev_del", {"id": f"hostnet{index}"})
        taps = {number: name for number, name in vm.launched.taps.items() if number != index}
        self._runtime.relaunched(vm, taps=taps)

    async def add_usb(self, plan: VmPlan, index: int) -> None:
        """Attach `plan.config.usb[index]`."""
        vm = self._runtime.require(plan.vmid)
        device = render_usb.usb_device(plan, index)
        async with vm.changing:
            usb.hand_over(plan, [index])
            await change(vm, "device_add", device)


async def _insert_medium(vm: Vm, key: str) -> None:
    """Insert the drive's node. A guest that is reset meanwhile has its firmware close the tray."""
    for _ in range(_TRAY_TRIES - 1):
        with contextlib.suppress(CommandRefused):
            await change(vm, "blockdev-insert-medium", {"id": key, "node-name": f"drive-{key}"})
            return
        await change(vm, "blockdev-open-tray", {"id": key, "force": True})
    await change(vm, "blockdev-insert-medium", {"id": key, "node-name": f"drive-{key}"})


def _planned(plan: VmPlan, key: str) -> PlannedDisk:
    disk = plan.disk(key)
    if disk is None:
        raise NotFound(f"drive '{key}' does not exist")
    return disk


async def _controller_of(vm: Vm, key: str) -> str | None:
    """The SCSI controller that a disk has to itself: the one whose thread is the disk's own."""
    if not key.startswith("scsi"):
        return None
    controller = f"scsihw{key.removeprefix('scsi')}"
    try:
        path = await vm.monitor.execute("qom-get", {"path": f"/machine/peripheral/{controller}", "property": "type"})
        bus = await vm.monitor.execute("qom-get", {"path": f"/machine/peripheral/{key}", "property": "parent_bus"})
    except CommandRefused:
        return None
    owned = str(path).startswith("virtio-scsi") and f"/{controller}/" in f"{bus}/"
    others = await vm.monitor.execute("qom-list", {"path": str(bus)}) if owned else []
    return controller if owned and sum(row["name"].startswith("child[") for row in others) == 1 else None
