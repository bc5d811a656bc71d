"""uvicorn's protocols with limits: header count and size, time to send them, and who may be put out when full.

Proxmox VE's limits: 64 headers, 8 KiB of them, 5 seconds to send a request's head. Of connections it takes 500; here a
thousand clients are to keep theirs.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

HEADER_COUNT = 64
HEAD_LIMIT = 8 * 1024
HEAD_DEADLINE = 5.0
CONNECTION_LIMIT = 2000
REST_LIMIT = 1024 * 1024
"""Bytes of a body that are read, and thrown away, once its request was answered."""


class Gate:
    """The open connections of a listener, at most `limit`; the longest idle one makes room for a new one.

    A slow or idle client can therefore never keep others out; only requests at work can, of which there are fewer
    (`door.MOST_STREAMS`).
    """

    def __init__(self, limit: int = CONNECTION_LIMIT) -> None:
        self._limit = limit
        self._open: set[object] = set()
        self._idle: dict[object, Callable[[], Any]] = {}

    def enter(self, key: object, put_out: Callable[[], Any]) -> bool:
        """Count a new connection, which is idle at first; `put_out()` ends it. False when there is no room."""
        if len(self._open) >= self._limit:
            if not self._idle:
                return False
            oldest = next(iter(self._idle))
            self._idle.pop(oldest)()
            self._open.discard(oldest)
        self._open.add(key)
        self._idle[key] = put_out
        return True

    def idle(self, key: object, put_out: Callable[[], Any]) -> None:
        """The connection works on no request from now on."""
        if key in self._open:
            self._idle.pop(key, None)
            self._idle[key] = put_out

    def busy(self, key: object) -> None:
        """The connection works on a request."""
        self._idle.pop(key, None)

    def leave(self, key: object) -> None:
        """The connection is gone."""
        self._open.discard(key)
        self._idle.pop(key, None)


class GuardedProtocol(HttpToolsProtocol):
    """An HTTP connection. `gate` and `key` are set by the listener before it begins."""

    gate: Gate | None = None
    key: object = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_size = 0
        self._in_head = True
        self._in_body = False
        self._rest = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer and the place."""
        self._stop_timer()
        if self.gate is not None:
            self.gate.leave(self.key)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that grows too large or takes too long ends the connection.

        What is left of a body whose request was answered early is part of no head. It is read, so that the client can
        take the answer, but has no more time than a head.
        """
        if self._in_head:
            self._await_head()
        if self._in_head and self._in_body:
            self._rest += len(data)
            if self._rest > REST_LIMIT:
                self.put_out()
                return
        elif self._in_head:
            self._head_size += len(data)
        super().data_received(data)
        if self._in_head and self._head_size > HEAD_LIMIT and not self.transport.is_closing():
            self.send_400_response("request header too large")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._url_and_headers = 0

    def on_url(self, url: bytes) -> None:
        """Count the target; the parser hands it over in pieces."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header. The parser turns the exception into a 400 and closes."""
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4)
        if len(self.headers) > HEADER_COUNT:
            raise ValueError(f"more than {HEADER_COUNT} headers")

    def on_headers_complete(self) -> None:
        """The head is complete: the request is at work."""
        self._in_head = False
        self._in_body = True
        self._head_size = self._rest = 0
        self._stop_timer()
        if self.gate is not None:
            self.gate.busy(self.key)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is complete."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The connection is idle again, unless the next request waits already."""
        if self.gate is not None and not self.pipeline:
            self.gate.idle(self.key, self.put_out)
        self._in_head = True
        super().on_response_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, its place with it."""
        super().handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        if isinstance(protocol, GuardedWebSocket):
            protocol.gate, protocol.key = self.gate, self.key

    def _count(self, size: int) -> None:
        self._url_and_headers += size
        if self._url_and_headers > HEAD_LIMIT:
            raise ValueError(f"request header over {HEAD_LIMIT} bytes")

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_DEADLINE, self.put_out)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def put_out(self) -> None:
        """End the connection at once."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """A connection that became a WebSocket. It keeps its place until its end, and is never put out for others."""

    gate: Gate | None = None
    key: object = None

    def data_received(self, data: bytes) -> None:
        """Take frames. A text that is not UTF-8 ends the connection with 1007 (RFC 6455, section 8.1)."""
        try:
            super().data_received(data)
        except InvalidState:
            # uvicorn closes a second time, with another code, what it has closed for such a text.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        if self.gate is not None:
            self.gate.leave(self.key)
        super().connection_lost(exc)
