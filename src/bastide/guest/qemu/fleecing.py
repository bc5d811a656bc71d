"""A running VM's disks as they are at one moment: what the guest overwrites is copied to a fleece first.

Over the image of each drive, `drive-<name>`, comes a filter, `filter-<name>`, which copies to `fleece-<name>`;
`moment-<name>` shows the state through it, and QEMU's own NBD server exports that as `<key>`. What a daemon that died
held is found again by these names. Sources: QEMU's QMP reference (BlockdevOptionsCbw, snapshot-access,
nbd-server-start, block-export-add), its iotest `image-fleecing` for `qom-set` of a device's `drive`.
"""

import asyncio
import contextlib
import os
import socket
import stat
from asyncio.subprocess import Process
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bastide.base.errors import DeadlineExceeded, HostFailure, WrongState
from bastide.guest.qemu.events import ask_state
from bastide.guest.qemu.nodes import change, inserted
from bastide.guest.qemu.runtime import Runtime, Vm
from bastide.guest.qemu.snapshots import Snapshots
from bastide.guest.vm_protocol import at_once
from bastide.host import unix_sockets
from bastide.host.nbd import NbdClient
from bastide.host.nbd_relay import relay
from bastide.host.qmp import CommandRefused
from bastide.host.run import kill_group
from bastide.model.backup import DiskExport

_FILTER, _FLEECE, _MOMENT, _LINK = "filter-", "fleece-", "moment-", "link-"
_SERVER = "nbd"
# Longer than a disk may take, and shorter than a guest's driver waits (Linux: 30 s).
_FLEECE_SECONDS = 20
_PROBE = 512
_INTERVAL = 0.02
_DEADLINE = 20.0
# Since 9.0 QEMU closes a connection to an export in its main thread, whichever thread the drive has.
_CLOSES_SAFELY = (9, 0)


@dataclass(frozen=True, slots=True)
class _Held:
    """A drive whose state is held: its key, the name that its nodes have, its size in bytes."""

    key: str
    name: str
    size: int


