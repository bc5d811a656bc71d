"""A disk that one NBD server exports, served by another one: qemu-nbd(8) in between, in the sandbox.

For a server that may have one connection, and one that never ends. The socket for clients is bound here and handed over
(sd_listen_fds(3)). Source: QEMU's QMP reference (BlockdevOptionsNbd, SocketAddress).
"""

import asyncio
import json
import socket
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path

from bastide.base.errors import HostFailure, NotSupported
from bastide.base.units import MIB
from bastide.host import unix_sockets
from bastide.host.run import kill_group, spawn
from bastide.host.sandbox import Bounds, sandboxed

_PROGRAM = "/usr/bin/qemu-nbd"
_PEER = "4"  # see `sandboxed`
_SECONDS = 600  # of processor time, beside what the size asks for
_BYTES_A_SECOND = 10 * MIB
_GREETING = b"NBDMAGIC"
_START_DEADLINE = 30.0


async def relay(peer: socket.socket, export: str, size: int, path: Path) -> Process:
    """Serve what `peer`, a connected NBD server, exports as `export`, at the UNIX socket `path`, for reading.

    There the export's name is empty, and any number of clients may come. `size` in bytes. It ends with the daemon, or
    by `kill_group`: in no case does it tell the server that it ends. Raises HostFailure, NotSupported.
    """
    if not Path(_PROGRAM).exists():
        raise NotSupported("qemu-nbd is not installed on this host; see `bastide doctor`")
    server = {"driver": "nbd", "server": {"type": "fd", "str": _PEER}, "export": export}
    image = f"json:{json.dumps({'driver': 'raw', 'file': server})}"
    argv = [_PROGRAM, "--persistent", "--shared=0", "--read-only", image]
    bounds = Bounds(seconds=_SECONDS + size // _BYTES_A_SECOND)
    with unix_sockets.listen(path, backlog=64) as listener:
        given = [listener.fileno(), peer.fileno()]
        inside = sandboxed(argv, (), bounds, listener=given[0], peer=given[1])
        process = await spawn(inside, stdout=DEVNULL, stderr=DEVNULL, pass_fds=given)
    try:
        await _answering(path)
    except BaseException:
        await asyncio.shield(kill_group(process))
        path.unlink(missing_ok=True)
        raise
    return process


async def _answering(path: Path) -> None:
    """Return once it greets a client. Raises HostFailure."""
    try:
        async with asyncio.timeout(_START_DEADLINE):
            with unix_sockets.connect(path) as client:
                greeting = await asyncio.get_running_loop().sock_recv(client, len(_GREETING))
    except (TimeoutError, OSError):
        greeting = b""
    if greeting != _GREETING:
        raise HostFailure("qemu-nbd does not pass on what the VM exports")
