"""The web process's side: an application that hands each request to the daemon and its answer to the client."""

import asyncio
import json
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from bastide.web.connection import HEAD_DEADLINE
from bastide.web.frames import (
    ACCEPT,
    CLOSE,
    HEAD,
    LAST,
    OVER,
    PART,
    START,
    TEXT,
    WANT,
    Head,
    Headers,
    as_json,
    byte_headers,
)
from bastide.web.shares import Shares
from bastide.web.status import Status
from bastide.web.stream import Stream
from bastide.web.ways import PATIENCE, Ways

_BUSY = 503
_CHUNK = 64 * 1024
_TUNNEL = re.compile(rb"CONNECT ([\x21-\x7e]{1,255}) HTTP/1\.[01]\r\n")
_OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Relay:
    """An ASGI application: what the daemon answers. 503 when it has no room, or has gone."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._shares = Shares()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Relay a request or a WebSocket."""
        try:
            head = _head(scope)
        except ValueError:
            await refuse(scope["type"], send, 400, "the request has not the form that requests have")
            return
        async with self._shares.place(head.client[0], PATIENCE) as free:
            stream = await self._ways.get() if free else None
            if stream is None:
                await refuse(scope["type"], send)
            else:
                await self._relay(stream, head, receive, send)

    async def _relay(self, stream: Stream, head: Head, receive: Receive, send: Send) -> None:
        clean = False
        try:
            if head.kind == "http":
                clean = await _Request(stream, head, receive, send).relay()
            else:
                await _relay_socket(stream, head, receive, send)
        finally:
            if clean:
                self._ways.give_back(stream)
            else:
                stream.close()