class Fleecing(Snapshots):
    """The `VmBackups` part of the engine."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._relays: dict[int, list[Process]] = {}
        self._exports: dict[int, Mapping[str, DiskExport]] = {}

    async def begin_backup(
        self,
        vmid: int,
        fleeces: Mapping[str, int],
        *,
        resume: bool = False,
        still: Callable[[], AbstractAsyncContextManager[None]] = at_once,
    ) -> Mapping[str, DiskExport]:
        """Hold the present state of these drives, and export it."""
        vm = await self._with_disks(vmid)
        async with vm.changing, AsyncExitStack() as undo:
            if await _names(vm, _FILTER, _FLEECE, _MOMENT):
                raise WrongState(f"there is a backup of VM {vmid} under way already")
            undo.push_async_callback(_shielded, self._let_go, vm)
            drives = [await _add_fleece(vm, key, fleece) for key, fleece in fleeces.items()]
            await _settle(vm, {drive.name for drive in drives})
            async with still():
                await _hold(vm, drives, resume=resume)
            exports = self._exports[vmid] = await self._export(vm, drives)
            undo.pop_all()
        return exports

    async def backup_failed(self, vmid: int) -> str | None:
        """Why the state is not to be had any more: reading it says so."""
        if self._runtime.find(vmid) is None:
            return f"VM {vmid} has ended"
        if vmid not in self._exports:
            return f"no state of VM {vmid}'s disks is held"
        for export in self._exports[vmid].values():
            try:
                await asyncio.to_thread(_probe, export)
            except TimeoutError:
                continue  # it is busy: nothing is lost by that
            except OSError:
                return f"what the guest overwrote on {export.key} could not be kept: its fleece is full or broken"
        return None

    async def end_backup(self, vmid: int) -> None:
        """Let go of the states, also of what a daemon that died held."""
        vm = self._runtime.find(vmid)
        self._exports.pop(vmid, None)
        if vm is None:
            await self._end_relays(vmid)
            return
        async with vm.changing:
            await self._let_go(vm)

    async def _export(self, vm: Vm, drives: Collection[_Held]) -> Mapping[str, DiskExport]:
        path = await self._served(vm)
        threads = {row["id"] for row in await vm.monitor.execute("query-iothreads")}
        found = {}
        for drive in drives:
            node = f"{_MOMENT}{drive.name}"
            await change(vm, "block-export-add", {"type": "nbd", "id": node, "node-name": node, "name": drive.key})
            found[drive.key] = DiskExport(drive.key, path, drive.size, drive.key)
            if f"iothread-{drive.key}" in threads and _version(vm) < _CLOSES_SAFELY:
                found[drive.key] = await self._relayed(vm, found[drive.key])
        return found

    async def _served(self, vm: Vm) -> Path:
        """The socket of QEMU's NBD server, which goes on without exports: a QEMU before 9.0 may wait for ever in
        `nbd-server-stop`.
        """
        path = self._runtime.socket(vm.vmid, _SERVER)
        if not path.exists():
            with contextlib.suppress(CommandRefused):  # a daemon that died may have been here
                await change(vm, "nbd-server-stop", {})
            early = path.with_name(f"{_SERVER}.early.sock")
            with unix_sockets.listen(early, backlog=64) as listener:
                await vm.monitor.execute_with(listener.fileno(), "getfd", {"fdname": _SERVER})
            address = {"type": "fd", "data": {"str": _SERVER}}
            await change(vm, "nbd-server-start", {"addr": address, "max-connections": 0})
            early.rename(path)
        return path

    async def _relayed(self, vm: Vm, export: DiskExport) -> DiskExport:
        """The export of a drive with a thread of its own, behind a process whose end QEMU does not see.

        QEMU before 9.0 aborts when a client of such a drive closes its connection. So there is one connection, QEMU
        itself holds its other end, too, and the export is removed before it ends.
        """
        path = self._runtime.socket(vm.vmid, f"{_SERVER}-{export.key}")
        with _connected(export) as peer:
            await vm.monitor.execute_with(peer.fileno(), "getfd", {"fdname": f"{_LINK}{export.key}"})
            process = await relay(peer, export.export, export.size, path)
        self._relays.setdefault(vm.vmid, []).append(process)
        return DiskExport(export.key, path, export.size)

    async def _let_go(self, vm: Vm) -> None:
        exports = [row["id"] for row in await vm.monitor.execute("query-block-exports") if _is_ours(row["id"], _MOMENT)]
        for export in exports:
            with contextlib.suppress(CommandRefused):
                await change(vm, "block-export-del", {"id": export, "mode": "hard"})
        await self._end_relays(vm.vmid)
        for key in {_key(node) for node in await _names(vm, _FILTER)}:
            # From now on: what waits to send to a connection that is closed on our side alone waits for ever.
            with contextlib.suppress(CommandRefused):  # there is none
                await change(vm, "closefd", {"fdname": f"{_LINK}{key}"})
        await _until_gone(vm, exports)
        for node in await _names(vm, _MOMENT):
            await change(vm, "blockdev-del", {"node-name": node})
        for node in await _names(vm, _FILTER):
            await _take_out(vm, node)
        for node in await _names(vm, _FLEECE):
            await change(vm, "blockdev-del", {"node-name": node})
        for row in await vm.monitor.execute("query-fdsets"):
            for one in row["fds"]:
                if _is_ours(str(one.get("opaque", "")), _FLEECE):
                    _empty(vm, one["fd"])
                    await change(vm, "remove-fd", {"fdset-id": row["fdset-id"]})

    async def close(self) -> None:
        """End the processes that pass on what VMs export; the next daemon ends the rest."""
        for vmid in list(self._relays):
            await self._end_relays(vmid)

    async def _end_relays(self, vmid: int) -> None:
        for process in self._relays.pop(vmid, []):
            await kill_group(process)
        for path in self._runtime.folder(vmid).glob(f"{_SERVER}-*.sock"):
            path.unlink(missing_ok=True)


async def _add_fleece(vm: Vm, key: str, descriptor: int) -> _Held:
    """Make the image to which a drive's old content goes."""
    found = await inserted(vm, key)
    drive = _Held(key, found["node-name"].removeprefix("drive-"), int(found["image"]["virtual-size"]))
    device = stat.S_ISBLK(os.fstat(descriptor).st_mode)
    if not device:
        os.ftruncate(descriptor, drive.size)
    fleece = f"{_FLEECE}{drive.name}"
    number = int((await vm.monitor.execute_with(descriptor, "add-fd", {"opaque": fleece}))["fdset-id"])
    file = {
        "driver": "host_device" if device else "file",
        "filename": f"/dev/fdset/{number}",
        # It is worth nothing after a loss of power.
        "cache": {"no-flush": True},
        "discard": "unmap",
    }
    await change(vm, "blockdev-add", {"driver": "raw", "node-name": fleece, "size": drive.size, "file": file})
    return drive


