"""HTTP on a listening socket: with TLS on TCP in the web process, and on the UNIX socket for root in the daemon.

Plain HTTP on the TLS port is redirected, but for CONNECT, with which SPICE clients come: the first byte tells a TLS
hello (22, RFC 8446 section 5.1) from text.
"""

import asyncio
import errno
import logging
import os
import re
import socket
import ssl
import struct
import time
from asyncio import sslproto
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from uvicorn.server import ServerState

from bastide.web.connection import HEAD_DEADLINE, HEAD_LIMIT, Gate, GuardedProtocol, GuardedWebSocket
from bastide.web.status import install

_TLS_HELLO = b"\x16"
_KEEP_ALIVE = 30
_GRACE = 5.0
_BACKLOG = 1024
_PORT_PATIENCE = 2.0
_TLS_BUFFER = 32 * 1024
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}", re.ASCII)
_TARGET = re.compile(r"/[\x21-\x7e]{0,4096}", re.ASCII)

App = Callable[..., Any]


class Tunnel(Protocol):
    """Who takes the connections of clients that take the port for a proxy."""

    async def serve(self, connection: socket.socket, head: bytes) -> None:
        """Serve a connection whose request's head is a CONNECT. The connection is closed afterwards."""


class Listener:
    """Accepts connections on one socket; TLS with a context, the UNIX socket without."""

    def __init__(
        self,
        sock: socket.socket,
        app: App,
        gate: Gate,
        context: ssl.SSLContext | None = None,
        *,
        tunnel: Tunnel | None = None,
    ) -> None:
        self._socket = sock
        self._config = _configuration(app)
        self._state = ServerState()
        self._gate = gate
        self._context = context
        self._tunnel = tunnel
        self._newcomers: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Accept until `stop` is set, then let requests at work end (5 s) and close."""
        install()
        _set_date(self._state)
        tasks = [asyncio.create_task(self._accept()), asyncio.create_task(_keep_date(self._state))]
        try:
            await stop.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for newcomer in list(self._newcomers):
                newcomer.cancel()
            await _drain(self._state)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
                if self._context is not None:
                    # asyncio does it only for a socket that knows its protocol, which one of `create_server` does not.
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:  # out of descriptors, or the peer is gone already
                await asyncio.sleep(0.05)
                continue
            task = asyncio.create_task(self._admit(connection))
            if not self._gate.enter(task, task.cancel):
                task.cancel()
                connection.close()
                continue
            self._newcomers.add(task)
            task.add_done_callback(self._newcomers.discard)

    async def _admit(self, connection: socket.socket) -> None:
        key = asyncio.current_task()
        handed_over = False
        try:
            if self._context is None:
                handed_over = await self._admit_local(connection, key)
            else:
                handed_over = await self._admit_remote(connection, key)
        except (OSError, TimeoutError, ssl.SSLError):
            pass
        finally:
            if not handed_over:
                self._gate.leave(key)
                connection.close()

    async def _admit_local(self, connection: socket.socket, key: object) -> bool:
        size = struct.calcsize("3i")
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        if uid not in (0, os.geteuid()):
            return False
        await self._hand_over(connection, key, None)
        return True

    async def _admit_remote(self, connection: socket.socket, key: object) -> bool:
        async with asyncio.timeout(HEAD_DEADLINE):
            first = await _peek(connection)
            if first == _TLS_HELLO:
                await self._hand_over(connection, key, self._context)
                return True
            head = await _head(connection) if first else b""
            if head and not head.startswith(b"CONNECT "):
                await asyncio.get_running_loop().sock_sendall(connection, redirection(head))
        if head.startswith(b"CONNECT ") and self._tunnel is not None:
            self._gate.busy(key)
            await self._tunnel.serve(connection, head)
        return False

    async def _hand_over(self, connection: socket.socket, key: object, context: ssl.SSLContext | None) -> None:
        def factory() -> GuardedProtocol:
            protocol = GuardedProtocol(config=self._config, server_state=self._state, app_state={})
            protocol.gate, protocol.key = self._gate, key
            self._gate.idle(key, protocol.put_out)
            return protocol

        await asyncio.get_running_loop().connect_accepted_socket(factory, connection, ssl=context)


def _configuration(app: App) -> uvicorn.Config:
    # At INFO it writes the targets of WebSockets, with what commands and tickets they hold, into the log, and at
    # WARNING a line for everything that a stranger sends which is no request.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws=GuardedWebSocket,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        ws_max_size=1024 * 1024,
        ws_per_message_deflate=False,
        # A client whose input a command does not read cannot answer pings; `exec` sounds clients out by itself.
        ws_ping_interval=None,
    )
    config.load()
    return config


async def tcp_socket(listen: str, port: int) -> socket.socket:
    """A listening socket; a port that a child of a killed daemon holds until its exec is waited for."""
    deadline = time.monotonic() + _PORT_PATIENCE
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    while True:
        try:
            sock = socket.create_server((listen, port), family=family, backlog=_BACKLOG, dualstack_ipv6=listen == "::")
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            sock.setblocking(False)
            return sock


def secure_context(path: str | Path) -> ssl.SSLContext:
    """What ends TLS, with the certificate and the key that a PEM file holds. Raises OSError (ssl.SSLError)."""
    # Every connection gets such a buffer before it has said who it is: asyncio's 256 KiB for hundreds of strangers fill
    # the memory. A TLS record is never larger than 16 KiB.
    sslproto.SSLProtocol.max_size = _TLS_BUFFER
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(path)
    return context


def unix_socket(path: Path) -> socket.socket:
    """A listening socket at `path` for this user alone. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(before)
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock


async def _peek(connection: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(connection.fileno(), wake)
    try:
        await readable
    finally:
        loop.remove_reader(connection.fileno())
    return connection.recv(1, socket.MSG_PEEK)


async def _head(connection: socket.socket) -> bytes:
    """A plain request's head. A client of a proxy's sends nothing behind it before it is answered."""
    loop = asyncio.get_running_loop()
    head = bytearray()
    while b"\r\n\r\n" not in head and len(head) <= HEAD_LIMIT:
        data = await loop.sock_recv(connection, 4096)
        if not data:
            break
        head += data
    return bytes(head)


def redirection(head: bytes) -> bytes:
    """The answer to a plain HTTP request's head: 301 to the same place under https, or 400."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    hosts = [line.partition(":")[2].strip() for line in lines[1:] if line.lower().startswith("host:")]
    if len(words) != 3 or not _TARGET.fullmatch(words[1]) or len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    location = f"https://{hosts[0]}{words[1]}"
    return (
        f"HTTP/1.1 301 Moved Permanently\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ).encode()


def _set_date(state: ServerState) -> None:
    state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]


async def _keep_date(state: ServerState) -> None:
    while True:
        await asyncio.sleep(1)
        _set_date(state)


async def _drain(state: ServerState) -> None:
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        _, late = await asyncio.wait(list(state.tasks), timeout=_GRACE)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
