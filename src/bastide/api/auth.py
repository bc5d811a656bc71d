"""Who makes a call: the UNIX socket's peer, a ticket, or an API token.

The order is Proxmox's: the cookie, then a ticket in the Authorization header, then an API token. A write with a ticket
needs its CSRF prevention token. Clients log in again only on the exact reasons used here.
"""

from urllib.parse import unquote, urlsplit

from starlette.requests import HTTPConnection

from bastide.access.access import Access
from bastide.base.errors import AuthenticationFailed, PermissionDenied
from bastide.model.access import ROOT, Identity
from bastide.web.marks import LOCAL

COOKIE = "PVEAuthCookie"
_TICKET_PREFIX = f"{COOKIE}="
_TOKEN_PREFIX = "PVEAPIToken"  # noqa: S105 - the scheme's name
_SAFE = frozenset({"GET", "HEAD"})


def is_local(connection: HTTPConnection) -> bool:
    """Whether the call came over the UNIX socket from root."""
    return bool(connection.scope.get(LOCAL))


async def identify(access: Access, connection: HTTPConnection, *, method: str) -> Identity:
    """The caller. Raises AuthenticationFailed with the reason that clients know."""
    if is_local(connection):
        return ROOT
    ticket = find_ticket(connection)
    if ticket is not None:
        return await _by_ticket(access, connection, ticket, method)
    token = find_token(connection)
    if token is not None:
        try:
            return await access.verify_token(token)
        except AuthenticationFailed:
            raise AuthenticationFailed("no such token or invalid token value!") from None
    raise AuthenticationFailed("No ticket")


async def _by_ticket(access: Access, connection: HTTPConnection, ticket: str, method: str) -> Identity:
    try:
        identity = await access.verify_ticket(ticket)
    except AuthenticationFailed:
        raise AuthenticationFailed("permission denied - invalid PVE ticket") from None
    if method not in _SAFE:
        try:
            await access.verify_csrf(connection.headers.get("csrfpreventiontoken", ""), identity.userid)
        except AuthenticationFailed:
            raise AuthenticationFailed("Permission denied - invalid csrf token") from None
    return identity


def find_ticket(connection: HTTPConnection) -> str | None:
    """The ticket of the cookie or the Authorization header, percent-decoded (`+` stays)."""
    for header in connection.headers.getlist("cookie"):
        for part in header.split(";"):
            if part.strip().startswith(_TICKET_PREFIX):
                return unquote(part.strip()[len(_TICKET_PREFIX) :])
    header = connection.headers.get("authorization", "")
    if header.startswith(_TICKET_PREFIX):
        return unquote(header[len(_TICKET_PREFIX) :].partition(";")[0].strip())
    return None


def find_token(connection: HTTPConnection) -> str | None:
    """The API token `user@realm!name=secret` of the Authorization header."""
    header = connection.headers.get("authorization", "")
    if header.startswith(_TOKEN_PREFIX) and header[len(_TOKEN_PREFIX) :][:1] in ("=", " "):
        return unquote(header[len(_TOKEN_PREFIX) + 1 :].strip())
    return None


def check_origin(connection: HTTPConnection) -> None:
    """Refuse a WebSocket that a page of another site opens with the browser's cookie. Raises PermissionDenied."""
    origin = connection.headers.get("origin")
    if origin is None or is_local(connection):
        return
    try:
        from_host = urlsplit(origin).netloc.lower()
    except ValueError:  # `https://[`
        from_host = None
    if from_host != connection.headers.get("host", "").lower():
        raise PermissionDenied("Permission check failed (the page's origin is not this host)")


def check_same_origin(connection: HTTPConnection) -> None:
    """Refuse a call that a page of another origin makes, also one of this host's other ports. Raises PermissionDenied.

    Browsers tell by a header that scripts cannot set (Fetch Metadata); `none` is the address bar.
    """
    check_origin(connection)
    if connection.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise PermissionDenied("Permission check failed (the page's origin is not this host)")