async def refuse(
    kind: str, send: Send, status: int = 503, why: str = "the server is busy: try again in a moment"
) -> None:
    """Answer a request that the daemon does not get to see."""
    answer = "http.response" if kind == "http" else "websocket.http.response"
    text = as_json({"data": None, "message": f"{why}\n"})
    headers = [
        (b"content-type", b"application/json;charset=UTF-8"),
        (b"content-length", str(len(text)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if status == _BUSY:
        headers.append((b"retry-after", b"5"))
    await send({"type": f"{answer}.start", "status": status, "headers": headers})
    await send({"type": f"{answer}.body", "body": text, "more_body": False})


def _head(scope: Any) -> Head:
    """What the daemon is told of a request. Raises ValueError when it has not the form that requests have."""
    headers: Headers = [(name.lower(), value) for name, value in scope["headers"]]
    told = [value for name, value in headers if name in (b"content-length", b"transfer-encoding")]
    head = Head(
        kind=scope["type"],
        method=scope.get("method", "GET"),
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        client=scope["client"],
        body=bool(told) and told != [b"0"],
        subprotocols=scope.get("subprotocols", ()),
    )
    head.check()
    return head


class _Request:
    """One HTTP request on a stream."""

    def __init__(self, stream: Stream, head: Head, receive: Receive, send: Send) -> None:
        self._stream = stream
        self._head = head
        self._receive = receive
        self._send = send
        self._rest = False  # of the body, which the daemon wants
        self._answered = self._over = False

    async def relay(self) -> bool:
        """Send it and pass the answer on; whether the stream is clean afterwards."""
        self._stream.write(HEAD, self._head.to_bytes())
        listening = None if self._head.body else asyncio.create_task(self._listen())
        try:
            while (frame := await self._stream.read()) is not None:
                if frame[0] == WANT and listening is None:
                    self._rest = True
                    listening = asyncio.create_task(self._listen())
                elif await self._pass_on(*frame):
                    return frame[0] == LAST
        finally:
            if listening is not None:
                listening.cancel()
        if not self._answered:
            await refuse("http", self._send)
        return False

    async def _pass_on(self, kind: int, content: bytes) -> bool:
        """Send a frame to the client; whether it was the last one."""
        if kind == START:
            self._answered = True
            await self._send({"type": "http.response.start", **_start(content)})
            return False
        last = kind in (LAST, OVER)
        self._over = last
        await self._send({"type": "http.response.body", "body": content, "more_body": not last})
        return last

    async def _listen(self) -> None:
        """Hand the body on, and end the stream when the client goes before it has its answer."""
        while (message := await self._receive())["type"] == "http.request":
            if self._rest:
                more = message.get("more_body", False)
                self._stream.write(PART if more else LAST, message.get("body", b""))
                self._rest = more
                await self._stream.drain()
        if not self._over:
            self._stream.close()


def _start(content: bytes) -> dict[str, Any]:
    told = json.loads(content)
    status = told["status"] if told["reason"] is None else Status(told["status"], told["reason"])
    return {"status": status, "headers": byte_headers(told["headers"])}


async def _relay_socket(stream: Stream, head: Head, receive: Receive, send: Send) -> None:
    stream.write(HEAD, head.to_bytes())
    listening = asyncio.create_task(_hand_on(stream, receive))
    accepted = False
    try:
        while (frame := await stream.read()) is not None:
            kind, content = frame
            accepted = accepted or kind == ACCEPT
            await send(_message(kind, content, accepted))
            if kind in (CLOSE, LAST, OVER):
                return
        if accepted:
            await send({"type": "websocket.close", "code": 1011, "reason": ""})
        else:
            await refuse("websocket", send)
    except OSError:  # the client is gone
        pass
    finally:
        listening.cancel()
        await stream.finish()


async def _hand_on(stream: Stream, receive: Receive) -> None:
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.receive":
            data = message.get("bytes")
            stream.write(*((TEXT, str(message.get("text")).encode()) if data is None else (PART, data)))
            await stream.drain()
    stream.write(CLOSE, as_json({"code": message.get("code", 1006)}))
    await stream.finish()


def _message(kind: int, content: bytes, accepted: bool) -> dict[str, Any]:
    """An ASGI message of a frame for a WebSocket."""
    if kind == ACCEPT:
        told = json.loads(content)
        return {"type": "websocket.accept", **told, "headers": byte_headers(told["headers"])}
    if kind == CLOSE:
        return {"type": "websocket.close", **json.loads(content)}
    if kind == START:
        return {"type": "websocket.http.response.start", **_start(content)}
    if kind == TEXT:
        return {"type": "websocket.send", "text": content.decode()}
    if accepted:
        return {"type": "websocket.send", "bytes": content}
    return {"type": "websocket.http.response.body", "body": content, "more_body": kind == PART}


class Tunnels:
    """What a plain CONNECT request becomes: TLS ends here, and the daemon knows where it leads."""

    def __init__(self, ways: Ways, context: ssl.SSLContext) -> None:
        self._ways = ways
        self._context = context

    async def serve(self, connection: socket.socket, head: bytes) -> None:
        """Serve a connection whose request's head this is; the caller closes it."""
        loop = asyncio.get_running_loop()
        match = _TUNNEL.match(head)
        stream = await self._ways.get() if match is not None else None
        if match is None or stream is None:
            await loop.sock_sendall(connection, _REFUSED if match is None else _FULL)
            return
        address = connection.getpeername()[:2]
        stream.write(HEAD, Head("tunnel", "CONNECT", match[1].decode(), "", [], address).to_bytes())
        try:
            frame = await stream.read()
            if frame is None or frame[0] != ACCEPT:
                await loop.sock_sendall(connection, _REFUSED)
                return
            await loop.sock_sendall(connection, _OPENED)
            await self._join(connection, stream)
        finally:
            stream.close()

    async def _join(self, connection: socket.socket, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        async with asyncio.timeout(HEAD_DEADLINE):
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._context)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        tasks = [asyncio.create_task(_up(reader, stream)), asyncio.create_task(_down(stream, writer))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            transport.abort()


async def _up(reader: asyncio.StreamReader, stream: Stream) -> None:
    while data := await reader.read(_CHUNK):
        stream.write(PART, data)
        await stream.drain()


async def _down(stream: Stream, writer: asyncio.StreamWriter) -> None:
    while (frame := await stream.read()) is not None and frame[0] == PART:
        writer.write(frame[1])
        await writer.drain()
