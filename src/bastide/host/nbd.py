"""A client of the Network Block Device protocol over a UNIX socket: what a server with one export is asked and told.

It blocks, and belongs to one thread. Several requests are on their way at once: `reads` asks ahead, and `write`,
`write_zeroes` and `trim` return before the server has answered, so that their failure is told by a later call, `flush`
at the latest. After a failure nothing but `close` is left to do.

Source: the NBD project's `doc/proto.md` (fixed newstyle negotiation, structured replies, `base:allocation`).
"""

import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

DEPTH = 16
"""Requests that are on their way at once: QEMU's server works on no more."""
MAX_REQUEST = 32 << 20
"""Bytes that a request may read or write."""
MAX_ZEROES = 1 << 30

_MAGIC = b"NBDMAGICIHAVEOPT"
_OPTION = struct.Struct(">8sII")
_OPTION_REPLY = struct.Struct(">QIII")
_OPTION_REPLY_MAGIC = 0x3E889045565A9
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_OPT_GO, _OPT_STRUCTURED_REPLY, _OPT_SET_META_CONTEXT = 7, 8, 10
_REP_ACK, _REP_INFO, _REP_META_CONTEXT, _REP_ERROR = 1, 3, 4, 1 << 31
_INFO_EXPORT = 0
_ALLOCATION = b"base:allocation"

_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC = 0x25609513
_READ, _WRITE, _DISCONNECT, _FLUSH, _TRIM, _WRITE_ZEROES, _BLOCK_STATUS = 0, 1, 2, 3, 4, 6, 7
_READ_ONLY, _CAN_FLUSH, _CAN_TRIM, _CAN_ZERO = 1 << 1, 1 << 2, 1 << 5, 1 << 6

_SIMPLE_MAGIC, _CHUNK_MAGIC = 0x67446698, 0x668E33EF
_SIMPLE, _CHUNK = struct.Struct(">IQ"), struct.Struct(">HHQI")
_DONE = 1
_CHUNK_NONE, _CHUNK_DATA, _CHUNK_HOLE, _CHUNK_STATUS = 0, 1, 2, 5
_CHUNK_ERROR = 1 << 15
_ZERO = 2

_TEXT_LIMIT = 64 * 1024
_STATUS_LIMIT = 8 << 20


@dataclass(slots=True)
class _Request:
    kind: int
    offset: int
    length: int
    view: memoryview | None = None
    got: int = 0
    extents: list[tuple[int, bool]] = field(default_factory=list)
    error: int = 0
    text: str = ""
    done: bool = False