async def _settle(vm: Vm, names: Collection[str]) -> None:
    """Have the kernel write what it still caches of the images: QEMU waits for that while the guest stands still."""
    numbers = [
        one["fd"]
        for row in await vm.monitor.execute("query-fdsets")
        for one in row["fds"]
        if str(one.get("opaque", "")).partition(".")[0] in names
    ]

    def write() -> None:
        for number in numbers:
            with contextlib.suppress(OSError):
                descriptor = os.open(f"/proc/{vm.handle.pid}/fd/{number}", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fdatasync(descriptor)
                finally:
                    os.close(descriptor)

    await asyncio.to_thread(write)


async def _hold(vm: Vm, drives: Collection[_Held], *, resume: bool) -> None:
    """Put the filters in while the virtual CPUs stand: that is the moment.

    All that touches the images of a drive with a thread of its own is done here: a QEMU before 9.0 that has to wait for
    such a drive's requests while it adds a node aborts.
    """
    ran = await ask_state(vm) == "running"
    if ran:
        await change(vm, "stop", {})
    try:
        for drive in drives:
            await _put_in(vm, drive)
    finally:
        if ran or resume:
            await _shielded(_go_on, vm)


async def _go_on(vm: Vm) -> None:
    await change(vm, "cont", {})
    await ask_state(vm)


async def _use(vm: Vm, key: str, node: str) -> None:
    """Have a drive use a node, while its device is in use itself."""
    # The flash chip with the EFI variables is a part of the machine.
    path, name = ("/machine", "pflash1") if key == "efidisk0" else (f"/machine/peripheral/{key}", "drive")
    await change(vm, "qom-set", {"path": path, "property": name, "value": node})


async def _put_in(vm: Vm, drive: _Held) -> None:
    node = f"{_FILTER}{drive.name}"
    above = {
        "driver": "copy-before-write",
        "node-name": node,
        "file": f"drive-{drive.name}",
        "target": f"{_FLEECE}{drive.name}",
        "on-cbw-error": "break-snapshot",
        "cbw-timeout": _FLEECE_SECONDS,
    }
    await change(vm, "blockdev-add", above)
    await _use(vm, drive.key, node)
    access = {"driver": "snapshot-access", "node-name": f"{_MOMENT}{drive.name}", "file": node}
    await change(vm, "blockdev-add", access)


async def _take_out(vm: Vm, node: str) -> None:
    name = node.removeprefix(_FILTER)
    with contextlib.suppress(CommandRefused):  # the guest has let go of the device, or the filter never was in use
        await _use(vm, _key(node), f"drive-{name}")
    await change(vm, "blockdev-del", {"node-name": node})


def _empty(vm: Vm, descriptor: int) -> None:
    """Free what a fleece holds: QEMU of a guest that stands still closes it when that goes on."""
    with contextlib.suppress(OSError):
        ours = os.open(f"/proc/{vm.handle.pid}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(ours).st_mode):
                os.ftruncate(ours, 0)
        finally:
            os.close(ours)


async def _until_gone(vm: Vm, exports: Collection[str]) -> None:
    left = set(exports)
    try:
        async with asyncio.timeout(_DEADLINE):
            while left:
                left &= {row["id"] for row in await vm.monitor.execute("query-block-exports")}
                await asyncio.sleep(_INTERVAL if left else 0)
    except TimeoutError:
        keys = ", ".join(sorted(_key(name) for name in left))
        raise DeadlineExceeded(f"QEMU of VM {vm.vmid} does not end its exports of {keys}") from None


async def _names(vm: Vm, *prefixes: str) -> list[str]:
    """The nodes of ours that a running QEMU has."""
    rows = await vm.monitor.execute("query-named-block-nodes", {"flat": True})
    return [row["node-name"] for row in rows if _is_ours(row["node-name"], *prefixes)]


def _key(node: str) -> str:
    """The key of the drive that a node of ours is for: `filter-scsi0-1a2b` for `scsi0`."""
    return node.split("-")[1]


def _is_ours(name: str, *prefixes: str) -> bool:
    return name.startswith(prefixes)


def _probe(export: DiskExport) -> None:
    """Read a little of it. Raises OSError: of a state that is lost nothing can be read."""
    with NbdClient(unix_sockets.connect(export.socket), export.export, timeout=_DEADLINE) as client:
        client.read(0, _PROBE)


@contextlib.contextmanager
def _connected(export: DiskExport) -> Iterator[socket.socket]:
    try:
        peer = unix_sockets.connect(export.socket)
    except OSError as error:
        raise HostFailure(f"cannot connect to QEMU's NBD server: {error}") from error
    with peer:
        peer.setblocking(True)
        yield peer


def _version(vm: Vm) -> tuple[int, ...]:
    return tuple(int(part) for part in vm.launched.qemu.split("."))


async def _shielded(work: Callable[[Vm], Any], vm: Vm) -> None:
    """What must not stay half done when its task is told to end."""
    await asyncio.shield(work(vm))
