"""The web process's part in the loop of a test: everything but its walls."""

import asyncio
import socket
from pathlib import Path

from bastide.web.door import Door
from bastide.web.listeners import secure_context
from bastide.web.process import attend


async def beside(door: Door, listening: socket.socket, certificate: Path, key: Path, stop: asyncio.Event) -> None:
    """A front of `serve`'s that starts no process."""
    both = certificate.with_name("both.pem")
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        handing = asyncio.create_task(door.serve(ours))
        attending = asyncio.create_task(attend(listening, theirs, secure_context(both)))
        await stop.wait()
        handing.cancel()
        ours.close()
        await attending
