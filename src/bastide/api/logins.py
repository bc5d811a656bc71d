"""What every way to log in shares: the user's id, the caller's address, the site of the page, the second step."""

from urllib.parse import urlsplit

from bastide.access.second_step import HalfLogin
from bastide.access.webauthn import Site
from bastide.api.routing import Call
from bastide.base.errors import InvalidParameter, PermissionDenied
from bastide.model.access import ROOT, Identity
from bastide.model.factors import is_address
from bastide.model.types import is_dns_name
from bastide.operations import datacenter


async def log_in(
    call: Call, username: str, realm: str | None, password: str, challenge: str | None = None
) -> Identity | HalfLogin:
    """Who logs in, or the question for a second factor, to which `challenge` and `password` are the answer.

    The realm may also be a part of the name. Raises AuthenticationFailed.
    """
    userid = username if realm is None or username.endswith(f"@{realm}") else f"{username}@{realm}"
    return await call.access.log_in(userid, password, address_of(call), site=await site_of(call), challenge=challenge)


async def confirm(call: Call, parameter: str, password: str | None) -> None:
    """Have the caller confirm a change by the own present password; root@pam need not.

    Raises InvalidParameter that names the parameter when it is missing, AuthenticationFailed when it is wrong.
    """
    if call.is_root:
        return
    if password is None:
        raise InvalidParameter({parameter: "your own present password is needed"})
    await call.access.authenticate(call.identity.userid, password, address_of(call))


async def refuse_root(call: Call, userid: str) -> None:
    """Raise PermissionDenied for a change of root@pam by anybody else: whoever could, would be root."""
    if userid == ROOT.userid and not (await call.access.authority()).is_root(call.identity):
        raise PermissionDenied("Permission check failed (user != root@pam)")


def address_of(call: Call) -> str:
    """Where a call comes from; empty for the local socket."""
    return call.connection.client.host if call.connection.client else ""


async def site_of(call: Call) -> Site | None:
    """Whom security keys are for: what is configured, else the name that the caller knows this host by.

    None where that is an address, for which browsers have no security keys. The name is the caller's word, which is
    enough: a browser asks a key only for the page's own site, and a key answers only for the site it was made for.
    """
    options = await datacenter.webauthn(call.rooms)
    host = call.connection.headers.get("host", "").lower()
    origin = (options.origin if options else None) or f"https://{host}"
    try:
        name = (options.id if options else None) or urlsplit(origin).hostname or ""
    except ValueError:
        return None
    if is_address(name) or not is_dns_name(name):
        return None
    subdomains = options is not None and options.id is not None and options.allow_subdomains is not False
    return Site(name, (options.rp if options else None) or "Bastide", origin, subdomains)
