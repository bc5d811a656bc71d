"""A WebSocket client over a plain socket (RFC 6455), as small as `exec` needs it: binary messages, ping, close.

Importing a general library costs more time than a whole `exec` may; this costs none. Nothing is negotiated, so the
daemon's compression stays off.
"""

import base64
import hashlib
import os
import socket
from collections.abc import Iterator
from urllib.parse import urlencode

from bastide.base.errors import InvalidParameter
from bastide.client.errors import Unreachable, from_answer
from bastide.client.transport import Transport

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_CHUNK = 256 * 1024
_TARGET_LIMIT = 8000  # servers limit a request's first line to 8192
_HEAD_LIMIT = 64 * 1024
_MESSAGE_LIMIT = 16 * 1024 * 1024
_HANDSHAKE_DEADLINE = 30.0  # seconds


class WebSocket:
    """An open connection. `closed` tells that the daemon ended it, `reason` why.

    Nothing here blocks: what cannot be sent at once waits in a buffer until `flush`. A program that copies in both
    directions must not stop reading because it cannot write, or both sides wait for each other.
    """

    def __init__(self, sock: socket.socket, rest: bytes = b"") -> None:
        sock.setblocking(False)
        self.sock = sock
        self.closed = False
        self.reason = ""
        self._buffer = bytearray(rest)
        self._parts = bytearray()
        self._unsent = bytearray()

    @property
    def unsent(self) -> int:
        """Bytes that wait for the socket to take them; `flush` when it can be written."""
        return len(self._unsent)

    def send(self, data: bytes) -> None:
        """Send one binary message as far as the socket takes it now."""
        self._unsent += _frame(_BINARY, data)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it now. A broken connection sets `closed`."""
        try:
            while self._unsent:
                sent = self.sock.send(self._unsent[:_CHUNK])
                del self._unsent[:sent]
        except OSError as error:
            if not _would_block(error):
                self.closed = True
                self._unsent.clear()

    def receive(self) -> list[bytes]:
        """Read what the socket has now and return the messages that are complete; sets `closed` at the end."""
        messages: list[bytes] = []
        while not self.closed:
            try:
                data = self.sock.recv(_CHUNK)
            except OSError as error:
                if _would_block(error):
                    break
                data = b""
            self._buffer += data
            messages += self.messages()
            if not data:
                self.closed = True
            if len(self._buffer) == 0 and len(data) < 16384:
                break
        return messages

    def messages(self) -> Iterator[bytes]:
        """The complete messages among what was read already. Pings are answered."""
        while not self.closed and (frame := self._next_frame()) is not None:
            final, opcode, payload = frame
            if opcode == _PING:
                self._unsent += _frame(_PONG, payload)
                self.flush()
            elif opcode == _CLOSE:
                self.closed = True
                self.reason = payload[2:].decode(errors="replace")
            elif opcode in (_CONTINUATION, _TEXT, _BINARY):
                self._parts += payload
                if len(self._parts) > _MESSAGE_LIMIT:
                    raise Unreachable("the daemon sent a message that is too long")
                if final:
                    message, self._parts = bytes(self._parts), bytearray()
                    yield message

    def close(self) -> None:
        """Say goodbye, without waiting for the answer, and close the socket."""
        if not self.closed:
            self._unsent += _frame(_CLOSE, (1000).to_bytes(2, "big"))
            self.flush()
        self.sock.close()

    def _next_frame(self) -> tuple[bool, int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1] & 0x7F, 2
        if length == 126:
            length, start = int.from_bytes(buffer[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(buffer[2:10], "big"), 10
        if length > _MESSAGE_LIMIT:
            raise Unreachable("the daemon sent a frame that is too long")
        if len(buffer) < start + length:
            return None
        frame = bool(buffer[0] & 0x80), buffer[0] & 0x0F, bytes(buffer[start : start + length])
        del buffer[: start + length]
        return frame


def connect(transport: Transport, path: str, params: list[tuple[str, str]]) -> WebSocket:
    """Open a WebSocket. Raises the error the daemon's answer stands for when it refuses."""
    target = f"/api2/json{path}?{urlencode(params)}"
    if len(target) > _TARGET_LIMIT:
        raise InvalidParameter({"command": "is too long for one request (8 KiB): push a script and run that"})
    sock = transport.connect()
    try:
        sock.settimeout(_HANDSHAKE_DEADLINE)
        key = base64.b64encode(os.urandom(16)).decode()
        head = [
            f"GET {target} HTTP/1.1",
            f"Host: {transport.host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *(f"{name}: {value}" for name, value in transport.headers.items()),
        ]
        sock.sendall("\r\n".join([*head, "", ""]).encode())
        rest = _handshake(sock, key)
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return WebSocket(sock, rest)


def _handshake(sock: socket.socket, key: str) -> bytes:
    """Read the answer to the upgrade; returns what came after it."""
    head, rest = _read_head(sock)
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    _, _, status = lines[0].partition(" ")
    code, _, reason = status.partition(" ")
    if not code.isdigit():
        raise Unreachable("what answers there does not speak HTTP")
    if code != "101":
        length = int(fields.get("content-length", "0") or 0)
        while len(rest) < min(length, _HEAD_LIMIT):
            more = sock.recv(_HEAD_LIMIT)
            if not more:
                break
            rest += more
        raise from_answer(max(int(code), 400), reason, rest)
    # RFC 6455, 4.2.2: SHA-1 here proves that the other side read the key; it protects nothing
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    if fields.get("sec-websocket-accept") != base64.b64encode(digest).decode():
        raise Unreachable("what answers there is not a WebSocket server")
    return rest


def _read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(_HEAD_LIMIT)
        if not more or len(data) > _HEAD_LIMIT:
            raise Unreachable("the daemon closed the connection")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _would_block(error: OSError) -> bool:
    """Whether the socket only has nothing to give or no room now; TLS has errors of its own for that."""
    return isinstance(error, BlockingIOError) or type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 65536:
        head = bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 0xFF]) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    repeated = (mask * (size // 4 + 1))[:size]
    # one exclusive or of two long integers is the fastest masking without an extension
    masked = (int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")
    return head + mask + masked
