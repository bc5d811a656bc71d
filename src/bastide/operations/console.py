"""Consoles of guests, and terminals in the browser the way Proxmox VE offers them.

`Consoles.offer` begins a task and binds a port number (a label: nothing listens there) to a guest and a user; whoever
comes with the ticket for it within half a minute gets the terminal, once. The browser's terminal speaks a stream of
its own, which may be cut into frames anywhere: `0:LEN:data` is input, `1:COLS:ROWS:` a size, `2` a ping; what comes
back is the plain output.
"""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bastide.base.errors import AuthenticationFailed, DeadlineExceeded, HostFailure, WrongState
from bastide.base.ids import Upid
from bastide.guest.protocol import Terminal
from bastide.host import attached
from bastide.model.access import Identity
from bastide.model.guest import Guest
from bastide.operations import execute
from bastide.operations.execute import Channel, Session
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

PORTS = range(5900, 6000)
"""What the reference allows for a console's port."""

WAIT = 30.0
"""Seconds that an offered terminal waits for its client."""

_LOGIN_LIMIT = 1024
_LOGIN_DEADLINE = 10.0
_INPUT_LIMIT = 64 * 1024
_NUMBER_LIMIT = 6
_FIRST_SIZE = Terminal()
# The guest's own login shell; the text holds nothing from outside.
_SHELL = ["/bin/sh", "-c", "cd; if [ -x /bin/bash ]; then exec /bin/bash -l; fi; exec /bin/sh -l"]


@dataclass(eq=False, slots=True)
class Offer:
    """A terminal that waits for its client, or has it. `init` is the guest's first process: another run is another."""

    vmid: int
    user: str
    port: int
    init: int | None
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


