"""The stream of Proxmox VE's terminal in the browser, as frames of `execute`.

It may be cut anywhere: `0:LEN:data` is input, `1:COLS:ROWS:` a size, `2` a ping; what comes back is plain output.
"""

from bastide.operations import execute
from bastide.operations.execute import Channel

_INPUT_LIMIT = 64 * 1024
_NUMBER_LIMIT = 6


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


class BrowserTerminal:
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
