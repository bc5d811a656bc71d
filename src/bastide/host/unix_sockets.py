"""UNIX sockets by path, also where the path is longer than the 107 bytes that an address holds (unix(7)).

The folder is opened and the socket named below /proc/self/fd.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from bastide.base.errors import HostFailure


def listen(path: Path, backlog: int = 8) -> socket.socket:
    """A listening stream socket at `path`, in the place of one that is there already; mode 0600. Raises HostFailure."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        with _short(path) as address:
            server.bind(address)
        path.chmod(0o600)
        server.listen(backlog)
    except OSError as error:
        server.close()
        raise HostFailure(f"cannot listen at {path}: {error.strerror or error}") from error
    return server


def connect(path: Path) -> socket.socket:
    """A connected, non-blocking stream socket. Never waits: raises BlockingIOError when too many do, OSError."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with _short(path) as address:
            client.connect(address)
    except BaseException:
        client.close()
        raise
    return client


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
