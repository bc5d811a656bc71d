"""`/access/users`: users and their API tokens."""

from typing import Annotated, Any

from pydantic import Field

from bastide.access.users import realm_of
from bastide.api.access_tfa import locks
from bastide.api.logins import refuse_root
from bastide.api.routing import Branch, Call
from bastide.api.shapes_access import NewToken, TokenInfo, TokenRow, UserInfo, UserRow
from bastide.base.errors import InvalidParameter
from bastide.model.access import ROOT, Token, User
from bastide.model.audit import Secret
from bastide.model.record import Multiline, Record
from bastide.model.types import ConfigKeys, TokenName, UserId, split_list

_OWN_OR_MODIFY = ("or", ("userid-param", "self"), ("userid-group", ("User.Modify",)))
_REMOVABLE = frozenset({"comment", "expire"})

branch = Branch("/access/users")

Comment = Annotated[str | None, Field(max_length=2048), Multiline()]
Expire = Annotated[int | None, Field(ge=0, le=2**53)]


class UsersQuery(Record):
    """Which users, and whether with their groups and tokens."""

    enabled: bool | None = None
    full: bool | None = None


class UserName(Record):
    """A user."""

    userid: UserId


class _UserKeys(UserName):
    """What a user has."""

    comment: Comment = None
    email: Annotated[str | None, Field(pattern=r"^([^\s@]+@[^\s@]+)?$", max_length=254)] = None
    enable: bool | None = None
    expire: Expire = None
    firstname: Annotated[str | None, Field(max_length=1024)] = None
    groups: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._,;\s-]*$", max_length=2048)] = None
    keys: Annotated[str | None, Field(pattern=r"^[0-9a-zA-Z!=]{0,2048}$"), Secret()] = None
    lastname: Annotated[str | None, Field(max_length=1024)] = None


class UserCreate(_UserKeys):
    """A new user; a password only in the realm `pve`."""

    password: Annotated[str | None, Field(min_length=8, max_length=64), Secret()] = None


class UserChange(_UserKeys):
    """A user's keys; with `append` the groups come on top."""

    append: bool | None = None


class TokenPath(UserName):
    """A token."""

    tokenid: TokenName


class TokenCreate(TokenPath):
    """A token's settings; with privilege separation (the default) it has only what it is granted itself."""

    comment: Comment = None
    expire: Expire = None
    privsep: bool | None = None


class TokenChange(TokenCreate):
    """A token's settings to change or to delete."""

    delete: ConfigKeys | None = None


@branch.get("", UsersQuery, user="all", answer=list[UserRow])
async def list_users(call: Call, p: UsersQuery) -> list[dict[str, Any]]:
    """The users that the caller may change or audit, and oneself."""
    authority = await call.access.authority()
    wanted = ("User.Modify", "Sys.Audit")
    every = authority.allows(call.identity, "/access/groups", wanted, any=True)
    seen = authority.members(authority.groups_with(call.identity, wanted)) | {call.identity.userid}
    locked = {factors.userid: locks(factors) for factors in await call.access.factors.every()}
    rows = []
    for user in await call.access.users.list():
        if (every or user.userid in seen) and p.enabled in (None, user.enable):
            row = {**_shown(user), **locked.get(user.userid, {})}
            if p.full:
                tokens = await call.access.tokens.list(user.userid)
                row |= {"groups": user.groups or "", "tokens": [_token(token) for token in tokens]}
            rows.append(row)
    return rows


@branch.post("", UserCreate,
             check=("and", ("userid-param", "Realm.AllocateUser"),
                    ("userid-group", ("User.Modify",), "groups_param", "create")))  # fmt: skip
async def create_user(call: Call, p: UserCreate) -> None:
    """Make a user."""
    keys = {key: value for key, value in p.to_text().items() if key != "password"}
    await call.access.users.create(User.parse(keys), p.password)


@branch.get("/{userid}", UserName, check=("userid-group", ("User.Modify", "Sys.Audit")), answer=UserInfo)
async def read_user(call: Call, p: UserName) -> dict[str, Any]:
    """A user with groups and tokens."""
    user = await call.access.users.get(p.userid)
    row = _shown(user)
    row.pop("userid")
    row.pop("realm-type")
    tokens = {token.tokenid: _token(token, named=False) for token in await call.access.tokens.list(p.userid)}
    return {**row, "groups": split_list(user.groups or ""), "tokens": tokens}


