"""systemd-resolved's settings of one link, through resolvectl(1); they vanish with the link."""

import logging
from ipaddress import IPv4Address
from pathlib import Path

from bastide.base.errors import HostFailure, NotSupported
from bastide.host.run import run

_SOCKET = Path("/run/systemd/resolve/io.systemd.Resolve")
_log = logging.getLogger(__name__)


def is_running() -> bool:
    """Whether the host resolves names through systemd-resolved."""
    return _SOCKET.exists()


def commands(interface: str, server: IPv4Address, domain: str) -> list[list[str]]:
    """What makes names below `domain`, and no others, be asked of `server` on that link."""
    return [
        ["resolvectl", "dns", interface, str(server)],
        ["resolvectl", "domain", interface, f"~{domain}"],
        ["resolvectl", "default-route", interface, "no"],
        ["resolvectl", "dnssec", interface, "no"],
    ]


async def route_domain(interface: str, server: IPv4Address, domain: str) -> bool:
    """Let the host resolve `domain` through the link's server; False when it does not run or refuses."""
    if not is_running():
        return False
    try:
        for argv in commands(interface, server, domain):
            await run(argv, deadline=10)
    except (HostFailure, NotSupported) as error:
        _log.warning("names below .%s do not resolve on this host: %s", domain, error)
        return False
    return True
