"""Access control: who somebody is, and what they may do. Joins the parts of this room; everything is awaited."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from bastide.access.admission import Admission
from bastide.access.authority import Authority, denied, normalize_path
from bastide.access.directory import Directories
from bastide.access.factors import FactorBook
from bastide.access.grants import Grants, Groups, Roles
from bastide.access.keys import SigningKeys
from bastide.access.openid import OpenId
from bastide.access.passwords import Passwords, is_outdated, usable
from bastide.access.realms import Realms, is_realm
from bastide.access.sealing import Seal
from bastide.access.second_step import HalfLogin, SecondStep
from bastide.access.throttle import Throttle
from bastide.access.tickets import ConsoleTickets, Tickets
from bastide.access.users import Tokens, Users, is_active, realm_of
from bastide.access.webauthn import Site
from bastide.base.errors import AuthenticationFailed, BastideError, NotFound, Unreadable
from bastide.base.layout import Layout
from bastide.model.access import Grant, Identity, User
from bastide.model.realm import Realm
from bastide.state.store import Entry, Store

PACE = 1.0
"""Seconds after which a failed login is answered, whatever the reason."""

PACE_OF_OTHERS = 3.5
"""The same where others say no: PAM's modules take up to three seconds for it, directories their own time."""

_log = logging.getLogger(__name__)
_PREFIXES = ("user/", "token/", "group/", "role/", "grant/", "pool/")


