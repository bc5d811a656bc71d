"""Consoles of guests, and terminals and screens in the browser the way Proxmox VE offers them.

`Consoles.offer` begins a task and binds a port number (a label: nothing listens there) to a guest and a user; whoever
comes with the ticket for it within half a minute gets the terminal or the screen, once. The browser's terminal speaks
`terminal_stream`; a screen is the bytes of RFB (RFC 6143) both ways.
"""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from bastide.base.errors import AuthenticationFailed, DeadlineExceeded, HostFailure, WrongState
from bastide.base.ids import Upid
from bastide.guest.protocol import Terminal
from bastide.host import attached
from bastide.model.access import Identity
from bastide.model.guest import Guest, GuestState
from bastide.operations import execute
from bastide.operations.execute import Channel, Session
from bastide.operations.rooms import Rooms
from bastide.operations.terminal_stream import BrowserTerminal
from bastide.tasks.tasks import Task

PORTS = range(5900, 6000)
"""What the reference allows for a console's port."""

WAIT = 30.0
"""Seconds that an offered terminal waits for its client."""

_LOGIN_LIMIT = 1024
_LOGIN_DEADLINE = 10.0
_SERIAL_PORTS = 4
_FIRST_SIZE = Terminal()
# The guest's own login shell; the text holds nothing from outside.
_SHELL = ["/bin/sh", "-c", "cd; if [ -x /bin/bash ]; then exec /bin/bash -l; fi; exec /bin/sh -l"]


class Console(Protocol):
    """An open console, to be joined to one client."""

    async def join(self, channel: Channel) -> None:
        """Copy between it and the client, in the frames of `execute`, until either ends."""


@dataclass(frozen=True, slots=True)
class _Process:
    """A terminal that a process of the host's holds for the guest."""

    session: Session

    async def join(self, channel: Channel) -> None:
        await execute.join(self.session, channel)


@dataclass(frozen=True, slots=True)
class _SerialPort:
    """A serial port of a VM: bytes without a size, an end of input or an exit code."""

    port: attached.Descriptor

    async def join(self, channel: Channel) -> None:
        await pump(self.port, _Typing(channel))
        with contextlib.suppress(OSError):
            await channel.send(bytes([execute.EXIT]) + b"0")


@dataclass(frozen=True, slots=True)
class Screen:
    """What a client of RFB is to be shown. With a password it has to prove that it knows its first 8 characters."""

    password: str | None = None


@dataclass(eq=False, slots=True)
class Offer:
    """A console that waits for its client, or has it. `init` is the guest's first process: another run is another.

    `what` is a screen, or the number of a terminal as `Consoles.open` takes it.
    """

    vmid: int
    user: str
    port: int
    init: int | None
    what: Screen | int | None = None
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


