"""The streams that the web process has to the daemon."""

import asyncio
import socket
from collections import deque

from bastide.web.frames import GIVEN, MORE
from bastide.web.stream import Stream

_ASKED = 16
_KEPT = 64
_AGAIN = 0.05
PATIENCE = 3.0
"""Seconds that a request waits for a stream when all are at work, before it is refused."""


class Ways:
    """The streams to the daemon: those that wait for the next request, and more when they are asked for."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._idle: list[Stream] = []
        self._waiting: deque[asyncio.Future[Stream | None]] = deque()
        self._ended = False
        self._asked = 0

    async def run(self) -> None:
        """Take the streams that the daemon hands out; returns when it has gone."""
        try:
            while (descriptors := await self._received()) is not None:
                self._asked -= 1
                if descriptors:
                    self.give_back(await Stream.over(socket.socket(fileno=descriptors[0])))
                    self._ask()
                else:
                    asyncio.get_running_loop().call_later(_AGAIN, self._ask)
        finally:
            self._ended = True
            while self._waiting:
                _tell(self._waiting.popleft(), None)

    async def _received(self) -> list[int] | None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._control, readable.set)
        try:
            await readable.wait()
            told, descriptors, _, _ = socket.recv_fds(self._control, 16, 1)
        except OSError:
            return None
        finally:
            loop.remove_reader(self._control)
        if not told:
            return None
        return descriptors if told == GIVEN else []

    async def get(self) -> Stream | None:
        """A stream for one request; None when none is free within some seconds, or the daemon has gone."""
        while self._idle:
            stream = self._idle.pop()
            if not stream.closed.is_set():
                return stream
        if self._ended:
            return None
        waiting: asyncio.Future[Stream | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._ask()
        try:
            async with asyncio.timeout(PATIENCE):
                return await waiting
        except BaseException as error:
            late = waiting.result() if waiting.done() and not waiting.cancelled() else None
            if late is not None:
                self.give_back(late)  # it came in the moment in which the wait ended
            if isinstance(error, TimeoutError):
                return None
            raise

    def give_back(self, stream: Stream) -> None:
        """Let the next request have it."""
        while self._waiting and not stream.closed.is_set():
            if _tell(self._waiting.popleft(), stream):
                return
        if len(self._idle) < _KEPT:
            self._idle.append(stream)
        else:
            stream.close()

    def _ask(self) -> None:
        while self._asked < min(_ASKED, len(self._waiting)) and not self._ended:
            try:
                self._control.send(MORE)
            except OSError:
                return
            self._asked += 1


def _tell(waiting: asyncio.Future[Stream | None], stream: Stream | None) -> bool:
    if waiting.done():
        return False
    waiting.set_result(stream)
    return True
