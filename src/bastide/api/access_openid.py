"""`/access/openid`: logging in at an OpenID provider, which sends the browser back to this host's page."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from bastide.access.second_step import HalfLogin
from bastide.api.access import ticket_of
from bastide.api.auditing import NOTE, Note
from bastide.api.auth import is_local
from bastide.api.lists import index
from bastide.api.logins import address_of, site_of
from bastide.api.routing import Branch, Call, NoParameters
from bastide.base.errors import InvalidParameter
from bastide.model.access import Identity
from bastide.model.audit import Secret
from bastide.model.realm import RealmId
from bastide.model.record import Record

_Redirect = Annotated[str, Field(alias="redirect-url", max_length=255)]

branch = Branch("/access/openid")


class OpenIdRealm(Record):
    """A realm, and where the browser comes back to: this host's page."""

    realm: RealmId
    redirect_url: _Redirect


class OpenIdAnswer(Record):
    """What the provider sent the browser back with."""

    code: Annotated[str, Field(max_length=4096), Secret()]
    state: Annotated[str, Field(max_length=1024), Secret()]
    redirect_url: _Redirect


@branch.get("", NoParameters, user="all")
async def read_index(_call: Call, _p: NoParameters) -> list[dict[str, str]]:
    """Directory index."""
    return index("subdir", "auth-url", "login")


@branch.post("/auth-url", OpenIdRealm, user="world", event=None)
async def begin_login(call: Call, p: OpenIdRealm) -> str:
    """Where to send the browser of who logs in."""
    _check_redirect(call, p.redirect_url)
    return await call.access.openid.begin(p.realm, p.redirect_url)


@branch.post("/login", OpenIdAnswer, user="world", event="login")
async def finish_login(call: Call, p: OpenIdAnswer) -> dict[str, Any]:
    """Log in with what the provider sent; answers as `POST /access/ticket` does."""
    return await ticket_of(call, await come_back(call, p))


async def come_back(call: Call, p: OpenIdAnswer) -> Identity | HalfLogin:
    """Who has logged in at the provider. Raises AuthenticationFailed, InvalidParameter for the address."""
    _check_redirect(call, p.redirect_url)
    outcome = await call.access.log_in_by_openid(
        p.state, p.code, p.redirect_url, address_of(call), site=await site_of(call)
    )
    note = call.connection.scope.get(NOTE)
    if isinstance(note, Note):
        note.caller = Identity(outcome.userid)  # nothing in the call itself says who it is
    return outcome


def _check_redirect(call: Call, url: str) -> None:
    """Raise InvalidParameter unless the browser comes back to this host, by the name that it called it by.

    Codes that are sent anywhere else would be somebody else's.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    host = call.connection.headers.get("host", "").lower()
    here = is_local(call.connection) or parts.netloc.lower() == host
    if parts.scheme != "https" or not here or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidParameter({"redirect-url": "this is not the address of this host's page"})
