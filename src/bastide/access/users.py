"""Users and their API tokens. Hashes of passwords and secrets never leave this module's records."""

import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from bastide.access.passwords import PASSWORD_LIMIT, Passwords, usable
from bastide.access.realms import is_realm
from bastide.access.records import change, changed, from_entry, to_json
from bastide.base.errors import (
    AlreadyExists,
    AuthenticationFailed,
    Conflict,
    InvalidParameter,
    NotFound,
    NotSupported,
    Unreadable,
    WrongState,
)
from bastide.model.access import ROOT, Identity, Token, User
from bastide.model.types import split_list
from bastide.state.store import ABSENT, Store

_MIN_PASSWORD = 8
_TOKEN = re.compile(r"(?P<userid>[^\s:/!=]{1,64})!(?P<name>[A-Za-z][A-Za-z0-9._-]{0,63})=(?P<secret>\S{1,128})")
_Users = list[User]
_Tokens = list[Token]


def realm_of(userid: str) -> str:
    """`pve` of `ada@pve`."""
    return userid.rpartition("@")[2]


def is_active(record: User | Token, now: float | None = None) -> bool:
    """Whether a user or token may be used: enabled and not expired."""
    enabled = record.enable if isinstance(record, User) else True
    return enabled and (record.expire == 0 or record.expire > (time.time() if now is None else now))


class Users:
    """The users. `root@pam` is always there. Records that are given out hold no password hash."""

    def __init__(self, store: Store, passwords: Passwords) -> None:
        self._store = store
        self._passwords = passwords
        # By their keys, with the revision that was read: a directory's ten thousand are parsed once.
        self._parsed: dict[str, tuple[int, User]] = {}

    async def list(self) -> _Users:
        """All users, in order of their ids."""
        before = self._parsed
        self._parsed = {
            entry.key: known
            if (known := before.get(entry.key)) is not None and known[0] == entry.revision
            else (entry.revision, _shown(from_entry(User, entry)))
            for entry in await self._store.list("user/")
        }
        users = {user.userid: user for _, user in self._parsed.values()}
        users.setdefault(ROOT.userid, User(userid=ROOT.userid))
        return [users[userid] for userid in sorted(users)]

    async def get(self, userid: str) -> User:
        """One user. Raises NotFound."""
        return _shown(await self.stored(userid))

    async def create(self, user: User, password: str | None = None) -> None:
        """Make a user. Raises AlreadyExists, NotFound for a realm or group, InvalidParameter for the password."""
        if not await is_realm(self._store, realm_of(user.userid)):
            raise NotFound(f"domain '{realm_of(user.userid)}' does not exist")
        if not user.userid.isprintable():
            raise InvalidParameter({"userid": "only printable characters can stand in a user id"})
        user = await self._with_groups(user.model_copy(update={"password": None}))
        if password is not None:
            user = user.model_copy(update={"password": await self._hash(user.userid, password)})
        if user.userid == ROOT.userid and await self._store.get(f"user/{user.userid}") is None:
            raise AlreadyExists(f"create user failed: user '{user.userid}' already exists")
        if await self._store.get(f"user/{user.userid}") is None:
            await self._store.delete(f"factor/{user.userid}")  # of one whose removal was cut short
        try:
            await self._store.put(f"user/{user.userid}", to_json(user), ABSENT)
        except Conflict:
            raise AlreadyExists(f"create user failed: user '{user.userid}' already exists") from None

    async def update(self, userid: str, changes: Mapping[str, Any], *, append: bool = False) -> User:
        """Change a user's keys; `append` adds the groups; None unsets. Raises NotFound, InvalidParameter."""
        await self._keep_root(userid)

        def step(user: User) -> User:
            new = dict(changes)
            if append and new.get("groups") is not None:
                new["groups"] = f"{user.groups or ''},{new['groups']}"
            return changed(user, {**new, "userid": userid, "password": user.password})

        await self._with_groups(step(await self.stored(userid)))
        return _shown(await change(self._store, f"user/{userid}", User, lambda u: _tidy(step(u)), _no_user(userid)))

    async def delete(self, userid: str) -> None:
        """Remove a user with their tokens and grants, so that a later user of the name inherits nothing.

        Raises NotFound, WrongState for root@pam.
        """
        await self.stored(userid)
        if userid == ROOT.userid:
            raise WrongState(f"delete user failed: '{userid}' is always needed")
        for entry in await self._store.list(f"token/{userid}!"):
            await self._store.delete(entry.key)
        await self._store.delete(f"user/{userid}")

    async def set_password(self, userid: str, password: str) -> None:
        """Set a password of the realm `pve`. Raises NotFound, NotSupported for other realms, InvalidParameter."""
        await self.stored(userid)
        hashed = await self._hash(userid, password)
        await self.set_hash(userid, hashed)

    async def set_hash(self, userid: str, hashed: str) -> None:
        """Replace the stored hash. Raises NotFound."""
        await change(
            self._store,
            f"user/{userid}",
            User,
            lambda user: user.model_copy(update={"password": hashed}),
            _no_user(userid),
        )

    async def stored(self, userid: str) -> User:
        """The record with its password hash, for `Access` alone. Raises NotFound."""
        entry = await self._store.get(f"user/{userid}") if 0 < len(userid) <= 64 else None
        if entry is not None:
            return from_entry(User, entry)
        if userid == ROOT.userid:
            return User(userid=userid)
        raise NotFound(_no_user(userid))

    async def _hash(self, userid: str, password: str) -> str:
        if realm_of(userid) == "pam":
            raise NotSupported(f"the password of {userid} is the system's: change it with passwd on the host")
        if realm_of(userid) != "pve":
            raise NotSupported(f"the password of {userid} is kept by its realm: change it there")
        if len(password) < _MIN_PASSWORD or not usable(password):
            why = f"a password has at least {_MIN_PASSWORD} characters, at most {PASSWORD_LIMIT} bytes, and no NUL"
            raise InvalidParameter({"password": why})
        return await self._passwords.hash(password)

    async def _keep_root(self, userid: str) -> None:
        """root@pam has no record until something of it is changed."""
        if userid == ROOT.userid and await self._store.get(f"user/{userid}") is None:
            await self._store.put(f"user/{userid}", to_json(User(userid=userid)))

    async def _with_groups(self, user: User) -> User:
        for name in split_list(user.groups or ""):
            if await self._store.get(f"group/{name}") is None:
                raise NotFound(f"no such group '{name}'")
        return _tidy(user)


