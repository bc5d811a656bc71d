"""The daemon's side: it hands streams to the web process, and gives what comes over them to the application.

Whatever comes is read as if an attacker had written it, who may have taken over the web process: he can say of a
request whatever a client can say, and which address it came from. The daemon makes the sockets itself and takes no
descriptor from there, since whoever shares one could make it block.
"""

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from bastide.web.frames import (
    ACCEPT,
    CLOSE,
    FULL,
    GIVEN,
    HEAD,
    LAST,
    MORE,
    OVER,
    PART,
    PIECE,
    START,
    TEXT,
    WANT,
    BrokenFrame,
    Head,
    as_json,
    text_headers,
)
from bastide.web.status import Status
from bastide.web.stream import Stream

MOST_STREAMS = 768

_GRACE = 5.0
_log = logging.getLogger("bastide.web")

App = Callable[..., Awaitable[None]]
Message = Mapping[str, Any]


class Door:
    """Where the requests of the web process come in. `app` is an ASGI application; `marks` are put into each scope.

    A scope of the type `tunnel` is one more kind than ASGI's: a client that sent CONNECT, with messages as a WebSocket.
    """

    def __init__(self, app: App, marks: Mapping[str, Any]) -> None:
        self._app = app
        self._marks = marks
        self._streams: set[asyncio.Task[None]] = set()
        self._working: set[asyncio.Task[None]] = set()

    async def serve(self, control: socket.socket) -> None:
        """Hand out streams over one end of a pair of sockets (SOCK_SEQPACKET) until the other has gone.

        Raises BrokenFrame when what comes is not the protocol's, or answers are not taken.
        """
        loop = asyncio.get_running_loop()
        while asked := await loop.sock_recv(control, 16):
            if asked != MORE:
                raise BrokenFrame("the web process asks for something unknown")
            try:
                self._hand_out(control)
            except BlockingIOError:
                raise BrokenFrame("the web process does not take what it asks for") from None

    def _hand_out(self, control: socket.socket) -> None:
        if len(self._streams) >= MOST_STREAMS:
            control.send(FULL)
            return
        try:
            ours, theirs = socket.socketpair()
        except OSError:  # out of descriptors
            control.send(FULL)
            return
        with theirs:
            try:
                socket.send_fds(control, [GIVEN], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        task = asyncio.create_task(self._serve(ours))
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)

    async def _serve(self, connection: socket.socket) -> None:
        stream = await Stream.over(connection)
        try:
            while (frame := await stream.read()) is not None:
                if frame[0] != HEAD:
                    raise BrokenFrame("a request does not begin with its head")
                exchange = _exchange(stream, Head.from_bytes(frame[1]))
                self._begin(exchange)
                await exchange.over.wait()
                if not exchange.clean:
                    break
        except BrokenFrame as error:
            _log.error("the web process does not keep to the protocol: %s", error)
            stream.close()
        finally:
            await stream.finish()

    def _begin(self, exchange: "_Exchange") -> None:
        task = asyncio.create_task(self._work(exchange))  # each in a context of its own
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _work(self, exchange: "_Exchange") -> None:
        try:
            await self._app({**exchange.scope, **self._marks}, exchange.receive, exchange.send)
        except Exception:
            _log.exception("a request could not be answered")
        finally:
            exchange.over.set()

    async def drain(self) -> None:
        """Let requests at work end (5 s), and close every stream."""
        if self._working:
            _, late = await asyncio.wait(list(self._working), timeout=_GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for task in list(self._streams):
            task.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)


