"""`/access/tfa`: the second factors that users have, and what is asked of them at `/access/users/{userid}`.

Who changes factors confirms it with the own present password, whosever factors they are; root@pam need not.
"""

import time
from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.access.webauthn import ANSWER_LIMIT, Site
from bastide.api.logins import confirm, refuse_root, site_of
from bastide.api.routing import Branch, Call, NoParameters
from bastide.api.shapes_access import FactorRow, FactorTypes, NewFactor, UserFactors
from bastide.base.errors import InvalidParameter, MethodNotImplemented
from bastide.model.audit import Secret
from bastide.model.factors import RECOVERY_ID, Factor, FactorKind, Factors
from bastide.model.record import Record
from bastide.model.types import UserId

_READ = ("or", ("userid-param", "self"), ("userid-group", ("User.Modify", "Sys.Audit")))
_CHANGE = ("or", ("userid-param", "self"), ("userid-group", ("User.Modify",)))

branch = Branch("/access")

OwnPassword = Annotated[str | None, Field(min_length=5, max_length=64), Secret()]
Description = Annotated[str | None, Field(max_length=255)]


class UserName(Record):
    """A user."""

    userid: UserId


class TypesQuery(UserName):
    """A user; with `multiple` all types of their factors."""

    multiple: bool = False


class EntryName(UserName):
    """One of a user's second factors."""

    id: Annotated[str, Field(min_length=1, max_length=64)]


class EntryRemoval(EntryName):
    """One of a user's second factors, and the caller's own present password."""

    password: OwnPassword = None


class EntryChange(EntryRemoval):
    """What to change of an entry."""

    description: Description = None
    enable: bool | None = None


class NewEntry(UserName):
    """A new second factor.

    `totp` is an otpauth URI and `value` a present code of it. A security key takes two calls: the first is answered
    with a challenge, `value` of the second is the browser's answer to it. `password` is the caller's own present one.
    """

    type: FactorKind
    description: Description = None
    totp: Annotated[str | None, Field(max_length=1024), Secret()] = None
    value: Annotated[str | None, Field(max_length=ANSWER_LIMIT), Secret()] = None
    challenge: Annotated[str | None, Field(max_length=256), Secret()] = None
    password: OwnPassword = None


@branch.get("/tfa", NoParameters, user="all", answer=list[UserFactors])
async def list_factors(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The second factors of the users that the caller may change or audit, and one's own."""
    authority = await call.access.authority()
    wanted = ("User.Modify", "Sys.Audit")
    every = authority.allows(call.identity, "/access/groups", wanted, any=True)
    seen = authority.members(authority.groups_with(call.identity, wanted)) | {call.identity.userid}
    return [
        {"userid": factors.userid, "entries": _rows(factors), **locks(factors)}
        for factors in await call.access.factors.every()
        if (every or factors.userid in seen) and factors.userid in authority.users and factors.entries()
    ]


@branch.get("/tfa/{userid}", UserName, check=_READ, answer=list[FactorRow])
async def list_own(call: Call, p: UserName) -> list[dict[str, Any]]:
    """A user's second factors."""
    await call.access.users.get(p.userid)
    return _rows(await call.access.factors.get(p.userid))


@branch.get("/tfa/{userid}/{id}", EntryName, check=_READ, answer=FactorRow)
async def read_factor(call: Call, p: EntryName) -> dict[str, Any]:
    """One of a user's second factors; never its secret."""
    await call.access.users.get(p.userid)
    return _row(*await call.access.factors.entry(p.userid, p.id))


@branch.post("/tfa/{userid}", NewEntry, check=_CHANGE, allow_token=False, answer=NewFactor)
async def add_factor(call: Call, p: NewEntry) -> dict[str, Any]:
    """Add a second factor; recovery codes are in the answer and never shown again."""
    await _may_change(call, p.userid, p.password)
    factors = call.access.factors
    match p.type:
        case "totp":
            uri, code = _given(p, "totp"), _given(p, "value")
            return {"id": await factors.add_totp(p.userid, uri, code, p.description or "")}
        case "recovery":
            return {"id": RECOVERY_ID, "recovery": await factors.add_recovery(p.userid)}
        case "webauthn":
            return await _add_key(call, p)
    raise MethodNotImplemented(f"second factors of type '{p.type}' not implemented: use webauthn or totp")


@branch.put("/tfa/{userid}/{id}", EntryChange, check=_CHANGE, allow_token=False)
async def change_factor(call: Call, p: EntryChange) -> None:
    """Enable, disable or describe a second factor."""
    await _may_change(call, p.userid, p.password)
    await call.access.factors.update(p.userid, p.id, enable=p.enable, description=p.description)


@branch.delete("/tfa/{userid}/{id}", EntryRemoval, check=_CHANGE, allow_token=False)
async def remove_factor(call: Call, p: EntryRemoval) -> None:
    """Remove a second factor."""
    await _may_change(call, p.userid, p.password)
    await call.access.factors.remove(p.userid, p.id)


@branch.get("/users/{userid}/tfa", TypesQuery, check=_READ, answer=FactorTypes)
async def read_types(call: Call, p: TypesQuery) -> dict[str, Any]:
    """Which types of second factors a user has; without `multiple` in the words of old clients, who know TOTP alone."""
    await call.access.users.get(p.userid)
    kinds = {kind for kind, entry in (await call.access.factors.get(p.userid)).entries() if entry.enable}
    if p.multiple:
        return {"types": sorted(kinds)}
    return {"user": "oath"} if "totp" in kinds else {}


@branch.put("/users/{userid}/unlock-tfa", UserName, check=("userid-group", ("User.Modify",)))
async def unlock(call: Call, p: UserName) -> int:
    """Unlock a user's second factors after too many wrong answers; answers whether any was locked."""
    await refuse_root(call, p.userid)
    await call.access.check_own_change(call.identity, p.userid)
    await call.access.users.get(p.userid)
    return int(await call.access.factors.unlock(p.userid))


def locks(factors: Factors) -> dict[str, Any]:
    """What is locked of a user's factors, as it is shown."""
    shown: dict[str, Any] = {"totp-locked": 1} if factors.totp_locked else {}
    return {**shown, "tfa-locked-until": factors.locked_until} if factors.locked_until > time.time() else shown


async def _may_change(call: Call, userid: str, password: str | None) -> None:
    await refuse_root(call, userid)
    await call.access.users.get(userid)
    await confirm(call, "password", password)


async def _add_key(call: Call, p: NewEntry) -> dict[str, Any]:
    site: Site | None = await site_of(call)
    if site is None:
        why = "security keys need a name: open the page by the host's name, or set 'webauthn' of the datacenter options"
        raise InvalidParameter({"type": why})
    if p.challenge is None and p.value is None:
        return {"challenge": await call.access.factors.begin_webauthn(p.userid, site, p.description or "")}
    challenge, answer = _given(p, "challenge"), _given(p, "value")
    return {"id": await call.access.factors.finish_webauthn(p.userid, site, challenge, answer)}


def _given(p: NewEntry, name: Literal["totp", "value", "challenge"]) -> str:
    text: str | None = getattr(p, name)
    if text is None:
        raise InvalidParameter({name: f"is needed for a second factor of type '{p.type}'"})
    return text


def _rows(factors: Factors) -> list[dict[str, Any]]:
    return [_row(kind, entry) for kind, entry in factors.entries()]


def _row(kind: FactorKind, entry: Factor) -> dict[str, Any]:
    return {
        "id": entry.id,
        "type": kind,
        "description": entry.description,
        "created": entry.created,
        "enable": int(entry.enable),
    }