class Tokens:
    """API tokens. Records that are given out hold no hash of the secret."""

    def __init__(self, store: Store, users: Users) -> None:
        self._store = store
        self._users = users

    async def list(self, userid: str | None = None) -> _Tokens:
        """The tokens of a user, or all of them."""
        prefix = "token/" if userid is None else f"token/{userid}!"
        return [_without_secret(from_entry(Token, entry)) for entry in await self._store.list(prefix)]

    async def get(self, userid: str, name: str) -> Token:
        """One token. Raises NotFound."""
        entry = await self._store.get(f"token/{userid}!{name}")
        if entry is None:
            raise NotFound(_no_token(userid, name))
        return _without_secret(from_entry(Token, entry))

    async def create(
        self, userid: str, name: str, *, privsep: bool = True, expire: int = 0, comment: str | None = None
    ) -> tuple[Token, str]:
        """Make a token; returns it and its secret, which is shown this once.

        Raises NotFound for the user, AlreadyExists, InvalidParameter.
        """
        await self._users.get(userid)
        secret = str(uuid.uuid4())
        values = {"userid": userid, "tokenid": name, "privsep": privsep, "expire": expire, "comment": comment}
        token = Token.parse({**values, "secret": _digest(secret)})
        try:
            await self._store.put(f"token/{userid}!{name}", to_json(token), ABSENT)
        except Conflict:
            raise AlreadyExists(f"Token already exists: '{userid}!{name}'") from None
        return _without_secret(token), secret

    async def update(self, userid: str, name: str, changes: Mapping[str, Any]) -> Token:
        """Change `privsep`, `expire`, `comment`. Raises NotFound, InvalidParameter."""

        def step(token: Token) -> Token:
            kept = {"userid": userid, "tokenid": name, "secret": token.secret}
            return changed(token, {**changes, **kept})

        return _without_secret(
            await change(self._store, f"token/{userid}!{name}", Token, step, _no_token(userid, name))
        )

    async def delete(self, userid: str, name: str) -> None:
        """Remove a token. Raises NotFound."""
        await self.get(userid, name)
        await self._store.delete(f"token/{userid}!{name}")

    async def verify(self, text: str) -> Identity:
        """Who has the token `user@realm!name=secret`. Raises AuthenticationFailed; the secret is compared at a pace."""
        match = _TOKEN.fullmatch(text)
        if match is None:
            raise AuthenticationFailed("invalid token value")
        identity = Identity(match["userid"], match["name"])
        try:
            entry = await self._store.get(f"token/{identity}")
        except Unreadable:
            entry = None
        token = from_entry(Token, entry) if entry else None
        right = hmac.compare_digest(_digest(match["secret"]), token.secret if token else _digest(""))
        if not right or token is None:
            raise AuthenticationFailed("invalid token value")
        if not is_active(token):
            raise AuthenticationFailed("token expired")
        try:
            user = await self._users.get(identity.userid)
        except (NotFound, Unreadable):
            raise AuthenticationFailed("no such user") from None
        if not is_active(user) or not await is_realm(self._store, realm_of(user.userid)):
            raise AuthenticationFailed("user is disabled or expired")
        return identity


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _shown(user: User) -> User:
    # What an older form of second factors is made of is a secret; Proxmox VE writes `x` for somebody who has some.
    return user.model_copy(update={"password": None, "keys": "x" if user.keys else None})


def _without_secret(token: Token) -> Token:
    return token.model_copy(update={"secret": ""})


def _tidy(user: User) -> User:
    return user.model_copy(update={"groups": ",".join(dict.fromkeys(split_list(user.groups or ""))) or None})


def _no_user(userid: str) -> str:
    return f"no such user ('{userid[:80]}')"


def _no_token(userid: str, name: str) -> str:
    return f"no such token '{name[:80]}' for user '{userid[:80]}'"
