"""Groups, roles and the access control list."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from bastide.access.authority import normalize_path
from bastide.access.records import change, from_entry, to_json
from bastide.access.roles import BUILTIN_ROLES, PRIVILEGES
from bastide.access.users import Tokens, Users
from bastide.base.errors import AlreadyExists, Conflict, InvalidParameter, NotFound, WrongState
from bastide.model.access import Grant, User
from bastide.model.record import Multiline, forbidden_character
from bastide.model.types import split_list
from bastide.state.store import ABSENT, Store

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_PATHS = re.compile(
    r"/|/access(/groups(/[A-Za-z0-9._-]+)?|/realm(/[A-Za-z0-9._-]+)?)?|/nodes(/[A-Za-z0-9.-]+)?"
    r"|/pool(/[A-Za-z0-9._-]+){0,3}|/sdn(/[a-z]+(/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+(/\d{1,4})?)?)?)?"
    r"|/storage(/[A-Za-z0-9._-]+)?|/vms(/[1-9][0-9]{2,8})?|/mapping(/[a-z]+(/[A-Za-z0-9._-]+)?)?",
    re.ASCII,
)
_Grants = list[Grant]


@dataclass(frozen=True, slots=True)
class Group:
    """A group; its members are the users that name it."""

    groupid: str
    comment: str | None = None
    members: tuple[str, ...] = ()


_Groups = list[Group]


class Groups:
    """Groups of users."""

    def __init__(self, store: Store, users: Users) -> None:
        self._store = store
        self._users = users

    async def list(self) -> _Groups:
        """All groups with their members, in order of their names."""
        members: dict[str, list[str]] = {}
        for user in await self._users.list():
            for name in split_list(user.groups or ""):
                members.setdefault(name, []).append(user.userid)
        return [
            Group(name, json.loads(entry.value).get("comment"), tuple(members.get(name, ())))
            for entry in await self._store.list("group/")
            for name in [entry.key.removeprefix("group/")]
        ]

    async def get(self, groupid: str) -> Group:
        """One group. Raises NotFound."""
        for group in await self.list():
            if group.groupid == groupid:
                return group
        raise NotFound(f"group '{groupid[:80]}' does not exist")

    async def create(self, groupid: str, comment: str | None = None) -> None:
        """Make an empty group. Raises AlreadyExists, InvalidParameter."""
        _check_name("groupid", groupid)
        try:
            await self._store.put(f"group/{groupid}", _comment(comment), ABSENT)
        except Conflict:
            raise AlreadyExists(f"group '{groupid}' already exists") from None

    async def update(self, groupid: str, comment: str | None) -> None:
        """Change the comment. Raises NotFound, InvalidParameter."""
        await self.get(groupid)
        await self._store.put(f"group/{groupid}", _comment(comment))

    async def delete(self, groupid: str) -> None:
        """Remove a group, its grants and its place in its members. Raises NotFound."""
        group = await self.get(groupid)

        def step(user: User) -> User:
            left = [name for name in split_list(user.groups or "") if name != groupid]
            return user.model_copy(update={"groups": ",".join(left) or None})

        for userid in group.members:
            await change(self._store, f"user/{userid}", User, step, f"no such user ('{userid}')")
        await self._store.delete(f"group/{groupid}")


class Roles:
    """The roles: Proxmox VE's own, which never change, and those that were made here."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self) -> dict[str, frozenset[str]]:
        """Every role's privileges."""
        own = {
            entry.key.removeprefix("role/"): frozenset(json.loads(entry.value))
            for entry in await self._store.list("role/")
        }
        return {**own, **BUILTIN_ROLES}

    async def get(self, roleid: str) -> frozenset[str]:
        """A role's privileges. Raises NotFound."""
        roles = await self.list()
        if roleid not in roles:
            raise NotFound(f"role '{roleid[:80]}' does not exist")
        return roles[roleid]

    async def create(self, roleid: str, privileges: Iterable[str] = ()) -> None:
        """Make a role. Raises AlreadyExists, InvalidParameter for a name or privilege that cannot be."""
        _check_name("roleid", roleid)
        if roleid.startswith("PVE"):
            raise InvalidParameter({"roleid": "role IDs beginning with PVE are kept for the built-in roles"})
        privileges = _check_privileges(privileges)
        if roleid in BUILTIN_ROLES:
            raise AlreadyExists(f"role '{roleid}' already exists")
        try:
            await self._store.put(f"role/{roleid}", json.dumps(privileges), ABSENT)
        except Conflict:
            raise AlreadyExists(f"role '{roleid}' already exists") from None

    async def update(self, roleid: str, privileges: Iterable[str], *, append: bool = False) -> None:
        """Replace or extend a role's privileges. Raises NotFound, WrongState for a built-in role, InvalidParameter."""
        old = await self.get(roleid)
        _refuse_builtin(roleid)
        new = _check_privileges(privileges)
        await self._store.put(f"role/{roleid}", json.dumps(sorted({*new, *old}) if append else new))

    async def delete(self, roleid: str) -> None:
        """Remove a role and the grants of it. Raises NotFound, WrongState for a built-in role."""
        await self.get(roleid)
        _refuse_builtin(roleid)
        await self._store.delete(f"role/{roleid}")


