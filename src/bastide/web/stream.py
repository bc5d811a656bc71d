"""A connected UNIX stream socket that carries frames both ways, with back-pressure both ways."""

import asyncio
import contextlib
import socket
from collections import deque
from typing import cast

from bastide.web.frames import FRAME_LIMIT, PREFIX, BrokenFrame, Buffer, packed

_HELD = 512 * 1024
"""Bytes of frames that wait to be read before no more are taken from the socket."""

_BUFFER = 512 * 1024
"""Of the socket (socket(7), SO_SNDBUF): a body's pieces fill the default one."""

_PATIENCE = 10.0
_AT_ONCE = 16 * 1024

Frame = tuple[int, bytes]


class Stream(asyncio.Protocol):
    """One end. `closed` is set when the other has gone, or this one was closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._rest = bytearray()
        self._frames: deque[Frame] = deque()
        self._held = 0
        # Small frames that are written one after the other go out together: each would wake the other process.
        self._unsent: list[Buffer] = []
        self._flushing = False
        self._paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    @classmethod
    async def over(cls, connection: socket.socket) -> "Stream":
        """Carry frames over a connected socket, which is the stream's from now on."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        connection.setblocking(False)
        _, protocol = await asyncio.get_running_loop().connect_accepted_socket(cls, connection)
        return protocol

    async def read(self) -> Frame | None:
        """The next frame; None when the other side has gone, or has sent what is no frame."""
        while not self._frames:
            if self.closed.is_set():
                return None
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        frame = self._frames.popleft()
        self._held -= len(frame[1])
        if self._paused and self._held < _HELD // 2 and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return frame

    def write(self, kind: int, content: Buffer = b"") -> None:
        """Send a frame; one to who has gone is lost. Raises ValueError for one that is too long."""
        self._unsent += packed(kind, content)
        if len(content) > _AT_ONCE:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        pieces, self._unsent, self._flushing = self._unsent, [], False
        if pieces and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(pieces))

    async def drain(self) -> None:
        """Wait while the other side does not take what was written."""
        if self._writable is not None:
            await asyncio.shield(self._writable)

    def close(self) -> None:
        """End it at once; what was not sent is lost."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    async def finish(self) -> None:
        """End it when the other side has what was written, or does not take it."""
        self._flush()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self.closed.wait()
        self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes: frames that are whole are there to be read."""
        whole: bytes | bytearray = data
        if self._rest:
            self._rest += data
            whole = self._rest
        try:
            taken = self._take(whole)
        except BrokenFrame:
            self.close()
            return
        if whole is self._rest:
            del self._rest[:taken]
        else:
            self._rest += memoryview(data)[taken:]
        if self._held > _HELD and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _take(self, data: bytes | bytearray) -> int:
        """Take the whole frames of `data`; how many bytes they had."""
        place = 0
        with memoryview(data) as view:
            while len(view) - place >= PREFIX.size:
                kind, length = PREFIX.unpack_from(view, place)
                if length > FRAME_LIMIT:
                    raise BrokenFrame("a frame is too long")
                end = place + PREFIX.size + length
                if end > len(view):
                    break
                self._frames.append((kind, bytes(view[place + PREFIX.size : end])))
                self._held += length
                place = end
        return place

    def connection_lost(self, _exc: Exception | None) -> None:
        """The other side has gone."""
        self._end()

    def pause_writing(self) -> None:
        """The other side does not take more for now."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """It takes more."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def _end(self) -> None:
        self.closed.set()
        self.resume_writing()
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
