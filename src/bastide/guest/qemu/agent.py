"""The guest agent: one conversation at a time a guest, begun by a synchronisation, bounded in time and size.

The agent belongs to the guest, who may answer what, when and as long as it likes: whatever it does costs its caller
the deadline. Source: QEMU's docs/interop/qemu-ga-ref, guest-sync-delimited.
"""

import asyncio
import contextlib
import json
import secrets
import socket
from collections.abc import Mapping
from typing import Any

from bastide.base.errors import BastideError, DeadlineExceeded, HostFailure, WrongState
from bastide.guest.qemu.runtime import Runtime, Vm
from bastide.host import unix_sockets

ANSWER_LIMIT = 16 * 1024 * 1024
_CHUNK = 64 * 1024
_PROBE_DEADLINE = 2.0
_SENTINEL = b"\xff"


class Agent:
    """The `VmAgent` part of the engine."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def ask(self, vmid: int, command: str, arguments: Mapping[str, Any] | None = None, *, deadline: float) -> Any:
        """One command's answer."""
        return await self._converse(vmid, command, arguments, deadline, answered=True)

    async def tell_agent(
        self, vmid: int, command: str, arguments: Mapping[str, Any] | None = None, *, deadline: float
    ) -> None:
        """Like `ask` for a command that is not answered when it succeeds (guest-shutdown): returns once it is sent."""
        await self._converse(vmid, command, arguments, deadline, answered=False)

    async def agent_answers(self, vmid: int) -> bool:
        """Whether an agent answers now, within 2 s."""
        try:
            await self.ask(vmid, "guest-ping", deadline=_PROBE_DEADLINE)
        except BastideError:
            return False
        return True

    async def _converse(
        self, vmid: int, command: str, arguments: Mapping[str, Any] | None, deadline: float, *, answered: bool
    ) -> Any:
        vm = self._runtime.require(vmid)
        try:
            async with asyncio.timeout(deadline), vm.agent_turn:
                await self._check_listening(vm, deadline)
                with contextlib.closing(unix_sockets.connect(self._runtime.socket(vmid, "qga"))) as sock:
                    talk = Conversation(sock)
                    await talk.synchronise()
                    return await talk.ask(command, arguments, answered=answered)
        except TimeoutError:
            raise DeadlineExceeded(f"the guest agent of VM {vmid} did not answer within {deadline:g} seconds") from None
        except OSError as error:
            self._runtime.require(vmid)
            raise HostFailure(f"the guest agent of VM {vmid} cannot be reached: {error.strerror or error}") from error

    async def _check_listening(self, vm: Vm, deadline: float) -> None:
        """QEMU knows whether the guest has opened the agent's port: no need to wait when it has not."""
        if not self._runtime.socket(vm.vmid, "qga").exists():
            raise WrongState("No QEMU guest agent configured")
        ports = await vm.monitor.execute("query-chardev", deadline=min(deadline, _PROBE_DEADLINE))
        if not any(port.get("label") == "qga" and port.get("frontend-open") for port in ports):
            raise WrongState("QEMU guest agent is not running")


class Conversation:
    """Messages over a connected, non-blocking socket. Raises HostFailure for answers that are none, OSError."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._read = bytearray()

    async def synchronise(self) -> None:
        """Get past whatever an earlier conversation has left in the line."""
        token = secrets.randbits(52)
        message = {"execute": "guest-sync-delimited", "arguments": {"id": token}}
        # The agent drops what stands before the sentinel: half a command of somebody who went away.
        await self._send(_SENTINEL + json.dumps(message).encode() + b"\n")
        while True:
            await self._skip_to_sentinel()
            with contextlib.suppress(ValueError, RecursionError):
                answer = json.loads(await self._line())
                if isinstance(answer, dict) and answer.get("return") == token:
                    return

    async def ask(self, command: str, arguments: Mapping[str, Any] | None, *, answered: bool = True) -> Any:
        """Send a command, and return what its answer returns."""
        message = {"execute": command, **({"arguments": dict(arguments)} if arguments else {})}
        await self._send(json.dumps(message).encode() + b"\n")
        if not answered:
            return None
        line = await self._line()
        try:
            answer = await asyncio.to_thread(json.loads, line)
        except (ValueError, RecursionError):
            raise HostFailure(f"the guest agent's answer to {command} is not JSON") from None
        if not isinstance(answer, dict) or not ("return" in answer or isinstance(answer.get("error"), dict)):
            raise HostFailure(f"the guest agent's answer to {command} is none")
        if "return" not in answer:
            text = str(answer["error"].get("desc", "no reason"))[:1000]
            raise HostFailure(f"the guest agent refused {command}: {text}")
        return answer["return"]

    async def _send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def _more(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self._sock, _CHUNK)
        if not data:
            raise HostFailure("the guest agent's port was closed")
        self._read += data

    async def _skip_to_sentinel(self) -> None:
        while True:
            at = self._read.rfind(_SENTINEL)
            if at >= 0:
                del self._read[: at + 1]
                return
            self._read.clear()
            await self._more()

    async def _line(self) -> bytes:
        searched = 0
        while True:
            at = self._read.find(b"\n", searched)
            if at >= 0:
                line = bytes(self._read[:at])
                del self._read[: at + 1]
                return line
            searched = len(self._read)
            if searched > ANSWER_LIMIT:
                raise HostFailure(f"the guest agent's answer is longer than {ANSWER_LIMIT >> 20} MiB")
            await self._more()
