"""`/bastide/session`: a browser's login, whose ticket lies in a cookie that scripts cannot read.

A page keeps the CSRF prevention token in memory and asks for it anew after a reload. Other sites, and other ports of
this host, which share its cookies, can neither ask for it nor log anybody in or out.
"""

from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field
from starlette.responses import Response

from bastide.access.second_step import HalfLogin
from bastide.access.webauthn import ANSWER_LIMIT
from bastide.api.access import CHALLENGE_LIMIT
from bastide.api.access_openid import OpenIdAnswer, come_back
from bastide.api.answers import success
from bastide.api.auth import COOKIE, check_same_origin, find_ticket, is_local
from bastide.api.logins import log_in
from bastide.api.routing import Branch, Call, NoParameters
from bastide.base.errors import AuthenticationFailed
from bastide.model.access import Identity
from bastide.model.audit import Secret
from bastide.model.realm import RealmId
from bastide.model.record import Record

branch = Branch("/bastide/session")


class Credentials(Record):
    """A user's name and password, and for a second factor the challenge that the password then answers."""

    username: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=ANSWER_LIMIT), Secret()]
    realm: RealmId | None = None
    tfa_challenge: Annotated[str | None, Field(alias="tfa-challenge", max_length=CHALLENGE_LIMIT), Secret()] = None


class Session(Record):
    """A login: who, and the CSRF prevention token for writes."""

    username: str
    csrf: str


class SessionBegun(Record):
    """A login, or the challenge of a second factor and the kinds of it that the user has."""

    username: str | None = None
    csrf: str | None = None
    challenge: str | None = None
    factors: list[str] | None = None


@branch.get("", NoParameters, user="world", allow_token=False, answer=Session | None)
async def read_session(call: Call, _p: NoParameters) -> Response:
    """Who is logged in by the cookie, and a CSRF prevention token; null for who is not."""
    check_same_origin(call.connection)
    if call.caller is None or not _has_ticket(call):
        return await _answer(call, None)
    _, csrf = await call.access.issue_ticket(call.identity.userid)
    return await _answer(call, {"username": call.identity.userid, "csrf": csrf})


@branch.post("", Credentials, user="world", allow_token=False, answer=SessionBegun, event="login")
async def begin_session(call: Call, p: Credentials) -> Response:
    """Log in: sets the cookie, or answers what is asked of a second factor."""
    check_same_origin(call.connection)
    return await _outcome(call, await log_in(call, p.username, p.realm, p.password, p.tfa_challenge))


@branch.post("/openid", OpenIdAnswer, user="world", allow_token=False, answer=SessionBegun, event="login")
async def begin_openid_session(call: Call, p: OpenIdAnswer) -> Response:
    """Log in with what an OpenID provider sent: sets the cookie, or answers what is asked of a second factor."""
    check_same_origin(call.connection)
    return await _outcome(call, await come_back(call, p))


async def _outcome(call: Call, outcome: Identity | HalfLogin) -> Response:
    if isinstance(outcome, HalfLogin):
        return await _answer(
            call, {"username": outcome.userid, "challenge": outcome.ticket, "factors": list(outcome.kinds)}
        )
    return await _begun(call, outcome.userid)


@branch.put("", NoParameters, user="all", allow_token=False, answer=Session, event=None)
async def renew_session(call: Call, _p: NoParameters) -> Response:
    """Renew the cookie's ticket."""
    check_same_origin(call.connection)
    if not _has_ticket(call):
        raise AuthenticationFailed("No ticket")
    return await _begun(call, call.identity.userid)


@branch.delete("", NoParameters, user="world", allow_token=False, event="login")
async def end_session(call: Call, _p: NoParameters) -> Response:
    """Log out: forgets the cookie, also one whose ticket has expired."""
    check_same_origin(call.connection)
    response = await _answer(call, None)
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return response


def _has_ticket(call: Call) -> bool:
    """Whether a ticket made the caller known: whoever is known by the local socket has no session to renew."""
    return not is_local(call.connection) and find_ticket(call.connection) is not None


async def _begun(call: Call, userid: str) -> Response:
    ticket, csrf = await call.access.issue_ticket(userid)
    response = await _answer(call, {"username": userid, "csrf": csrf})
    response.set_cookie(COOKIE, quote(ticket, safe=""), path="/", secure=True, httponly=True, samesite="strict")
    return response


async def _answer(call: Call, data: Any) -> Response:
    response = await success(call.connection, data)
    response.headers["cache-control"] = "no-store"
    return response
