"""Screens and ports of a VM.

A screen needs no password: `vnc` hands QEMU one end of a socket pair, and whoever holds the other end has been let in
already (RFB security type None). With a password QEMU asks for it by RFB's VNC authentication, whose eight characters
and DES protect nothing that a single-use ticket and TLS do not; it is there for viewers that insist.
"""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bastide.base.errors import HostFailure, WrongState
from bastide.guest.qemu.agent import Agent
from bastide.guest.qemu.runtime import Vm
from bastide.host import unix_sockets
from bastide.host.qmp import CHANGE_DEADLINE, CommandRefused

_PICTURE_LIMIT = 64 * 1024 * 1024
_SCREEN_DEADLINE = 10.0
_ACCEPT_DEADLINE = 5.0


class Console(Agent):
    """The `VmConsole` part of the engine."""

    async def serial(self, vmid: int, port: int) -> int:
        """A connected descriptor to `serial<port>`. Raises WrongState without one, and when somebody else has it."""
        vm = self._runtime.require(vmid)
        name = f"serial{port}"
        path = self._runtime.socket(vmid, name)
        if not path.exists():
            raise WrongState(f"VM {vmid} has no serial port {name} with a socket")
        async with vm.changing:
            if not await _is_free(vm, name):
                raise WrongState(f"{name} of VM {vmid} is in use by another console")
            try:
                connection = unix_sockets.connect(path)
            except OSError as error:
                raise HostFailure(f"cannot connect to {name} of VM {vmid}: {error.strerror or error}") from error
            with contextlib.ExitStack() as undo:
                undo.callback(connection.close)
                await _taken(vm, name)
                undo.pop_all()
        return connection.detach()

    async def vnc(self, vmid: int, password: str | None = None) -> int:
        """A connected descriptor that speaks RFB with the guest's screen; a password is RFB's, of 8 characters."""
        vm = self._runtime.require(vmid)
        if password is not None:
            await vm.monitor.execute("set_password", {"protocol": "vnc", "password": password})
        return await self._handed(vmid, "vnc", skipauth=password is None)

    async def _handed(self, vmid: int, protocol: str, *, skipauth: bool) -> int:
        vm = self._runtime.require(vmid)
        ours, qemus = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with qemus, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            await hand_over(vm, qemus.fileno(), protocol, skipauth=skipauth)
            undo.pop_all()
        return ours.detach()

    async def spice_password(self, vmid: int, password: str, seconds: int) -> None:
        """Set what SPICE clients must know for as long. Raises WrongState for a VM without SPICE (`vga: qxl`)."""
        vm = self._runtime.require(vmid)
        try:
            await vm.monitor.execute("set_password", {"protocol": "spice", "password": password})
            await vm.monitor.execute("expire_password", {"protocol": "spice", "time": f"+{seconds}"})
        except CommandRefused:
            raise WrongState(f"VM {vmid} has no SPICE: give it one with vga=qxl and start it anew") from None

    async def spice(self, vmid: int) -> int:
        """A connected descriptor for one channel of a SPICE client, in the clear; QEMU asks it for the password."""
        return await self._handed(vmid, "spice", skipauth=False)

    async def screenshot(self, vmid: int) -> bytes:
        """The screen as PNG."""
        vm = self._runtime.require(vmid)
        memory = os.memfd_create("screen", os.MFD_CLOEXEC)
        try:
            # QEMU takes a descriptor of a set only for the very access that it wants.
            writing = os.open(f"/proc/self/fd/{memory}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                async with descriptor_set(vm, writing, "screen") as number:
                    await vm.monitor.execute(
                        "screendump", {"filename": f"/dev/fdset/{number}", "format": "png"}, deadline=_SCREEN_DEADLINE
                    )
            finally:
                os.close(writing)
            size = os.fstat(memory).st_size
            if size > _PICTURE_LIMIT:
                raise HostFailure(f"the picture of VM {vmid}'s screen is larger than {_PICTURE_LIMIT >> 20} MiB")
            return os.pread(memory, size, 0)
        finally:
            os.close(memory)

    async def send_keys(self, vmid: int, keys: Sequence[str]) -> None:
        """Press keys together (QKeyCode names)."""
        pressed = [{"type": "qcode", "data": key} for key in keys]
        await self._runtime.require(vmid).monitor.execute("send-key", {"keys": pressed})

    async def monitor(self, vmid: int, line: str) -> str:
        """Run a command of QEMU's human monitor and return what it prints."""
        vm = self._runtime.require(vmid)
        answer = await vm.monitor.execute("human-monitor-command", {"command-line": line}, deadline=CHANGE_DEADLINE)
        return str(answer)


async def _is_free(vm: Vm, name: str) -> bool:
    ports = await vm.monitor.execute("query-chardev")
    here = next((one for one in ports if one.get("label") == name), None)
    return here is not None and str(here.get("filename", "")).startswith("disconnected:")


async def _taken(vm: Vm, name: str) -> None:
    """Wait until QEMU has accepted the connection: till then it stands in the backlog and the port seems free."""
    try:
        async with asyncio.timeout(_ACCEPT_DEADLINE):
            while await _is_free(vm, name):  # noqa: ASYNC110 - QEMU tells nobody
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise HostFailure(f"{name} of VM {vm.vmid} does not answer: QEMU is too busy, try again") from None


async def hand_over(vm: Vm, descriptor: int, protocol: str, *, skipauth: bool) -> None:
    """Give a client's connection to QEMU's `vnc` or `spice` server. Raises HostFailure."""
    name = f"client-{secrets.token_hex(8)}"
    await vm.monitor.execute_with(descriptor, "getfd", {"fdname": name})
    try:
        await vm.monitor.execute("add_client", {"protocol": protocol, "fdname": name, "skipauth": skipauth})
    except BaseException:
        with contextlib.suppress(HostFailure):
            await vm.monitor.execute("closefd", {"fdname": name})
        raise


@asynccontextmanager
async def descriptor_set(vm: Vm, descriptor: int, opaque: str) -> AsyncIterator[int]:
    """The number of a set in QEMU (`/dev/fdset/N`) that holds the descriptor while entered."""
    number = int((await vm.monitor.execute_with(descriptor, "add-fd", {"opaque": opaque}))["fdset-id"])
    try:
        yield number
    finally:
        with contextlib.suppress(HostFailure):
            await vm.monitor.execute("remove-fd", {"fdset-id": number})
