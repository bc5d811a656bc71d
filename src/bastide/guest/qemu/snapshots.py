"""A running VM's state: internal snapshots of its disks at one point in time, its memory to a file."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bastide.base.errors import NotSupported, WrongState
from bastide.guest.qemu import migration
from bastide.guest.qemu.events import ask_state
from bastide.guest.qemu.lifecycle import Lifecycle
from bastide.guest.qemu.nodes import change, inserted, node_of
from bastide.guest.qemu.runtime import Vm


class Snapshots(Lifecycle):
    """The `VmSnapshots` part of the engine; `start_from` is in `lifecycle.py`."""

    async def snapshot_disks(self, vmid: int, snapshot: str, keys: Sequence[str]) -> None:
        """Make internal snapshots of these drives in one transaction, which drains all of them: all or none."""
        vm = await self._with_disks(vmid)
        actions = [
            {"type": "blockdev-snapshot-internal-sync", "data": {"device": await node_of(vm, key), "name": snapshot}}
            for key in keys
        ]
        if actions:
            await change(vm, "transaction", {"actions": actions})

    async def delete_disk_snapshot(self, vmid: int, snapshot: str, key: str) -> None:
        """Forget a drive's internal snapshot; one that is gone already is fine."""
        vm = await self._with_disks(vmid)
        found = await inserted(vm, key)
        kept: list[dict[str, Any]] = found.get("image", {}).get("snapshots", [])
        if any(one["name"] == snapshot for one in kept):
            arguments = {"device": found["node-name"], "name": snapshot}
            await change(vm, "blockdev-snapshot-delete-internal-sync", arguments)

    async def save_memory(self, vmid: int, target: int, at_rest: Callable[[], Awaitable[None]] | None = None) -> None:
        """Write the VM's memory and devices to an open file, and leave it paused at that point until `resume`."""
        vm = self._runtime.require(vmid)
        rows = await vm.monitor.execute("query-memory-devices")
        if any(row["type"] == "dimm" for row in rows):
            # A QEMU that starts with this memory would have all of it in one piece.
            raise NotSupported(f"the memory of VM {vmid} cannot be saved: modules were plugged since it started")
        await migration.send(vm, target, at_rest)

    async def _with_disks(self, vmid: int) -> Vm:
        vm = self._runtime.require(vmid)
        if await ask_state(vm) == "postmigrate":
            # Writing to an image that QEMU has let go of would end it by an assertion.
            raise WrongState(f"VM {vmid} has let go of its disks: it has to go on first")
        return vm