@branch.put("/{userid}", UserChange, check=("userid-group", ("User.Modify",), "groups_param", "update"))
async def change_user(call: Call, p: UserChange) -> None:
    """Change a user."""
    await refuse_root(call, p.userid)
    if p.append and p.groups is None:
        raise InvalidParameter({"append": "missing property - 'groups' is required by 'append'"})
    if p.userid == ROOT.userid and (p.enable is False or p.expire):
        raise InvalidParameter({"enable": "root@pam cannot be disabled: nobody else could enable it again"})
    await call.access.check_own_change(call.identity, p.userid)
    changes = {key: value for key, value in p.to_text().items() if key not in ("userid", "append")}
    await call.access.users.update(p.userid, changes, append=bool(p.append))


@branch.delete("/{userid}", UserName,
               check=("and", ("userid-param", "Realm.AllocateUser"), ("userid-group", ("User.Modify",))))  # fmt: skip
async def delete_user(call: Call, p: UserName) -> None:
    """Remove a user with tokens and grants."""
    await refuse_root(call, p.userid)
    await call.access.check_own_change(call.identity, p.userid)
    await call.access.delete_user(p.userid)


@branch.get("/{userid}/token", UserName, check=_OWN_OR_MODIFY, answer=list[TokenRow])
async def list_tokens(call: Call, p: UserName) -> list[dict[str, Any]]:
    """A user's tokens."""
    await call.access.users.get(p.userid)
    return [_token(token) for token in await call.access.tokens.list(p.userid)]


@branch.get("/{userid}/token/{tokenid}", TokenPath, check=_OWN_OR_MODIFY, answer=TokenInfo)
async def read_token(call: Call, p: TokenPath) -> dict[str, Any]:
    """A token; never its secret."""
    return _token(await call.access.tokens.get(p.userid, p.tokenid), named=False)


@branch.post("/{userid}/token/{tokenid}", TokenCreate, check=_OWN_OR_MODIFY, answer=NewToken)
async def create_token(call: Call, p: TokenCreate) -> dict[str, Any]:
    """Make a token; its secret is in the answer and never shown again."""
    await refuse_root(call, p.userid)
    await call.access.check_own_change(call.identity, p.userid)
    token, secret = await call.access.tokens.create(
        p.userid, p.tokenid, privsep=p.privsep is not False, expire=p.expire or 0, comment=p.comment
    )
    return {
        "full-tokenid": f"{p.userid}!{p.tokenid}",
        "info": _token(token, named=False),
        "value": secret,
    }


@branch.put("/{userid}/token/{tokenid}", TokenChange, check=_OWN_OR_MODIFY, answer=TokenInfo)
async def change_token(call: Call, p: TokenChange) -> dict[str, Any]:
    """Change a token's settings."""
    await refuse_root(call, p.userid)
    await call.access.check_own_change(call.identity, p.userid)
    changes: dict[str, Any] = {
        key: value for key, value in p.to_text().items() if key in ("comment", "expire", "privsep")
    }
    for key in split_list(p.delete or ""):
        if key not in _REMOVABLE:
            raise InvalidParameter({"delete": f"'{key[:40]}' cannot be deleted"})
        changes[key] = None if key == "comment" else 0
    return _token(await call.access.tokens.update(p.userid, p.tokenid, changes), named=False)


@branch.delete("/{userid}/token/{tokenid}", TokenPath, check=_OWN_OR_MODIFY)
async def delete_token(call: Call, p: TokenPath) -> None:
    """Remove a token and its grants."""
    await refuse_root(call, p.userid)
    await call.access.check_own_change(call.identity, p.userid)
    await call.access.delete_token(p.userid, p.tokenid)


def _shown(user: User) -> dict[str, Any]:
    row = {key: value for key, value in user.to_text().items() if key not in ("password", "groups")}
    return {**row, "realm-type": realm_of(user.userid)}


def _token(token: Token, *, named: bool = True) -> dict[str, Any]:
    row: dict[str, Any] = {"privsep": int(token.privsep), "expire": token.expire}
    if token.comment is not None:
        row["comment"] = token.comment
    return {"tokenid": token.tokenid, **row} if named else row