class Consoles:
    """The consoles that are open or offered. Kept in memory: neither outlives the daemon."""

    def __init__(self) -> None:
        self._offers: dict[int, Offer] = {}
        self._ttys: set[tuple[int, int]] = set()

    @contextlib.asynccontextmanager
    async def open(self, rooms: Rooms, guest: Guest, tty: int | None, terminal: Terminal) -> AsyncIterator[Console]:
        """A guest's console. Of a container tty 0 is /dev/console, 1 and up the virtual terminals; of a VM the number
        of a serial port. None is what the options say.

        Raises WrongState, HostFailure.
        """
        if guest.kind == "qemu":
            require_screen(rooms, guest)
            port = attached.Descriptor(await rooms.vms.serial(guest.vmid, serial_port(guest, tty)))
            with contextlib.closing(port):
                yield _SerialPort(port)
            return
        execute.require_running(rooms, guest)
        if tty is None and guest.config.get("cmode") == "shell":
            shell = execute.command_of(_SHELL, tty=True)
            with contextlib.closing(await execute.execute(rooms, guest, shell, terminal)) as session:
                yield _Process(session)
            return
        chosen = self._choose(guest) if tty is None else tty
        _check(guest, chosen)
        with self._hold(guest.vmid, chosen):
            process, master = await rooms.containers.console(guest.vmid, chosen, terminal)
            with contextlib.closing(Session(process, attached.Descriptor(master))) as session:
                yield _Process(session)

    def _choose(self, guest: Guest) -> int:
        """The first virtual terminal that has no client, or /dev/console."""
        count = int(guest.config.get("tty", 2))
        if guest.config.get("cmode", "tty") == "console" or count == 0:
            return 0
        return next((tty for tty in range(1, count + 1) if (guest.vmid, tty) not in self._ttys), 1)

    @contextlib.contextmanager
    def _hold(self, vmid: int, tty: int) -> Iterator[None]:
        added = (vmid, tty) not in self._ttys
        self._ttys.add((vmid, tty))
        try:
            yield
        finally:
            if added:
                self._ttys.discard((vmid, tty))

    async def offer(
        self, rooms: Rooms, guest: Guest, by: Identity, what: Screen | int | None = None
    ) -> tuple[Offer, Upid]:
        """Offer a terminal or the screen of a running guest; a task lasts as long as it does. Raises WrongState."""
        if guest.kind == "qemu":
            require_screen(rooms, guest)
            if not isinstance(what, Screen):
                serial_port(guest, what)
        else:
            execute.require_running(rooms, guest)
        port = next((port for port in PORTS if port not in self._offers), None)
        if port is None:
            raise HostFailure("all console ports are in use: close a terminal and try again")
        init = rooms.engine(guest).init_pid(guest.vmid)
        offer = self._offers[port] = Offer(guest.vmid, str(by), port, init, what)

        async def work(task: Task) -> None:
            kind = "vnc" if isinstance(what, Screen) else "terminal"
            task.log(f"starting {kind} proxy for {guest.title} on port {port}")
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
        """Join a client that took an offer to what it was offered, until it goes, the other side ends or the task is
        stopped.

        The client of a terminal says `user:ticket` once more before anything of the guest is shown to it.
        Raises AuthenticationFailed when it does not.
        """
        try:
            if isinstance(offer.what, Screen):
                self._require_same_run(rooms, guest, offer)
                with contextlib.closing(
                    attached.Descriptor(await rooms.vms.vnc(guest.vmid, offer.what.password))
                ) as screen:
                    await _until(offer.stopped, pump(screen, channel))
                return
            rest = await _login(channel, f"{offer.user}:{ticket}")
            self._require_same_run(rooms, guest, offer)
            async with self.open(rooms, guest, offer.what, _FIRST_SIZE) as console:
                browser = BrowserTerminal(channel, rest)
                await channel.send(b"OK")
                await _until(offer.stopped, console.join(browser))
        finally:
            offer.closed.set()

    def _require_same_run(self, rooms: Rooms, guest: Guest, offer: Offer) -> None:
        if rooms.engine(guest).init_pid(guest.vmid) != offer.init:
            raise WrongState(f"{guest.title} was restarted since the console was offered")


def require_screen(rooms: Rooms, guest: Guest) -> None:
    """Raise WrongState unless the VM runs; one that is paused has its consoles too."""
    if rooms.vms.state(guest.vmid) is GuestState.STOPPED:
        raise WrongState(f"VM {guest.vmid} not running")


def serial_port(guest: Guest, number: int | None) -> int:
    """The serial port of a VM that is meant: this one, or else the one that is its display, or else its first.

    Raises WrongState when the VM has no such port.
    """
    there = [port for port in range(_SERIAL_PORTS) if guest.config.get(f"serial{port}") == "socket"]
    if number is None:
        display = str(guest.config.get("vga", "")).removeprefix("type=").partition(",")[0]
        number = next((port for port in there if display == f"serial{port}"), there[0] if there else None)
    if number is None:
        raise WrongState("unable to find a serial interface: add one (serial0: socket) and start the VM again")
    if number not in there:
        raise WrongState(f"VM {guest.vmid} has no serial port 'serial{number}' (serial{number}: socket)")
    return number


async def pump(descriptor: attached.Descriptor, channel: Channel) -> None:
    """Copy bytes both ways, neither side faster than the other takes them, until either ends."""

    async def to_client() -> None:
        while data := await descriptor.read():
            await channel.send(data)

    async def from_client() -> None:
        while (data := await channel.receive()) is not None:
            await descriptor.write(data)

    tasks = [asyncio.create_task(to_client()), asyncio.create_task(from_client())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        # An OSError says that one side is gone, which is an end like any other.
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, OSError):
            raise result


async def _until(stopped: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work until it ends or the event comes. Raises what the work raises."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
    if not working.cancelled():
        working.result()


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


class _Typing:
    """A channel of plain bytes over one of `execute`'s frames: what is typed, and what is shown."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def receive(self) -> bytes | None:
        """What is typed next, or None when the client is gone."""
        while (frame := await self._channel.receive()) is not None:
            if len(frame) > 1 and frame[0] == execute.INPUT:
                return frame[1:]
        return None

    async def send(self, data: bytes) -> None:
        """Show bytes."""
        await self._channel.send(bytes([execute.OUTPUT]) + data)
