"""The web process, from its first import of a server to its end. What needs the host comes before the walls."""

import asyncio
import gc
import importlib
import logging
import os
import socket
import sys

from bastide.host import seccomp
from bastide.web import walls
from bastide.web.listeners import secure_context
from bastide.web.process import attend

_IMPORTED_LATE = (
    *("encodings.idna", "encodings.latin_1", "unicodedata", "stringprep", "traceback", "linecache", "tokenize"),
)


def run(control: int, listening: int, tls: int) -> int:
    """Serve behind walls; the arguments are descriptors, see `__main__`. Returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        context = secure_context(f"/proc/self/fd/{tls}")
        seccomp.library()
    except OSError as error:
        logging.error("the web process cannot begin: %s", error)
        return 1
    os.close(tls)
    for name in _IMPORTED_LATE:  # by the standard library, at the first use
        importlib.import_module(name)
    sockets = (socket.socket(fileno=listening), socket.socket(fileno=control))
    gc.freeze()
    asyncio.run(attend(*sockets, context, lambda: walls.build(0)))
    return 0
