"""A VM's memory and devices through QEMU's migration, to an open file and from one.

QEMU is handed the file as a descriptor (`fd:`): it may start no process and opens no path. Sources: QEMU's QMP
reference (migrate, migrate-continue, RunState), its docs/devel/migration.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

from bastide.base.errors import DeadlineExceeded, HostFailure, NoSpace
from bastide.guest.qemu.events import ask_state
from bastide.guest.qemu.runtime import Vm
from bastide.host.qmp import CHANGE_DEADLINE

_NAME = "memory"
_NO_LIMIT = 1 << 50  # bytes a second; what reaches the file is the file's affair
_DOWNTIME = 300  # ms that the rest may take once the guest stands still
# A guest that changes its memory faster than the file takes it is stopped for the rest.
_ROUNDS = 5
_SECONDS = 60.0
_ENDED = frozenset({"none", "completed", "failed", "cancelled"})
_INTERVAL = 0.05
_CANCEL_DEADLINE = 10.0


async def send(vm: Vm, target: int, at_rest: Callable[[], Awaitable[None]] | None) -> None:
    """Write memory and devices to an open file; see `VmSnapshots.save_memory`."""
    ran = await ask_state(vm) == "running"
    try:
        await _begin(vm, target)
        await _until(vm, "pre-switchover", hurry=ran)
        if at_rest is not None:
            await at_rest()
        await _change(vm, "migrate-continue", {"state": "pre-switchover"})
        await _until(vm, "completed")
        await ask_state(vm)
    except BaseException:
        with contextlib.suppress(HostFailure):
            await asyncio.shield(_undo(vm, ran=ran))
        raise


async def receive(vm: Vm, memory: int) -> None:
    """Give a QEMU that waits for it (`-incoming defer`) what `send` wrote. Raises HostFailure."""
    await vm.monitor.execute_with(memory, "getfd", {"fdname": _NAME})
    await _change(vm, "migrate-incoming", {"uri": f"fd:{_NAME}"})
    await _until(vm, "completed")


async def give_up(vm: Vm) -> None:
    """End what a daemon that died had begun to write: the guest goes on if it ran. Raises HostFailure."""
    if await _status(vm) in _ENDED:
        return
    await _change(vm, "migrate_cancel", {})
    try:
        async with asyncio.timeout(_CANCEL_DEADLINE):
            while True:
                if await _status(vm) in _ENDED:
                    return
                await asyncio.sleep(_INTERVAL)
    except TimeoutError:
        raise DeadlineExceeded(f"QEMU does not stop writing the memory of VM {vm.vmid}") from None


async def _begin(vm: Vm, target: int) -> None:
    await vm.monitor.execute_with(target, "getfd", {"fdname": _NAME})
    try:
        capability = {"capability": "pause-before-switchover", "state": True}
        await _change(vm, "migrate-set-capabilities", {"capabilities": [capability]})
        await _change(vm, "migrate-set-parameters", {"max-bandwidth": _NO_LIMIT, "downtime-limit": _DOWNTIME})
        await _change(vm, "migrate", {"uri": f"fd:{_NAME}"})
    except BaseException:
        with contextlib.suppress(HostFailure):
            await vm.monitor.execute("closefd", {"fdname": _NAME})
        raise


async def _until(vm: Vm, wanted: str, *, hurry: bool = False) -> None:
    """Wait for a state of the migration; with `hurry` the guest is stopped when it takes too long."""
    stop_at = asyncio.get_running_loop().time() + _SECONDS
    while True:
        found = await vm.monitor.execute("query-migrate", deadline=CHANGE_DEADLINE)
        state = found.get("status", "none")
        if state == wanted:
            return
        if state in _ENDED and state != "none":
            raise _failure(vm, state, str(found.get("error-desc", "")))
        rounds = found.get("ram", {}).get("dirty-sync-count", 0)
        if hurry and state == "active" and (rounds > _ROUNDS or asyncio.get_running_loop().time() > stop_at):
            await _change(vm, "stop", {})
            hurry = False
        await asyncio.sleep(_INTERVAL)


async def _undo(vm: Vm, *, ran: bool) -> None:
    await give_up(vm)
    if ran:
        await _change(vm, "cont", {})
    await ask_state(vm)


async def _status(vm: Vm) -> str:
    return str((await vm.monitor.execute("query-migrate")).get("status", "none"))


async def _change(vm: Vm, command: str, arguments: dict[str, Any]) -> None:
    await vm.monitor.execute(command, arguments, deadline=CHANGE_DEADLINE)


def _failure(vm: Vm, state: str, said: str) -> HostFailure:
    if os.strerror(errno.ENOSPC) in said:
        return NoSpace(f"the storage is full: the memory of VM {vm.vmid} does not fit")
    return HostFailure(f"the memory of VM {vm.vmid} is not whole: {said[:300] or state}")
