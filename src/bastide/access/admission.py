"""Who comes in by what an OpenID provider says: the user's id, making a user where the realm allows it, and groups."""

import logging
from collections.abc import Iterable

from bastide.access.grants import Groups
from bastide.access.openid import Claims
from bastide.access.realms import Realms
from bastide.access.sync import group_name
from bastide.access.users import Users
from bastide.base.errors import AlreadyExists, AuthenticationFailed, NotFound
from bastide.model.access import User
from bastide.model.realm import Realm
from bastide.model.types import split_list

_NAMES = {"subject": "sub", "username": "preferred_username", "upn": "upn", "email": "email"}
"""Proxmox VE's names of some claims; others are called as the provider does."""

_log = logging.getLogger(__name__)


class Admission:
    """Turns a provider's word into a user of this host."""

    def __init__(self, users: Users, groups: Groups, realms: Realms) -> None:
        self._users = users
        self._groups = groups
        self._realms = realms

    async def admit(self, realm: Realm, claims: Claims) -> str:
        """The id of the user, with the groups that the provider says. Raises AuthenticationFailed, InvalidParameter."""
        userid = f"{_name(realm, claims)}@{realm.realm}"
        try:
            user = await self._users.get(userid)
        except NotFound:
            if not realm.autocreate:
                raise AuthenticationFailed(f"'{userid[:80]}' is no user here") from None
            user = await self._make(userid, claims)
        if realm.groups_claim is not None:
            await self._join(realm, user, claims.get(realm.groups_claim))
        return userid

    async def _make(self, userid: str, claims: Claims) -> User:
        keys = {"firstname": "given_name", "lastname": "family_name", "email": "email"}
        values = {ours: claims.get(theirs) for ours, theirs in keys.items()}
        user = User.parse({"userid": userid, **{key: text for key, text in values.items() if isinstance(text, str)}})
        await self._users.create(user)
        return user

    async def _join(self, realm: Realm, user: User, claimed: object) -> None:
        wanted = [claimed] if isinstance(claimed, str) else claimed
        names = await self._names(realm, wanted if isinstance(wanted, list) else [])
        present = split_list(user.groups or "")
        after = names if realm.groups_overwrite else list(dict.fromkeys([*present, *names]))
        if set(after) != set(present):
            await self._users.update(user.userid, {"groups": ",".join(after) or None})

    async def _names(self, realm: Realm, claimed: Iterable[object]) -> list[str]:
        """The groups that are here, or are made if the realm allows it."""
        realms = [other.realm for other in await self._realms.list()]
        present = {group.groupid for group in await self._groups.list()}
        names = []
        for one in claimed:
            try:
                name = group_name(realm.realm, str(one), realms)
            except ValueError as error:
                _log.warning("realm %s: a claimed group is left out: %s", realm.realm, error)
                continue
            if name not in present and realm.groups_autocreate:
                await self._create(name)
            elif name not in present:
                continue
            names.append(name)
        return names

    async def _create(self, name: str) -> None:
        try:
            await self._groups.create(name)
        except AlreadyExists:
            _log.debug("group %s: another login was faster", name)


def _name(realm: Realm, claims: Claims) -> str:
    """Who it is, in the claim that the realm names. Raises AuthenticationFailed."""
    claim = realm.username_claim or "sub"
    name = claims.get(_NAMES.get(claim, claim))
    if not isinstance(name, str) or not name:
        raise AuthenticationFailed(f"the provider does not say the claim '{claim}'")
    if _NAMES.get(claim, claim) == "email" and claims.get("email_verified") is False:
        raise AuthenticationFailed("the provider has not verified that address")
    return name
