"""Realms of the types `ldap` and `ad`: whether a password is right, and who is in the directory.

As Proxmox VE does it: an LDAP user's DN is searched for as the bind user (or nobody), and then bound as; Active
Directory takes `name@domain` for a DN. Which of the people found here may log in is the store's matter.
"""

import asyncio
import ipaddress
import logging
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bastide.access.realms import Realms
from bastide.base.errors import HostFailure, InvalidParameter, PermissionDenied
from bastide.host import ldap_filter
from bastide.host.download import Guard
from bastide.host.ldap import BASE, ENTRY_LIMIT, Directory, Found, Server, connected, tls_context
from bastide.model.realm import Realm

LOOPBACK = tuple(ipaddress.ip_network(text) for text in ("127.0.0.0/8", "::1/128"))
"""This host's own addresses, which a trusted realm may name."""

_USER_CLASSES = "inetorgperson,posixaccount,person,user"
_GROUP_CLASSES = "groupOfNames,group,univentionGroup,ipausergroup"
_MEMBERS = ("member", "uniqueMember")


AT_ONCE = 16
"""Logins of one realm that wait for its directory at a time: one that hangs holds up its own users alone."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in a directory: name without the realm, and what `sync_attributes` maps."""

    name: str
    dn: str
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Team:
    """A group in a directory: its name, and its members' DNs as `normal` writes them."""

    name: str
    members: frozenset[str]


class Directories:
    """Asks the directories of all realms whether passwords are right."""

    def __init__(self, realms: Realms) -> None:
        self._realms = realms
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    async def knows(self, realm: Realm, name: str, password: str) -> bool:
        """Whether the realm's directory knows the user with the password; no when it cannot be asked."""
        try:
            async with self._turns[realm.realm]:
                return await knows(realm, self._realms.secret(realm), name, password)
        except (HostFailure, InvalidParameter, PermissionDenied) as error:
            _log.warning("realm %s cannot be asked for a login: %s", realm.realm, error)
            return False


def guard_of(realm: Realm) -> Guard:
    """Where a realm's servers may be: in private networks, too, and on this host if the realm is trusted."""
    return Guard(private=True, networks=LOOPBACK if realm.trusted else ())


def normal(dn: str) -> str:
    """A DN for comparing: directories write the same one with other cases and spaces."""
    return re.sub(r"\s*(?<!\\)([,+=])\s*", r"\1", dn.strip()).casefold()


async def knows(realm: Realm, secret: str | None, name: str, password: str) -> bool:
    """Whether the directory knows the user with the password. Raises HostFailure when it cannot be asked."""
    if not name or not password:
        return False
    if realm.type == "ad":
        async with connected(_servers(realm)) as directory:
            return await directory.bind(name if "@" in name else f"{name}@{realm.domain}", password)
    async with _reading(realm, secret) as directory:
        wanted = ldap_filter.equals(_user_attribute(realm), name)
        found = await directory.search(realm.base_dn or "", wanted, limit=2)
        # Two of the name: neither can be told to be the user.
        return len(found) == 1 and await directory.bind(found[0].dn, password)


async def check(realm: Realm, secret: str | None) -> None:
    """Look whether the directory takes the bind user, and has the base. Raises HostFailure with the reason."""
    async with _reading(realm, secret) as directory:
        await directory.search(await _base(realm, directory), ldap_filter.present("objectClass"), scope=BASE)


async def people(realm: Realm, secret: str | None) -> list[Person]:
    """Everybody in the directory who is a user there. Raises HostFailure."""
    theirs = {ours: attribute.strip() for ours, attribute in _mapped(realm)}
    attribute = _user_attribute(realm)
    async with _reading(realm, secret) as directory:
        base = await _base(realm, directory)
        wanted = _wanted(realm.user_classes or _USER_CLASSES, realm.filter)
        found = await directory.search(base, wanted, (attribute, *theirs.values()))
    return [_person(entry, name, theirs) for entry in found if (name := entry.first(attribute)) is not None]


