"""The web process: `python -m bastide.web PARENT CONTROL LISTENING TLS`, started by the daemon (`keeper.py`).

PARENT is the daemon's process id, the others are descriptors that it inherits: its end of a pair of sockets, the
listening socket, and a file in memory with certificate and key. It becomes the first process of a process namespace of
its own, for which it forks once; what it was waits for it, so that either ends with the other and with the daemon.
"""

import sys
from pathlib import Path

from bastide.host import secluded


def main() -> int:
    """Run until the daemon closes its end. The exit code is 1 when it cannot be shut in."""
    parent, control, listening, tls = (int(word) for word in sys.argv[1:])
    Path("/proc/self/comm").write_text("bastide-web")
    ended = secluded.as_first_process(parent, (control, listening, tls))
    if ended is not None:
        return int(ended != 0)
    from bastide.web.shut_in import run  # noqa: PLC0415 - what waits above needs none of it

    return run(control, listening, tls)


if __name__ == "__main__":
    sys.exit(main())