class NbdClient:
    """A connection to one export. `size` in bytes; `tells_zeros`: whether `block_status` knows where zeros are."""

    def __init__(self, connected: socket.socket, export: str = "", *, timeout: float | None = None) -> None:
        """Negotiate over a connected socket, which is this object's from then on.

        `timeout` in seconds is how long the server may be silent. Raises OSError, ConnectionError for a server that
        speaks something else.
        """
        self._socket = connected
        self._socket.setblocking(True)
        if timeout is not None:
            # Not `settimeout`, which would take blocking from the descriptor.
            limit = struct.pack("@ll", int(timeout), int(timeout % 1 * 1_000_000))
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._socket.setsockopt(socket.SOL_SOCKET, option, limit)
        self._waiting: dict[int, _Request] = {}
        self._handle = 0
        self._context: int | None = None
        self.size, self._flags = self._negotiate(export.encode())

    def __enter__(self) -> Self:
        """For `with`: closed at its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def read_only(self) -> bool:
        """Whether the server refuses to write."""
        return bool(self._flags & _READ_ONLY)

    @property
    def tells_zeros(self) -> bool:
        """Whether `block_status` knows where zeros are; without, all is data."""
        return self._context is not None

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the export. Raises OSError."""
        buffer = bytearray(length)
        view = memoryview(buffer)
        parts = ((offset + at, view[at : at + MAX_REQUEST]) for at in range(0, length, MAX_REQUEST))
        for _ in self.reads(parts):
            pass
        return bytes(buffer)

    def reads(self, parts: Iterable[tuple[int, memoryview]], depth: int = DEPTH) -> Iterator[memoryview]:
        """Fill each buffer with what is at its offset; they come back in order. Raises OSError.

        Up to `depth` are asked for at once, each of at most `MAX_REQUEST` bytes.
        """
        asked: deque[_Request] = deque()
        for offset, view in parts:
            asked.append(self._ask(_READ, offset, len(view), view=view))
            if len(asked) >= depth:
                yield self._filled(asked.popleft())
        while asked:
            yield self._filled(asked.popleft())

    def block_status(self, offset: int, length: int) -> list[tuple[int, bool]]:
        """What lies from `offset` on: pieces of so many bytes, and whether they read as zeros. Raises OSError.

        They reach at least one byte and at most `length` bytes; where the server cannot tell, all is data.
        """
        if not self.tells_zeros:
            return [(length, False)]
        request = self._ask(_BLOCK_STATUS, offset, min(length, MAX_ZEROES))
        self._wait(request)
        extents, left = [], length
        for size, zero in request.extents:
            # The last one may reach beyond what was asked for.
            if left > 0:
                extents.append((min(size, left), zero))
                left -= size
        return extents

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write at most `MAX_REQUEST` bytes, which may change again when this returns. Raises OSError."""
        self._wait_below(DEPTH)
        self._ask(_WRITE, offset, len(data), data=data)

    def write_zeroes(self, offset: int, length: int) -> None:
        """Have a part read as zeros, as a hole where the image can have some. Raises OSError."""
        if not self._flags & _CAN_ZERO:
            zeros = bytes(min(length, 1 << 20))
            for at in range(0, length, len(zeros)):
                self.write(offset + at, memoryview(zeros)[: length - at])
            return
        for at in range(0, length, MAX_ZEROES):
            self._wait_below(DEPTH)
            self._ask(_WRITE_ZEROES, offset + at, min(MAX_ZEROES, length - at))

    def trim(self, offset: int, length: int) -> None:
        """Tell that a part is not needed; what it reads as then is open. Raises OSError."""
        if self._flags & _CAN_TRIM:
            for at in range(0, length, MAX_ZEROES):
                self._wait_below(DEPTH)
                self._ask(_TRIM, offset + at, min(MAX_ZEROES, length - at))

    def flush(self) -> None:
        """Return when all that was written is on stable storage. Raises OSError."""
        self._wait_below(1)
        if self._flags & _CAN_FLUSH:
            self._wait(self._ask(_FLUSH, 0, 0))

    def close(self) -> None:
        """Take leave; what has not been answered yet is not waited for."""
        try:
            self._socket.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, _DISCONNECT, 0, 0, 0))
        except OSError:
            pass
        finally:
            self._socket.close()

    def _ask(
        self,
        kind: int,
        offset: int,
        length: int,
        *,
        view: memoryview | None = None,
        data: bytes | bytearray | memoryview = b"",
    ) -> _Request:
        if offset < 0 or offset + length > self.size or (kind in (_READ, _WRITE) and length > MAX_REQUEST):
            raise ValueError(f"{length} bytes at {offset} of an export of {self.size} bytes")
        self._handle += 1
        request = _Request(kind, offset, length, view)
        self._waiting[self._handle] = request
        self._send(_REQUEST.pack(_REQUEST_MAGIC, 0, kind, self._handle, offset, length), data)
        return request

    def _send(self, header: bytes, data: bytes | bytearray | memoryview) -> None:
        try:
            sent = self._socket.sendmsg([header, data]) if data else self._socket.send(header)
            if sent < len(header):
                self._socket.sendall(header[sent:])
                sent = len(header)
            if sent < len(header) + len(data):
                self._socket.sendall(memoryview(data)[sent - len(header) :])
        except BlockingIOError:
            raise _silent() from None
        except BrokenPipeError:
            raise _gone() from None

    def _wait_below(self, count: int) -> None:
        while len(self._waiting) >= count:
            self._receive()

    def _wait(self, request: _Request) -> None:
        while not request.done:
            self._receive()

    def _filled(self, request: _Request) -> memoryview:
        self._wait(request)
        assert request.view is not None  # noqa: S101 - a read has one
        return request.view

    def _receive(self) -> None:
        """Take one reply, or a part of one."""
        magic = struct.unpack(">I", self._exactly(4))[0]
        if magic == _SIMPLE_MAGIC:
            error, handle = _SIMPLE.unpack(self._exactly(_SIMPLE.size))
            request = self._of(handle)
            request.error = error
            if request.kind == _READ and not error and request.view is not None:
                self._fill(request.view)
                request.got = request.length
            last = True
        elif magic == _CHUNK_MAGIC:
            flags, kind, handle, length = _CHUNK.unpack(self._exactly(_CHUNK.size))
            request = self._of(handle)
            self._chunk(request, kind, length)
            last = bool(flags & _DONE)
        else:
            raise _strange("a reply that is none")
        if last:
            del self._waiting[handle]
            self._finish(request)

    def _of(self, handle: int) -> _Request:
        try:
            return self._waiting[handle]
        except KeyError:
            raise _strange("a reply to nothing") from None

    def _chunk(self, request: _Request, kind: int, length: int) -> None:
        if kind == _CHUNK_DATA and request.view is not None and length > 8:
            offset = struct.unpack(">Q", self._exactly(8))[0]
            self._fill(self._part(request, offset, length - 8))
        elif kind == _CHUNK_HOLE and request.view is not None and length == 12:
            offset, size = struct.unpack(">QI", self._exactly(12))
            self._part(request, offset, size)[:] = bytes(size)
        elif kind == _CHUNK_STATUS and request.kind == _BLOCK_STATUS and 12 <= length <= _STATUS_LIMIT:
            self._extents(request, self._exactly(length))
        elif kind & _CHUNK_ERROR and 6 <= length <= _TEXT_LIMIT:
            told = self._exactly(length)
            error, size = struct.unpack_from(">IH", told)
            request.error, request.text = error or errno.EIO, told[6 : 6 + size].decode(errors="replace")
        elif kind != _CHUNK_NONE or length:
            raise _strange("a reply of an unknown kind")

    @staticmethod
    def _part(request: _Request, offset: int, size: int) -> memoryview:
        at = offset - request.offset
        if request.view is None or at < 0 or at + size > request.length or request.got + size > request.length:
            raise _strange("more than it was asked for")
        request.got += size
        return request.view[at : at + size]

    def _extents(self, request: _Request, told: bytes) -> None:
        if len(told) % 8 != 4 or struct.unpack_from(">I", told)[0] != self._context:
            raise _strange("what it was not asked for")
        request.extents = [(size, bool(flags & _ZERO)) for size, flags in struct.iter_unpack(">II", told[4:])]

    def _finish(self, request: _Request) -> None:
        if request.error:
            # Its numbers are those of Linux.
            raise OSError(request.error, request.text or os.strerror(request.error))
        incomplete = request.got != request.length if request.kind == _READ else False
        if incomplete or (request.kind == _BLOCK_STATUS and not any(size for size, _ in request.extents)):
            raise _strange("less than it was asked for")
        request.done = True

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        self._fill(memoryview(data))
        return bytes(data)

    def _fill(self, view: memoryview) -> None:
        got = 0
        while got < len(view):
            try:
                part = self._socket.recv_into(view[got:], 0, socket.MSG_WAITALL)
            except BlockingIOError:
                raise _silent() from None
            if part == 0:
                raise _gone()
            got += part

    def _negotiate(self, export: bytes) -> tuple[int, int]:
        if self._exactly(len(_MAGIC)) != _MAGIC:
            raise _strange("another protocol")
        if not struct.unpack(">H", self._exactly(2))[0] & _FIXED_NEWSTYLE:
            raise _strange("an old version of the protocol")
        self._socket.sendall(struct.pack(">I", _FIXED_NEWSTYLE | _NO_ZEROES))
        named = struct.pack(">I", len(export)) + export
        if self._option(_OPT_STRUCTURED_REPLY, b"") is not None:
            asked = named + struct.pack(">II", 1, len(_ALLOCATION)) + _ALLOCATION
            for kind, told in self._option(_OPT_SET_META_CONTEXT, asked) or ():
                if kind == _REP_META_CONTEXT and told[4:] == _ALLOCATION:
                    self._context = struct.unpack_from(">I", told)[0]
        for kind, told in self._option(_OPT_GO, named + struct.pack(">H", 0), needed=True) or ():
            if kind == _REP_INFO and len(told) == 12 and struct.unpack_from(">H", told)[0] == _INFO_EXPORT:
                size, flags = struct.unpack_from(">QH", told, 2)
                return size, flags
        raise _strange("no size of the export")

    def _option(self, option: int, data: bytes, *, needed: bool = False) -> list[tuple[int, bytes]] | None:
        """What is answered to an option, each with its kind; None when the server does not do it."""
        self._socket.sendall(_OPTION.pack(b"IHAVEOPT", option, len(data)) + data)
        answers: list[tuple[int, bytes]] = []
        while len(answers) < _TEXT_LIMIT:
            magic, to, kind, length = _OPTION_REPLY.unpack(self._exactly(_OPTION_REPLY.size))
            if magic != _OPTION_REPLY_MAGIC or to != option or length > _TEXT_LIMIT:
                raise _strange("an answer that is none")
            told = self._exactly(length)
            if kind == _REP_ACK:
                return answers
            if kind & _REP_ERROR:
                if needed:
                    raise _strange(told.decode(errors="replace") or "no such export")
                return None
            answers.append((kind, told))
        raise _strange("answers without an end")


def _strange(what: str) -> ConnectionError:
    return ConnectionError(errno.EPROTO, f"the NBD server says what cannot be used: {what}")


def _silent() -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, "the NBD server does not answer")


def _gone() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "the NBD server has closed the connection")