async def teams(realm: Realm, secret: str | None) -> list[Team]:
    """Every group in the directory. Raises HostFailure."""
    naming = realm.group_name_attr or "cn"
    async with _reading(realm, secret) as directory:
        base = realm.group_dn or await _base(realm, directory)
        wanted = _wanted(realm.group_classes or _GROUP_CLASSES, realm.group_filter)
        found = await directory.search(base, wanted, (naming, *_MEMBERS))
        return [
            Team(name, frozenset([normal(dn) for dn in await _members(directory, entry)]))
            for entry in found
            if (name := entry.first(naming)) is not None
        ]


async def _members(directory: Directory, entry: Found) -> Sequence[str]:
    """All members' DNs; Active Directory tells many of them in ranges (MS-ADTS, section 3.1.1.3.1.3.3)."""
    members = [dn for name in _MEMBERS for dn in entry.attributes.get(name.lower(), ())]
    at = 0
    while True:
        ranged = next((name for name in entry.attributes if name.startswith(f"member;range={at}-")), None)
        if ranged is None:
            return members
        members += entry.attributes[ranged]
        last = ranged.rpartition("-")[2]
        if not last.isdecimal():
            return members
        if not at <= int(last) < ENTRY_LIMIT:
            raise HostFailure(f"the members of '{entry.dn[:80]}' are too many, or told in no order")
        at = int(last) + 1
        more = await directory.search(
            entry.dn, ldap_filter.present("objectClass"), (f"member;range={at}-*",), scope=BASE
        )
        if len(more) != 1:
            raise HostFailure(f"the members of '{entry.dn[:80]}' cannot be read whole")
        entry = more[0]


@asynccontextmanager
async def _reading(realm: Realm, secret: str | None) -> AsyncIterator[Directory]:
    """A connection as the realm's bind user. Raises HostFailure, also when the bind user is not let in."""
    async with connected(_servers(realm)) as directory:
        if realm.bind_dn is None:
            await directory.bind_anonymously()
        elif not await directory.bind(realm.bind_dn, secret or ""):
            raise HostFailure(f"the directory of realm '{realm.realm}' refuses 'bind_dn' with its password")
        yield directory


def _servers(realm: Realm) -> list[Server]:
    mode = realm.mode or ("ldaps" if realm.secure else "ldap")
    port = realm.port or (636 if mode == "ldaps" else 389)
    context = None
    if mode != "ldap":
        context = tls_context(
            verify=bool(realm.verify),
            authorities=realm.capath,
            cert=realm.cert,
            key=realm.certkey,
            newest=realm.sslversion == "tlsv1_3",
        )
    return [
        Server(name, port, context, mode == "ldap+starttls", guard_of(realm))
        for name in (realm.server1, realm.server2)
        if name
    ]


def _user_attribute(realm: Realm) -> str:
    return realm.user_attr or "sAMAccountName"


def _mapped(realm: Realm) -> list[tuple[str, str]]:
    pairs = (part.strip().partition("=") for part in (realm.sync_attributes or "").split(",") if part)
    return [(ours, theirs) for ours, _, theirs in pairs]


async def _base(realm: Realm, directory: Directory) -> str:
    """Where users are; Active Directory says it where nobody else does."""
    if realm.base_dn:
        return realm.base_dn
    root = await directory.search("", ldap_filter.present("objectClass"), ("defaultNamingContext",), scope=BASE)
    base = root[0].first("defaultNamingContext") if root else None
    if base is None:
        raise HostFailure(f"the directory of realm '{realm.realm}' does not say its base: set 'base_dn'")
    return base


def _wanted(classes: str, written: str | None) -> bytes:
    either = ldap_filter.any_of(ldap_filter.equals("objectClass", name) for name in classes.split(","))
    return ldap_filter.all_of([either, *([ldap_filter.parse(written)] if written else [])])


def _person(entry: Found, name: str, theirs: Mapping[str, str]) -> Person:
    values = {ours: entry.first(attribute) for ours, attribute in theirs.items()}
    return Person(name, normal(entry.dn), {ours: value for ours, value in values.items() if value})
