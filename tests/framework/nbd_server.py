"""An NBD server in a thread, as awkward as the protocol allows: replies out of order, in pieces, with holes, or wrong.

It serves one client and ends with it. Source: the NBD project's `doc/proto.md`.
"""

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

READ, WRITE, DISCONNECT, FLUSH, TRIM, STATUS, ZEROES = 0, 1, 2, 3, 4, 7, 6


@dataclass
class NbdServer:
    """One export of `disk`. Each answer is a list of what is sent; `answer` may replace it."""

    disk: bytearray
    flags: int = 0b1101101
    structured: bool = True
    tells_zeros: bool = True
    piece: int = 65536
    """Bytes of a piece of what is read."""
    late: int = 0
    """How many replies are held back, so that later ones come first, while more is asked for."""
    answer: Callable[["NbdServer", int, int, int, int], bytes | None] = lambda *_: None
    """(server, kind, handle, offset, length) -> what to send instead, None for the right thing."""
    asked: list[tuple[int, int, int]] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    _held: list[bytes] = field(default_factory=list)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A client's end of a connection."""
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        thread.start()
        try:
            yield ours
        finally:
            ours.close()
            thread.join(10)
            assert not thread.is_alive()
        assert self.errors == []

    def _serve(self, peer: socket.socket) -> None:
        try:
            with peer:

                def read(size: int) -> bytes:
                    return peer.recv(size, socket.MSG_WAITALL) if size else b""

                self._negotiate(peer, read)
                while len(header := read(28)) == 28:
                    self._request(peer, read, header)
                    if not select.select([peer], [], [], 0.05 if self._held else 0)[0]:
                        self._release(peer)
        except (OSError, struct.error):
            pass  # the client has gone
        except BaseException as error:
            self.errors.append(error)

    def _negotiate(self, peer: socket.socket, read: Callable[[int], bytes]) -> None:
        peer.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        assert read(4) == struct.pack(">I", 3)
        while True:
            magic, option, length = struct.unpack(">8sII", read(16))
            data = read(length)
            assert magic == b"IHAVEOPT"

            def reply(kind: int, told: bytes = b"", option: int = option) -> None:
                peer.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(told)) + told)

            if option == 7:
                reply(3, struct.pack(">HQH", 0, len(self.disk), self.flags))
                reply(3, struct.pack(">HIII", 3, 1, 4096, 1 << 25))
                reply(1)
                return
            if option == 8 and self.structured:
                reply(1)
            elif option == 10 and self.tells_zeros:
                assert data.endswith(b"base:allocation")
                reply(4, struct.pack(">I", 7) + b"base:allocation")
                reply(1)
            else:
                reply((1 << 31) | 1, b"not here")

    def _request(self, peer: socket.socket, read: Callable[[int], bytes], header: bytes) -> None:
        magic, _, kind, handle, offset, length = struct.unpack(">IHHQQI", header)
        assert magic == 0x25609513
        data = read(length) if kind == WRITE else b""
        if kind == DISCONNECT:
            return
        self.asked.append((kind, offset, length))
        if kind == WRITE:
            self.disk[offset : offset + length] = data
        elif kind == ZEROES:
            self.disk[offset : offset + length] = bytes(length)
        told = self.answer(self, kind, handle, offset, length)
        self._held.append(self._right(kind, handle, offset, length) if told is None else told)
        if len(self._held) > self.late:
            self._release(peer)

    def _release(self, peer: socket.socket) -> None:
        for reply in reversed(self._held):
            peer.sendall(reply)
        self._held.clear()

    def _right(self, kind: int, handle: int, offset: int, length: int) -> bytes:
        if kind == READ and self.structured:
            return b"".join(self.pieces(handle, offset, length)) + chunk(0, handle)
        if kind == STATUS:
            told = b"".join(struct.pack(">II", size, 3 * zero) for size, zero in self._extents(offset, length))
            return chunk(5, handle, struct.pack(">I", 7) + told)
        return simple(handle) + (bytes(self.disk[offset : offset + length]) if kind == READ else b"")

    def pieces(self, handle: int, offset: int, length: int) -> list[bytes]:
        """The chunks that answer a read, the last one first, none of them the last of the reply."""
        found = []
        for at in range(offset, offset + length, self.piece):
            part = bytes(self.disk[at : min(at + self.piece, offset + length)])
            if any(part):
                found.append(chunk(1, handle, struct.pack(">Q", at) + part, done=False))
            else:
                found.append(chunk(2, handle, struct.pack(">QI", at, len(part)), done=False))
        return found[::-1]

    def _extents(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        # It tells of a little at a time, and beyond what it was asked for.
        for at in range(offset, min(offset + length, offset + 4 * self.piece), self.piece):
            part = self.disk[at : at + self.piece]
            if part:
                yield len(part), not any(part)


def chunk(kind: int, handle: int, data: bytes = b"", *, done: bool = True) -> bytes:
    """A piece of a structured reply."""
    return struct.pack(">IHHQI", 0x668E33EF, int(done), kind, handle, len(data)) + data


def simple(handle: int, error: int = 0) -> bytes:
    """A simple reply."""
    return struct.pack(">IIQ", 0x67446698, error, handle)


def failure(handle: int, error: int, text: bytes = b"") -> bytes:
    """A structured reply that tells of an error."""
    return chunk((1 << 15) | 1, handle, struct.pack(">IH", error, len(text)) + text)
