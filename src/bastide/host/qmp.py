"""A QMP connection to one QEMU: commands with deadlines, events, descriptors; opened again when it breaks.

QEMU's own `qemu.qmp` speaks the protocol. What it lacks is here: a QEMU that hangs costs each caller its deadline and
nobody anything else. Source: QEMU's docs/interop/qmp-spec and its QMP reference.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bastide.base.errors import DeadlineExceeded, HostFailure
from bastide.host import unix_sockets

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

QUERY_DEADLINE = 2.0
CHANGE_DEADLINE = 30.0
_CLOSE_DEADLINE = 0.5
_PAUSES = (0.05, 0.2, 1.0, 5.0)
# Its log would hold every message, passwords too, and calls an answer that came too late an error.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)


class CommandRefused(HostFailure):
    """QEMU answered a command with an error; `kind` is its class, such as `DeviceNotFound`."""

    def __init__(self, command: str, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(f"QEMU refused {command}: {text}")


class Monitor:
    """The connection to the UNIX socket at `path`.

    `tell(event, data)` is called for each event, and with `CONNECTED` whenever the connection is up (again): what
    happened meanwhile was told to nobody.
    """

    def __init__(self, path: Path, tell: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._path = path
        self._tell = tell
        self._client: QMPClient | None = None
        self._up = asyncio.Event()
        self._descriptors = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the connection is up."""
        return self._up.is_set()

    def follow(self) -> None:
        """Connect, and connect again whenever the connection breaks, until `close`. Needs a running event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name=f"qmp {self._path}")

    async def close(self) -> None:
        """End the connection; whoever waits for an answer gets a HostFailure."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=2 * _CLOSE_DEADLINE)

    async def wait_connected(self, deadline: float) -> None:
        """Return once the connection is up. Raises DeadlineExceeded."""
        try:
            async with asyncio.timeout(deadline):
                await self._up.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"QEMU's monitor did not answer within {deadline:g} seconds") from None

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, deadline: float = QUERY_DEADLINE
    ) -> Any:
        """A command's answer. Raises CommandRefused, DeadlineExceeded, HostFailure when QEMU ends meanwhile."""
        return await self._within(deadline, command, arguments, None)

    async def execute_with(
        self, descriptor: int, command: str, arguments: Mapping[str, Any], *, deadline: float = CHANGE_DEADLINE
    ) -> Any:
        """Like `execute`, for a command that takes an open descriptor along (`getfd`, `add-fd`); it stays open here."""
        return await self._within(deadline, command, arguments, descriptor)

    async def _within(
        self, deadline: float, command: str, arguments: Mapping[str, Any] | None, descriptor: int | None
    ) -> Any:
        try:
            async with asyncio.timeout(deadline):
                await self._up.wait()
                if descriptor is None:
                    return await self._execute(command, arguments)
                # QEMU keeps the descriptors of the last message alone: nothing else may come between.
                async with self._descriptors:
                    _send(self._client, descriptor)
                    return await self._execute(command, arguments)
        except TimeoutError:
            raise DeadlineExceeded(f"QEMU did not answer {command} within {deadline:g} seconds") from None

    async def _execute(self, command: str, arguments: Mapping[str, Any] | None) -> Any:
        from qemu.qmp import ExecuteError, QMPError  # noqa: PLC0415 - loaded when there is a VM

        if self._client is None:
            raise HostFailure(f"QEMU's monitor is not connected: {command}")
        try:
            return await self._client.execute(command, arguments)
        except ExecuteError as error:
            raise CommandRefused(command, error.error.error.class_, error.error.error.desc) from None
        except QMPError as error:
            raise HostFailure(f"QEMU ended or closed its monitor during {command}: {error}") from error

    async def _follow(self) -> None:
        attempt = 0
        while True:
            if await self._session():
                attempt = 0
            await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
            attempt += 1

    async def _session(self) -> bool:
        """One connection from its beginning to its end; whether there was one."""
        from qemu.qmp import QMPClient, QMPError  # noqa: PLC0415 - loaded when there is a VM

        client = QMPClient()
        try:
            # A QEMU that hangs accepts the connection when it goes on; until then this waits.
            await client.connect(unix_sockets.connect(self._path))
            self._client = client
            self._up.set()
            self._tell("CONNECTED", {})
            ended = asyncio.create_task(_end(client))
            try:
                await self._events(client, ended)
            finally:
                ended.cancel()
        except (QMPError, OSError, EOFError):
            return self._client is client
        finally:
            self._client = None
            self._up.clear()
            await _disconnect(client)
        return True

    async def _events(self, client: "QMPClient", ended: "asyncio.Task[None]") -> None:
        while not ended.done():
            event = asyncio.create_task(client.events.get())
            try:
                await asyncio.wait([event, ended], return_when=asyncio.FIRST_COMPLETED)
                if event.done():
                    self._pass_on(event.result())
            finally:
                event.cancel()
        for message in client.events.clear():
            self._pass_on(message)

    def _pass_on(self, message: Mapping[str, Any]) -> None:
        data = message.get("data")
        self._tell(str(message["event"]), data if isinstance(data, dict) else {})


async def _end(client: "QMPClient") -> None:
    from qemu.qmp import Runstate  # noqa: PLC0415 - loaded when there is a VM

    while client.runstate is Runstate.RUNNING:
        await client.runstate_changed()


async def _disconnect(client: "QMPClient") -> None:
    """Let go of a connection, also to a QEMU that reads nothing: the library would wait for it for ever."""
    from qemu.qmp import Runstate  # noqa: PLC0415 - loaded when there is a VM

    if client.runstate is Runstate.IDLE:
        return
    writer = client._writer
    # Not cancelled: that would leave its parts behind.
    ending = asyncio.ensure_future(client.disconnect())
    ending.add_done_callback(lambda task: task.cancelled() or task.exception())
    try:
        await asyncio.wait([ending], timeout=_CLOSE_DEADLINE)
    finally:
        if writer is not None:
            writer.transport.abort()
    await asyncio.wait([ending], timeout=_CLOSE_DEADLINE)


def _send(client: "QMPClient | None", descriptor: int) -> None:
    from qemu.qmp import QMPError  # noqa: PLC0415 - loaded when there is a VM

    if client is None:
        raise HostFailure("QEMU's monitor is not connected")
    try:
        client.send_fd_scm(descriptor)
    except (QMPError, OSError) as error:
        raise HostFailure(f"cannot hand a descriptor to QEMU: {error}") from error
