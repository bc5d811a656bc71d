"""What the web process does: it ends TLS, parses HTTP with limits, and relays each request to the daemon."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from bastide.web.connection import Gate
from bastide.web.listeners import Listener
from bastide.web.relay import Relay, Tunnels
from bastide.web.ways import Ways


async def attend(
    listening: socket.socket,
    control: socket.socket,
    context: ssl.SSLContext,
    shut_in: Callable[[], None] | None = None,
) -> None:
    """Serve what comes to a listening socket until the daemon closes `control`, then let requests at work end (5 s).

    `shut_in()` is called when all is loaded, before the first connection.
    """
    for sock in (listening, control):
        sock.setblocking(False)
    ways, stop = Ways(control), asyncio.Event()
    tunnels = Tunnels(ways, context)
    listener = Listener(listening, Relay(ways), Gate(), context, tunnel=tunnels)
    if shut_in is not None:
        shut_in()
    serving = asyncio.create_task(listener.run(stop))
    talking = asyncio.create_task(ways.run())
    try:
        await asyncio.wait({serving, talking}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await serving
    finally:
        for task in (serving, talking):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(serving, talking, return_exceptions=True)
