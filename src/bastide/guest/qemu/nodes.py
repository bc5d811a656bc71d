"""The images that a running QEMU has open: which one a drive uses, adding one, and closing those that none uses.

A drive's image is asked of QEMU by its node's name (`render/disks.py`), never remembered: it changes when a copy takes
its place.
"""

import asyncio
import os
import re
from contextlib import AsyncExitStack
from typing import Any

from bastide.base.errors import WrongState
from bastide.guest.qemu.hot_hardware import forget
from bastide.guest.qemu.opening import open_image
from bastide.guest.qemu.render import disks as render_disks
from bastide.guest.qemu.runtime import Vm
from bastide.guest.vm_protocol import PlannedDisk, VmPlan
from bastide.host.qmp import CHANGE_DEADLINE, CommandRefused

_ATTEMPTS = 40
_PAUSE = 0.05


async def change(vm: Vm, command: str, arguments: dict[str, Any]) -> Any:
    """A command that changes something, with the time that this may take."""
    return await vm.monitor.execute(command, arguments, deadline=CHANGE_DEADLINE)


async def add_node(
    vm: Vm, plan: VmPlan, disk: PlannedDisk, undo: AsyncExitStack, token: str | None = None, *, size: int = 0
) -> None:
    """Open a disk's image here, with what it builds on, and give it to QEMU; nothing for a drive without a medium.

    A raw image that is larger than `size` bytes is shown as large as that, unless it is 0.
    """
    fdsets = []
    for need in render_disks.disk_needs(disk, token):
        descriptor = open_image(need)
        try:
            answer = await vm.monitor.execute_with(descriptor, "add-fd", {"opaque": need.name})
        finally:
            os.close(descriptor)
        fdsets.append(int(answer["fdset-id"]))
        undo.push_async_callback(forget, vm, "remove-fd", {"fdset-id": fdsets[-1]})
    if fdsets:
        node = render_disks.disk_blockdev(plan, disk, fdsets, token)
        if disk.format == "raw" and 0 < size < disk.size:
            node["size"] = size
        await change(vm, "blockdev-add", node)
        undo.push_async_callback(forget, vm, "blockdev-del", {"node-name": node["node-name"]})


async def inserted(vm: Vm, key: str) -> dict[str, Any]:
    """What QEMU says of the image that a drive uses: `node-name`, `image`.

    Raises WrongState when it has none, and while it is being backed up.
    """
    named = _named(key)
    for row in await vm.monitor.execute("query-block"):
        found: dict[str, Any] = row.get("inserted") or {}
        name = found.get("node-name", "")
        if named.fullmatch(name):
            return found
        if named.fullmatch(name.replace("filter-", "drive-", 1)):
            raise WrongState(f"a backup of {key} of VM {vm.vmid} is under way")
    raise WrongState(f"VM {vm.vmid} has no drive '{key}' with an image")


async def node_of(vm: Vm, key: str) -> str:
    """The node that a drive uses. Raises WrongState."""
    return str((await inserted(vm, key))["node-name"])


async def remove_nodes(vm: Vm, key: str, *, keep: str | None = None) -> None:
    """Close every image of a drive's but the node `keep`, and take the descriptors back."""
    named = _named(key)
    # A device that is gone may hold its node for another moment, and an image the one that it builds on.
    for _ in range(_ATTEMPTS):
        if await _closed(vm, named, keep):
            break
        await asyncio.sleep(_PAUSE)
    left = {row["node-name"] for row in await vm.monitor.execute("query-named-block-nodes", {"flat": True})}
    for row in await vm.monitor.execute("query-fdsets"):
        for opaque in {str(one.get("opaque", "")) for one in row["fds"]}:
            if named.fullmatch(f"drive-{opaque.partition('.')[0]}") and f"drive-{opaque}" not in left:
                await forget(vm, "remove-fd", {"fdset-id": row["fdset-id"]})


async def _closed(vm: Vm, named: re.Pattern[str], keep: str | None) -> bool:
    """Try to close the nodes so named; returns whether none was refused."""
    refused = False
    for row in await vm.monitor.execute("query-named-block-nodes", {"flat": True}):
        name = row["node-name"]
        if name != keep and named.fullmatch(name):
            try:
                await change(vm, "blockdev-del", {"node-name": name})
            except CommandRefused:
                refused = True
    return not refused


def _named(key: str) -> re.Pattern[str]:
    return re.compile(rf"drive-{key}(-[A-Za-z0-9]+)?")
