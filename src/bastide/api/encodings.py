"""Which content codings a caller takes."""

from contextlib import suppress

from starlette.requests import HTTPConnection


def takes(connection: HTTPConnection, coding: str) -> bool:
    """Whether the caller's Accept-Encoding takes a coding (RFC 9110, section 12.5.3): `gzip;q=0` does not."""
    weights = {}
    for entry in connection.headers.get("accept-encoding", "").lower().split(","):
        name, _, rest = entry.partition(";")
        weights[name.strip()] = _weight(rest)
    return weights.get(coding, weights.get("*", 0.0)) > 0


def _weight(text: str) -> float:
    name, _, value = text.partition("=")
    if name.strip() == "q":
        with suppress(ValueError):
            return float(value)
    return 1.0