class Grants:
    """The access control list."""

    def __init__(self, store: Store, users: Users, tokens: Tokens, groups: Groups, roles: Roles) -> None:
        self._store = store
        self._users = users
        self._tokens = tokens
        self._groups = groups
        self._roles = roles

    async def list(self) -> _Grants:
        """All grants, by path, subject and role."""
        grants = [from_entry(Grant, entry) for entry in await self._store.list("grant/")]
        return sorted(grants, key=lambda grant: (grant.path, grant.subject, grant.role))

    async def set(
        self,
        path: str,
        roles: Iterable[str],
        *,
        users: Iterable[str] = (),
        groups: Iterable[str] = (),
        tokens: Iterable[str] = (),
        propagate: bool = True,
        delete: bool = False,
    ) -> None:
        """Give roles on a path to users, groups and tokens, or take them away with `delete`.

        Raises InvalidParameter for a path that cannot be, NotFound for a role or subject that is not there.
        """
        grants = [
            Grant(path=_check_path(path), subject=subject, kind=kind, role=role, propagate=propagate)
            for kind, subjects in (("user", users), ("group", groups), ("token", tokens))
            for subject in subjects
            for role in roles
        ]
        if not grants:
            why = "either 'users', 'groups' or 'tokens' is required."
            raise InvalidParameter({"users": why, "groups": why, "tokens": why})
        if delete:
            for grant in grants:
                await self._store.delete(_key(grant))
            return
        for grant in grants:
            await self._check_there(grant)
        for grant in grants:
            await self._store.put(_key(grant), to_json(grant))

    async def forget(self, *, path: str | None = None, subject: str | None = None, role: str | None = None) -> None:
        """Remove every grant on a path, of a subject (with a user's tokens) or with a role that is gone."""
        if path is not None:
            await forget_path(self._store, path)
        for grant in await self.list():
            if (
                subject is not None and (grant.subject == subject or grant.subject.startswith(f"{subject}!"))
            ) or grant.role == role:
                await self._store.delete(_key(grant))

    async def _check_there(self, grant: Grant) -> None:
        await self._roles.get(grant.role)
        if grant.kind == "user":
            await self._users.get(grant.subject)
        elif grant.kind == "group":
            await self._groups.get(grant.subject)
        else:
            userid, _, name = grant.subject.partition("!")
            await self._tokens.get(userid, name)


async def forget_path(store: Store, path: str) -> None:
    """Remove every grant on a path whose guest, storage or pool is gone: the next of that name inherits none."""
    for entry in await store.list("grant/"):
        if from_entry(Grant, entry).path == path:
            await store.delete(entry.key)


def _key(grant: Grant) -> str:
    text = "\0".join((grant.path, grant.kind, grant.subject, grant.role))
    return f"grant/{hashlib.sha256(text.encode()).hexdigest()}"


def _check_path(path: str) -> str:
    normal = normalize_path(path)
    if normal is None or _PATHS.fullmatch(normal) is None:
        raise InvalidParameter({"path": f"invalid ACL path '{path[:80]}'"})
    return normal


def _check_name(parameter: str, name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise InvalidParameter({parameter: "use letters, digits, ., _ and -, at most 64"})


def _check_privileges(privileges: Iterable[str]) -> list[str]:
    wanted = sorted(set(privileges))
    for name in wanted:
        if name not in PRIVILEGES:
            raise InvalidParameter({"privs": f"invalid privilege '{name[:60]}'"})
    return wanted


def _refuse_builtin(roleid: str) -> None:
    if roleid in BUILTIN_ROLES:
        raise WrongState(f"auto-generated role '{roleid}' cannot be modified")


def _comment(comment: str | None) -> str:
    char = forbidden_character(comment or "", Multiline())
    if char is not None:
        raise InvalidParameter({"comment": f"control character {char} is not allowed"})
    return json.dumps({"comment": comment} if comment else {})
