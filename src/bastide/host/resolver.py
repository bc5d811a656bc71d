"""The host's own name servers, as `resolv.conf(5)` lists them."""

import ipaddress
from pathlib import Path

# systemd-resolved's stub is of no use in a guest: the servers behind it are listed in its own file.
_FILES = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))


def _words(keyword: str) -> list[str]:
    for path in _FILES:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        lines = [line.split() for line in text.splitlines()]
        return [word for line in lines if line[:1] == [keyword] for word in line[1:]]
    return []


def host_nameservers() -> list[str]:
    """Addresses of the host's name servers that a guest can reach: loopback ones are left out."""
    usable = []
    for word in _words("nameserver"):
        try:
            address = ipaddress.ip_address(word.partition("%")[0])
        except ValueError:
            continue
        if not address.is_loopback:
            usable.append(word)
    return usable


def host_searchdomain() -> str | None:
    """The host's search domains, separated by spaces, or None."""
    return " ".join(word for word in _words("search") if word != ".") or None