class Consoles:
    """The consoles that are open or offered. Kept in memory: neither outlives the daemon."""

    def __init__(self) -> None:
        self._offers: dict[int, Offer] = {}
        self._ttys: set[tuple[int, int]] = set()

    @contextlib.asynccontextmanager
    async def open(self, rooms: Rooms, guest: Guest, tty: int | None, terminal: Terminal) -> AsyncIterator[Session]:
        """A guest's console: tty 0 is /dev/console, 1 and up the virtual terminals, None what its `cmode` says.

        Raises WrongState, HostFailure.
        """
        execute.require_running(rooms, guest)
        if tty is None and guest.config.get("cmode") == "shell":
            shell = execute.command_of(_SHELL, tty=True)
            with contextlib.closing(await execute.execute(rooms, guest, shell, terminal)) as session:
                yield session
            return
        chosen = self._choose(guest) if tty is None else tty
        _check(guest, chosen)
        with self._hold(guest.vmid, chosen):
            process, master = await rooms.containers.console(guest.vmid, chosen, terminal)
            with contextlib.closing(Session(process, attached.Descriptor(master))) as session:
                yield session

    def _choose(self, guest: Guest) -> int:
        """The first virtual terminal that has no client, or /dev/console."""
        count = int(guest.config.get("tty", 2))
        if guest.config.get("cmode", "tty") == "console" or count == 0:
            return 0
        return next((tty for tty in range(1, count + 1) if (guest.vmid, tty) not in self._ttys), 1)

    @contextlib.contextmanager
    def _hold(self, vmid: int, tty: int):  # type: ignore[no-untyped-def]
        added = (vmid, tty) not in self._ttys
        self._ttys.add((vmid, tty))
        try:
            yield
        finally:
            if added:
                self._ttys.discard((vmid, tty))

    async def offer(self, rooms: Rooms, guest: Guest, by: Identity) -> tuple[Offer, Upid]:
        """Offer a terminal of a running guest; a task lasts as long as it does. Raises WrongState."""
        execute.require_running(rooms, guest)
        port = next((port for port in PORTS if port not in self._offers), None)
        if port is None:
            raise HostFailure("all console ports are in use: close a terminal and try again")
        offer = self._offers[port] = Offer(guest.vmid, str(by), port, rooms.containers.init_pid(guest.vmid))

        async def work(task: Task) -> None:
            task.log(f"starting terminal proxy for CT {guest.vmid} on port {port}")
            try:
                await self._last(offer)
            finally:
                offer.stopped.set()
                self._offers.pop(port, None)

        try:
            return offer, await rooms.tasks.start("vncproxy", str(guest.vmid), by, work)
        except BaseException:
            self._offers.pop(port, None)
            raise

    async def _last(self, offer: Offer) -> None:
        try:
            async with asyncio.timeout(WAIT):
                await offer.taken.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"connection timed out: nobody came within {WAIT:g} seconds") from None
        await offer.closed.wait()

    def take(self, vmid: int, user: str, port: int) -> Offer:
        """The offer that a valid ticket is for; only one client gets it. Raises AuthenticationFailed."""
        offer = self._offers.get(port)
        if offer is None or offer.taken.is_set() or (offer.vmid, offer.user) != (vmid, user):
            raise AuthenticationFailed("permission denied - invalid PVEVNC ticket")
        offer.taken.set()
        return offer

    async def serve(self, rooms: Rooms, guest: Guest, offer: Offer, channel: Channel, ticket: str) -> None:
        """Join a client that took an offer to its terminal, until it goes, the shell ends or the task is stopped.

        The client says `user:ticket` once more before anything of the guest is shown to it.
        Raises AuthenticationFailed when it does not.
        """
        try:
            rest = await _login(channel, f"{offer.user}:{ticket}")
            if rooms.containers.init_pid(guest.vmid) != offer.init:
                raise WrongState(f"CT {guest.vmid} was restarted since the terminal was offered")
            async with self.open(rooms, guest, None, _FIRST_SIZE) as session:
                browser = _Browser(channel, rest)
                await channel.send(b"OK")
                joined = asyncio.create_task(execute.join(session, browser))
                stopped = asyncio.create_task(offer.stopped.wait())
                try:
                    await asyncio.wait({joined, stopped}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    joined.cancel()
                    stopped.cancel()
                    await asyncio.gather(joined, stopped, return_exceptions=True)
        finally:
            offer.closed.set()


def _check(guest: Guest, tty: int) -> None:
    """Raise WrongState when the guest has no such terminal."""
    if tty == 0 and not guest.config.get("console", 1):
        raise WrongState(f"CT {guest.vmid} has no console (console=0)")
    if tty > int(guest.config.get("tty", 2)):
        raise WrongState(f"CT {guest.vmid} has no tty {tty}: it has {guest.config.get('tty', 2)}")


async def _login(channel: Channel, wanted: str) -> bytes:
    """Read the line that a client begins with; returns what came behind it."""
    received = b""
    try:
        async with asyncio.timeout(_LOGIN_DEADLINE):
            while b"\n" not in received and len(received) < _LOGIN_LIMIT:
                frame = await channel.receive()
                if frame is None:
                    break
                received += frame
    except TimeoutError:
        raise DeadlineExceeded("the terminal's client did not say who it is") from None
    line, newline, rest = received.partition(b"\n")
    if not newline or not hmac.compare_digest(line, wanted.encode()):
        raise AuthenticationFailed("permission denied - invalid PVEVNC ticket")
    return rest


class TerminalStream:
    """Reads a browser terminal's stream, however it is cut, into frames of `execute`."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The complete frames; pings give none. Raises ValueError for what is not the stream."""
        self._buffer += data
        frames: list[bytes] = []
        while self._buffer:
            taken = self._next(frames)
            if taken == 0:
                break
            del self._buffer[:taken]
        return frames

    def _next(self, frames: list[bytes]) -> int:
        kind = bytes(self._buffer[:1])
        if kind == b"2":
            return 1
        if kind not in (b"0", b"1") or bytes(self._buffer[1:2]) not in (b":", b""):
            raise ValueError("not a terminal's stream")
        first = self._number(2)
        if first is None:
            return 0
        value, end = first
        if kind == b"0":
            if value > _INPUT_LIMIT:
                raise ValueError("input is too long")
            if len(self._buffer) < end + value:
                return 0
            frames.append(bytes([execute.INPUT]) + self._buffer[end : end + value])
            return end + value
        second = self._number(end)
        if second is None:
            return 0
        frames.append(bytes([execute.RESIZE]) + f"{value}:{second[0]}".encode())
        return second[1]

    def _number(self, begin: int) -> tuple[int, int] | None:
        """The number at an offset and the offset behind its colon; None when more has to come."""
        end = self._buffer.find(b":", begin, begin + _NUMBER_LIMIT + 1)
        digits = self._buffer[begin : end if end >= 0 else None]
        if (digits and not digits.isdigit()) or len(digits) > _NUMBER_LIMIT or (end >= 0 and not digits):
            raise ValueError("not a number in a terminal's stream")
        return None if end < 0 else (int(digits), end + 1)


class _Browser:
    """A channel of `execute` over a browser terminal's."""

    def __init__(self, channel: Channel, rest: bytes) -> None:
        self._channel = channel
        self._stream = TerminalStream()
        self._frames: list[bytes] = []
        self._rest: bytes | None = rest

    async def receive(self) -> bytes | None:
        """The next frame, or None when the client is gone or speaks something else."""
        while not self._frames:
            data = self._rest if self._rest is not None else await self._channel.receive()
            self._rest = None
            if data is None:
                return None
            try:
                self._frames = self._stream.feed(data)
            except ValueError:
                return None
        return self._frames.pop(0)

    async def send(self, frame: bytes) -> None:
        """Send output; the exit code is not part of the stream."""
        if frame[0] != execute.EXIT:
            await self._channel.send(frame[1:])
