"""The service manager that may have started the daemon: systemd(1)."""

import os
import socket
from contextlib import suppress

from bastide.base.errors import HostFailure, NotSupported
from bastide.host.run import run


def notify_ready() -> None:
    """Tell the service manager that requests are answered (sd_notify(3)); without one nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(b"READY=1")


async def machine_is_stopping() -> bool:
    """Whether systemd is shutting the machine down (systemctl(1), `is-system-running`)."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return False
    try:
        done = await run(["systemctl", "is-system-running"], check=False, deadline=5)
    except (HostFailure, NotSupported):
        return False
    return done.text.strip() == "stopping"
