"""This terminal joined to a command in a guest: bytes both ways, window size, end of input, exit code.

Frames are binary; their first byte is the stream. To the daemon: 0 input, 1 a window size `COLS:ROWS`, 2 end of input.
From the daemon: 1 output, 2 errors, 3 the exit code in ASCII, the last frame.
"""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from bastide.base.errors import BastideError, HostFailure
from bastide.client.errors import from_text
from bastide.client.websocket import WebSocket

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_INPUT, _RESIZE, _END = b"\0", b"\1", b"\2"
_OUT, _ERR, _EXIT = 1, 2, 3
_CHUNK = 64 * 1024
_ESCAPE = 0x01  # Ctrl+a
DETACHED = -1


def is_terminal() -> bool:
    """Whether a person sits at both ends: input and output are terminals."""
    try:
        return os.isatty(_STDIN) and os.isatty(_STDOUT)
    except OSError:
        return False


def input_is_terminal() -> bool:
    """Whether a person types what is read."""
    try:
        return os.isatty(_STDIN)
    except OSError:
        return False


def window() -> tuple[int, int]:
    """Columns and rows of this terminal; 80 by 24 where it does not know."""
    try:
        size = os.get_terminal_size(_STDOUT)
    except OSError:
        return 80, 24
    return (size.columns, size.lines) if size.columns else (80, 24)


def run(socket: WebSocket, *, tty: bool, use_stdin: bool = True, escape: bool = False) -> int:
    """Copy until the command ends; returns its exit code, or DETACHED when the user left with Ctrl+a q.

    With `tty` this terminal is raw meanwhile and is restored whatever happens. Raises HostFailure, or the error that
    the daemon gave as the reason, when the connection ends without an exit code.
    """
    with _raw_mode(tty), _resizes(tty) as resized:
        return _Joined(socket, resized, use_stdin, _Escape() if escape else None).copy()


class _Escape:
    """Finds Ctrl+a q in what is typed. Ctrl+a twice types it once."""

    def __init__(self) -> None:
        self.armed = False

    def filter(self, data: bytes) -> tuple[bytes, bool]:
        """What goes to the guest, and whether the user leaves."""
        passed = bytearray()
        for byte in data:
            if not self.armed:
                self.armed = byte == _ESCAPE
                if not self.armed:
                    passed.append(byte)
                continue
            self.armed = False
            if byte in b"qQ":
                return bytes(passed), True
            if byte != _ESCAPE:
                passed.append(_ESCAPE)
            passed.append(byte)
        return bytes(passed), False


class _Joined:
    def __init__(self, socket: WebSocket, resized: int | None, use_stdin: bool, escape: _Escape | None) -> None:
        self.socket = socket
        self.resized = resized
        self.reading = use_stdin
        self.escape = escape
        self.code: int | None = None
        if not use_stdin:
            socket.send(_END)

    def copy(self) -> int:
        """Copy until the exit code is known."""
        self._take(list(self.socket.messages()))  # the daemon may have answered together with the handshake
        while self.code is None:
            if self.socket.closed:
                raise self._lost()
            watched: list[Any] = [self.socket.sock]
            if self.resized is not None:
                watched.append(self.resized)
            if self.reading and not self.socket.unsent:
                watched.append(_STDIN)
            readable, writable, _ = select.select(watched, [self.socket.sock] if self.socket.unsent else [], [])
            if writable:
                self.socket.flush()
            if self.socket.sock in readable:
                self._take(self.socket.receive())
            if self.resized is not None and self.resized in readable:
                self._resize(self.resized)
            if self.code is None and _STDIN in readable:
                self._type()
        return self.code

    def _take(self, messages: list[bytes]) -> None:
        for message in messages:
            stream = message[0] if message else None
            if stream in (_OUT, _ERR):
                _write(_STDOUT if stream == _OUT else _STDERR, message[1:])
            elif stream == _EXIT:
                self.code = int(message[1:])

    def _type(self) -> None:
        try:
            data = os.read(_STDIN, _CHUNK)
        except OSError:  # the terminal hung up, or there is no standard input
            data = b""
        if not data:
            self.reading = False
            self.socket.send(_END)
            return
        if self.escape is not None:
            data, leave = self.escape.filter(data)
            if leave:
                self.code = DETACHED
        if data:
            self.socket.send(_INPUT + data)

    def _resize(self, news: int) -> None:
        os.read(news, 512)
        columns, rows = window()
        self.socket.send(_RESIZE + f"{columns}:{rows}".encode())

    def _lost(self) -> BastideError:
        reason = self.socket.reason.strip()
        if reason:
            return from_text(reason) or HostFailure(reason)
        return HostFailure("the connection ended before the command did")


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # another program made this terminal non-blocking
            select.select([], [fd], [])


@contextmanager
def _raw_mode(wanted: bool) -> Iterator[None]:
    if not wanted or not os.isatty(_STDIN):
        yield
        return
    import termios  # noqa: PLC0415 - only terminals need it
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(_STDIN)
    handlers = {number: signal.signal(number, _terminated) for number in (signal.SIGTERM, signal.SIGHUP)}
    tty.setraw(_STDIN)
    try:
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _terminated(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _resizes(wanted: bool) -> Iterator[int | None]:
    """A descriptor that can be read after the window changed its size; None when nobody wants to know."""
    if not wanted:
        yield None
        return
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def changed(_number: int, _frame: object) -> None:
        with suppress(BlockingIOError):  # enough news waits already
            os.write(writer, b"w")

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        yield reader
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reader)
        os.close(writer)
