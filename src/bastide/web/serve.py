"""Serving an application to the world and to root: the web process for TCP, and the UNIX socket here."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bastide.web.connection import Gate
from bastide.web.door import App, Door
from bastide.web.keeper import Keeper
from bastide.web.listeners import Listener, tcp_socket, unix_socket
from bastide.web.marks import LOCAL, STOPPING

Front = Callable[[Door, socket.socket, Path, Path, asyncio.Event], Coroutine[Any, Any, None]]
"""What serves a listening socket with a certificate and a key by way of a door, until the event is set."""


async def _kept(door: Door, listening: socket.socket, certificate: Path, key: Path, stop: asyncio.Event) -> None:
    await Keeper(door, listening, certificate, key).run(stop)


async def serve(
    app: App,
    *,
    listen: str,
    port: int,
    certificate: Path,
    key: Path,
    unix_socket_at: Path,
    stop: asyncio.Event,
    ready: Callable[[], None] | None = None,
    front: Front = _kept,
) -> None:
    """Serve until `stop` is set, then let requests at work end (5 s) and close.

    `listen` is an IPv4 or IPv6 address (`::` takes both), `port` 0 takes any; `ready()` is called once both sockets
    take connections. Raises OSError when the port or the socket cannot be had.
    """
    door = Door(app, {STOPPING: stop})
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(await tcp_socket(listen, port))
        local = stack.enter_context(unix_socket(unix_socket_at))
        stack.callback(unix_socket_at.unlink, missing_ok=True)
        # Its peers were seen to be root.
        listener = Listener(local, _marked(app, {STOPPING: stop, LOCAL: True}), Gate())
        tasks = [
            asyncio.create_task(listener.run(stop)),
            asyncio.create_task(front(door, tcp, certificate, key, stop)),
            asyncio.create_task(_drain_at(stop, door)),
        ]
        if ready is not None:
            ready()
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _drain_at(stop: asyncio.Event, door: Door) -> None:
    await stop.wait()
    await door.drain()


def _marked(app: App, marks: dict[str, Any]) -> App:
    """The application with marks in the scope of each of its connections."""

    async def marked(scope: Any, receive: Any, send: Any) -> None:
        scope.update(marks)
        await app(scope, receive, send)

    return marked