class Access:
    """The access control of one node. Lists, and changes, are in `users`, `tokens`, `groups`, `roles`, `grants`."""

    def __init__(self, store: Store, node: str, layout: Layout, *, pace: float | None = None) -> None:
        """`pace` replaces both paces of failed logins, for tests."""
        self._store = store
        self._node = node
        self._pace = pace
        self._passwords = Passwords()
        self._throttle = Throttle()
        # Of its own: whoever knows the password would otherwise be forgiven with each first step.
        self._second_throttle = Throttle()
        self._tickets = Tickets(SigningKeys(layout.state / "access" / "tickets.key"))
        seal = Seal(layout.state / "access" / "factors.key")
        self.factors = FactorBook(store, seal)
        self._second = SecondStep(store, self._tickets, seal)
        self._consoles = ConsoleTickets()
        self._authority: tuple[list[tuple[int, int]], Authority] | None = None
        self.realms = Realms(store, layout)
        self._directories = Directories(self.realms)
        self.users = Users(store, self._passwords)
        self.tokens = Tokens(store, self.users)
        self.groups = Groups(store, self.users)
        self.roles = Roles(store)
        self.grants = Grants(store, self.users, self.tokens, self.groups, self.roles)
        self.openid = OpenId(self.realms)
        self._admission = Admission(self.users, self.groups, self.realms)

    async def log_in(
        self, userid: str, password: str, address: str = "", *, site: Site | None = None, challenge: str | None = None
    ) -> Identity | HalfLogin:
        """Who logs in, or the question for a second factor; with its `challenge`, `password` is the answer to it.

        A ticket as the password renews it, without a second factor. `address` is the caller's, for throttling, `site`
        whom security keys are for. Raises AuthenticationFailed, always after the same time and with the same words,
        whether the user is unknown, disabled, throttled, or the password or answer is wrong.
        """
        userid = await self._as_stored(userid)
        if challenge is not None:
            return await self.answer(userid, challenge, password, address, site)
        if await self._is_own_ticket(userid, password):
            return Identity(userid)
        identity = await self.authenticate(userid, password, address)
        return await self._second.ask(identity.userid, site) or identity

    async def authenticate(self, userid: str, password: str, address: str = "") -> Identity:
        """Whose password it is; a ticket is none. Raises AuthenticationFailed as `log_in` does."""

        async def knows() -> bool:
            return await self._knows(userid, password)

        return await self._paced(self._throttle, userid, address, knows)

    async def answer(
        self, userid: str, challenge: str, answer: str, address: str = "", site: Site | None = None
    ) -> Identity:
        """Who answers to a second factor's challenge. Raises AuthenticationFailed as `log_in` does."""

        async def knows() -> bool:
            if await self._active_user(userid) is None:
                return False
            try:
                await self._second.answer(userid, challenge, answer, site)
            except AuthenticationFailed:
                return False
            return True

        return await self._paced(self._second_throttle, userid, address, knows)

    async def log_in_by_openid(
        self, state: str, code: str, redirect: str, address: str = "", site: Site | None = None
    ) -> Identity | HalfLogin:
        """Who comes back from an OpenID provider, or the question for a second factor.

        Raises AuthenticationFailed at the pace of failures; the reason is in the daemon's log.
        """
        found: list[str] = []

        async def knows() -> bool:
            try:
                userid = await self._admission.admit(*await self.openid.finish(state, code, redirect))
            except BastideError as error:
                _log.warning("a login by OpenID failed: %s", error)
                return False
            if await self._active_user(userid) is not None:
                found.append(userid)
            return bool(found)

        await self._paced(self._throttle, f"@{self.openid.realm_of(state)}", address, knows)
        return await self._second.ask(found[0], site) or Identity(found[0])

    async def issue_ticket(self, userid: str) -> tuple[str, str]:
        """A ticket and its CSRF prevention token, for a user who has logged in."""
        return self._tickets.issue(userid)

    async def verify_ticket(self, ticket: str) -> Identity:
        """Who has the ticket. Raises AuthenticationFailed, also for a user who is gone, disabled or expired."""
        userid = self._tickets.verify(ticket)
        if await self._active_user(userid) is None:
            raise AuthenticationFailed("permission denied - invalid PVE ticket")
        return Identity(userid)

    async def verify_csrf(self, token: str, userid: str) -> None:
        """Raise AuthenticationFailed unless the CSRF prevention token is the user's."""
        self._tickets.verify_csrf(token, userid)

    async def verify_token(self, text: str) -> Identity:
        """Who has the API token `user@realm!name=secret`. Raises AuthenticationFailed."""
        return await self.tokens.verify(text)

    async def issue_console_ticket(self, identity: Identity, path: str, port: int) -> str:
        """A console's ticket (`PVEVNC:...`) for one path, caller and port: one use within half a minute."""
        return self._consoles.issue(str(identity), path, port)

    async def use_console_ticket(self, ticket: str, identity: Identity, path: str, port: int) -> None:
        """Use up a console's ticket. Raises AuthenticationFailed when it is not for exactly this."""
        self._consoles.use(ticket, str(identity), path, port)

    async def look_at_console_ticket(self, ticket: str, identity: Identity, path: str, port: int | None = None) -> None:
        """Verify a console's ticket without using it up. Raises AuthenticationFailed."""
        self._consoles.look(ticket, str(identity), path, port)

    async def authority(self) -> Authority:
        """Everybody's rights at this moment; one snapshot decides thousands of paths without waiting."""
        entries = [await self._store.list(prefix) for prefix in _PREFIXES]
        # Revisions only grow, so a change of any entry shows in the newest one or in their number.
        print_ = [(len(part), max((entry.revision for entry in part), default=0)) for part in entries]
        if self._authority is None or self._authority[0] != print_:
            self._authority = (print_, await self._build(entries[-1]))
        return self._authority[1]

    async def permissions(self, identity: Identity, path: str) -> Mapping[str, bool]:
        """The privileges on a path, each with whether it reaches what lies below."""
        return (await self.authority()).permissions(identity, normalize_path(path) or path)

    async def check(
        self,
        identity: Identity,
        path: str,
        privs: Sequence[str],
        any: bool = False,  # noqa: A002 - the reference's word
    ) -> None:
        """Raise PermissionDenied unless the caller has all (or any) of the privileges on the path."""
        (await self.authority()).check(identity, normalize_path(path) or path, privs, any=any)

    async def check_own_change(self, by: Identity, userid: str) -> None:
        """Refuse a token with privilege separation that would change its own user, tokens or grants."""
        if by.token is not None and by.userid == userid:
            token = (await self.authority()).tokens.get(str(by))
            if token is None or token.privsep:
                raise denied(f"/access/users/{userid}", ("User.Modify",))

    async def check_grant(self, by: Identity, path: str, roles: Iterable[str], *, propagate: bool = True) -> None:
        """Refuse to hand out more than one has, for a caller who may grant without `Permissions.Modify`."""
        authority = await self.authority()
        held = authority.permissions(by, normalize_path(path) or path)
        if "Permissions.Modify" in held:
            return
        for role in roles:
            for privilege in sorted(authority.roles.get(role, ())):
                if privilege not in held or (propagate and not held[privilege]):
                    raise denied(path, (privilege,))

    async def delete_user(self, userid: str) -> None:
        """Remove a user, their tokens, grants and second factors. Raises NotFound, WrongState for root@pam."""
        await self.users.get(userid)
        await self.grants.forget(subject=userid)
        await self.users.delete(userid)
        await self.factors.forget(userid)

    async def delete_token(self, userid: str, name: str) -> None:
        """Remove a token and its grants. Raises NotFound."""
        await self.tokens.get(userid, name)
        await self.grants.forget(subject=f"{userid}!{name}")
        await self.tokens.delete(userid, name)

    async def delete_group(self, groupid: str) -> None:
        """Remove a group and its grants. Raises NotFound."""
        await self.groups.get(groupid)
        await self.grants.forget(subject=groupid)
        await self.groups.delete(groupid)

    async def delete_role(self, roleid: str) -> None:
        """Remove a role and the grants of it. Raises NotFound, WrongState for a built-in role."""
        await self.roles.delete(roleid)
        await self.grants.forget(role=roleid)

    async def close(self) -> None:
        """Let the password threads end."""
        self._passwords.close()

    async def _paced(
        self, throttle: Throttle, userid: str, address: str, knows: Callable[[], Awaitable[bool]]
    ) -> Identity:
        """Who knows, at the pace of failures, and one attempt after the other. Raises AuthenticationFailed."""
        async with throttle.turn(userid, address):
            begun = asyncio.get_running_loop().time()
            if not (early := throttle.blocked(userid, address)):
                if await knows():
                    throttle.succeeded(userid, address)
                    return Identity(userid)
                throttle.failed(userid, address)
                await self._keep_pace(userid, begun)
        if early:
            await self._keep_pace(userid, begun)
        raise AuthenticationFailed("authentication failure")

    async def _keep_pace(self, userid: str, begun: float) -> None:
        pace = PACE if realm_of(userid) == "pve" else PACE_OF_OTHERS
        await asyncio.sleep(begun + (pace if self._pace is None else self._pace) - asyncio.get_running_loop().time())

    async def _is_own_ticket(self, userid: str, password: str) -> bool:
        if not password.startswith("PVE:"):
            return False
        try:
            return (await self.verify_ticket(password)).userid == userid
        except AuthenticationFailed:
            return False

    async def _knows(self, userid: str, password: str) -> bool:
        """Whether the password is right and the user may log in. Takes as long for users that are not there."""
        user = await self._active_user(userid)
        if not usable(password):
            return False
        if user is not None and realm_of(userid) == "pam":
            return await self._passwords.verify_system(userid.rpartition("@")[0], password)
        realm = await self._realm(userid)
        if user is not None and realm is not None and realm.is_directory:
            return await self._directories.knows(realm, userid.rpartition("@")[0], password)
        stored = user.password if user is not None and realm_of(userid) == "pve" else None
        if not await self._passwords.verify_hash(stored, password):
            return False
        if stored is not None and is_outdated(stored):
            try:
                await self.users.set_hash(userid, await self._passwords.hash(password))
            except BastideError:
                return True
        return True

    async def _active_user(self, userid: str) -> User | None:
        try:
            user = await self.users.stored(userid)
        except (NotFound, Unreadable, ValueError):
            return None
        return user if is_active(user) and await is_realm(self._store, realm_of(userid)) else None

    async def _realm(self, userid: str) -> Realm | None:
        try:
            return await self.realms.get(realm_of(userid))
        except NotFound:
            return None

    async def _as_stored(self, userid: str) -> str:
        """The user's id as it is stored, in realms whose names mean the same in other cases; unless two are meant."""
        realm = await self._realm(userid)
        if realm is None or realm.case_sensitive is not False:
            return userid
        users = await self.users.list()
        same = [
            user.userid
            for user in users
            if realm_of(user.userid) == realm.realm and user.userid.casefold() == userid.casefold()
        ]
        return same[0] if len(same) == 1 else userid

    async def _build(self, pools: Iterable[Entry]) -> Authority:
        members: dict[str, tuple[str, ...]] = {}
        for entry in pools:
            raw = json.loads(entry.value)
            paths = [f"/vms/{vmid}" for vmid in raw.get("guests", ())]
            paths += [f"/storage/{name}" for name in raw.get("storages", ())]
            for path in paths:
                members[path] = (*members.get(path, ()), f"/{entry.key}")
        grants: list[Grant] = await self.grants.list()
        return Authority(
            users={user.userid: user for user in await self.users.list()},
            tokens={f"{token.userid}!{token.tokenid}": token for token in await self.tokens.list()},
            groups={group.groupid: frozenset(group.members) for group in await self.groups.list()},
            roles=await self.roles.list(),
            grants=grants,
            pools=members,
        )