class _Exchange:
    """A request and its answer, as ASGI has them. `clean`: the stream can carry the next one."""

    def __init__(self, stream: Stream, head: Head) -> None:
        self.over = asyncio.Event()
        self.clean = False
        self.scope: dict[str, Any] = {
            "type": head.kind,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": head.method,
            "scheme": "https",
            "server": None,
            "client": head.client,
            "root_path": "",
            "path": unquote(head.path),
            "raw_path": head.path.encode(),
            "query_string": head.query.encode(),
            "headers": head.headers,
            "state": {},
        }
        self._stream = stream

    async def receive(self) -> Message:
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        raise NotImplementedError

    async def _send_start(self, message: Message) -> None:
        status = message["status"]
        reason = status.reason if isinstance(status, Status) else None
        headers = text_headers(message.get("headers", ()))
        self._stream.write(START, as_json({"status": int(status), "reason": reason, "headers": headers}))

    async def _send_body(self, message: Message) -> None:
        body = memoryview(message.get("body", b""))
        last = not message.get("more_body", False)
        while len(body) > PIECE:
            self._stream.write(PART, body[:PIECE])
            await self._stream.drain()
            body = body[PIECE:]
        if last:
            self._stream.write(LAST if self.clean else OVER, body)
            self.over.set()
        elif body:
            self._stream.write(PART, body)
        await self._stream.drain()


class _Http(_Exchange):
    def __init__(self, stream: Stream, head: Head) -> None:
        super().__init__(stream, head)
        self._told = self._wanted = False
        self._rest = head.body

    async def receive(self) -> Message:
        if not self._rest and not self._told:
            self._told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if not self._rest:
            await self._ended()
            return {"type": "http.disconnect"}
        if not self._wanted:
            self._wanted = True
            self._stream.write(WANT)
        frame = await self._stream.read()
        if frame is None or frame[0] not in (PART, LAST):
            self._stream.close()
            return {"type": "http.disconnect"}
        self._rest = frame[0] == PART
        self._told = True
        return {"type": "http.request", "body": frame[1], "more_body": self._rest}

    async def send(self, message: Message) -> None:
        if self._stream.closed.is_set():
            return
        if message["type"] == "http.response.start":
            await self._send_start(message)
            return
        # The rest of a body that was begun and is not wanted would be taken for the next request.
        self.clean = not message.get("more_body", False) and not (self._wanted and self._rest)
        await self._send_body(message)

    async def _ended(self) -> None:
        """Wait until the answer is complete or the client has gone."""
        waits = [asyncio.create_task(event.wait()) for event in (self.over, self._stream.closed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class _Socket(_Exchange):
    """A WebSocket or a tunnel."""

    def __init__(self, stream: Stream, head: Head) -> None:
        super().__init__(stream, head)
        self.scope |= {
            "scheme": "wss",
            "subprotocols": list(head.subprotocols),
            "extensions": {"websocket.http.response": {}},
        }
        self._connected = False

    async def receive(self) -> Message:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        frame = await self._stream.read()
        match frame:
            case None:
                return {"type": "websocket.disconnect", "code": 1006}
            case (kind, content) if kind == PART:
                return {"type": "websocket.receive", "bytes": content}
            case (kind, content) if kind == TEXT:
                return {"type": "websocket.receive", "text": content.decode(errors="replace")}
            case (kind, content) if kind == CLOSE:
                return {"type": "websocket.disconnect", "code": _code(content)}
        self._stream.close()
        return {"type": "websocket.disconnect", "code": 1002}

    async def send(self, message: Message) -> None:
        if self._stream.closed.is_set() or self.over.is_set():
            raise ConnectionResetError("the client is gone")
        kind = message["type"]
        if kind == "websocket.send":
            data = message.get("bytes")
            self._stream.write(*((TEXT, str(message.get("text")).encode()) if data is None else (PART, data)))
            await self._stream.drain()
        elif kind == "websocket.accept":
            headers = text_headers(message.get("headers", ()))
            self._stream.write(ACCEPT, as_json({"subprotocol": message.get("subprotocol"), "headers": headers}))
        elif kind == "websocket.close":
            told = {"code": message.get("code", 1000), "reason": message.get("reason") or ""}
            self._stream.write(CLOSE, as_json(told))
            self.over.set()
        elif kind == "websocket.http.response.start":
            await self._send_start(message)
        else:
            await self._send_body(message)


def _exchange(stream: Stream, head: Head) -> _Exchange:
    return _Http(stream, head) if head.kind == "http" else _Socket(stream, head)


def _code(content: bytes) -> int:
    try:
        return int(json.loads(content)["code"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return 1006
