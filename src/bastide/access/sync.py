"""What a sync of a realm changes: pure decisions about users and groups, as Proxmox VE makes them.

A group of the directory is the group `NAME-REALM` here; of its members, those of the realm are the directory's, and
users of other realms who were put into it stay. Users and groups of other realms are never touched.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bastide.access.directory import Person, Team
from bastide.base.errors import InvalidParameter
from bastide.model.access import User
from bastide.model.realm import MAPPED, Realm, SyncOptions
from bastide.model.types import split_list

_GROUP = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Present:
    """What is here: the realm's users by their ids, the names of all groups, and of all realms."""

    users: Mapping[str, User]
    groups: frozenset[str]
    realms: frozenset[str]


@dataclass(slots=True)
class SyncPlan:
    """What is to be done. `changes` are users' keys to change, `strip` users and groups that lose their grants."""

    new_groups: list[str] = field(default_factory=list)
    new_users: dict[str, User] = field(default_factory=dict)
    changes: dict[str, dict[str, str | None]] = field(default_factory=dict)
    drop_users: list[str] = field(default_factory=list)
    drop_groups: list[str] = field(default_factory=list)
    strip: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def options(realm: Realm, given: SyncOptions) -> SyncOptions:
    """What was asked for, completed by the realm's defaults. Raises InvalidParameter without a scope."""
    defaults = realm.sync_defaults_options or SyncOptions()
    chosen = {**defaults.to_text(), **given.to_text()}
    if "remove-vanished" not in chosen:
        parts = [*(["entry", "properties"] if chosen.get("full") else []), *(["acl"] if chosen.get("purge") else [])]
        chosen["remove-vanished"] = ";".join(parts) or "none"
    if "scope" not in chosen:
        raise InvalidParameter({"scope": "say users, groups or both: the realm's 'sync-defaults-options' say nothing"})
    return SyncOptions.parse(chosen)


def plan(
    realm: Realm, wanted: SyncOptions, people: Iterable[Person], teams: Sequence[Team] | None, present: Present
) -> SyncPlan:
    """What a sync changes; `teams` is None when groups are out of its scope.

    Raises InvalidParameter when everybody would be removed: a wrong base or filter is likelier than an empty house.
    """
    planner = _Planner(realm, wanted, present)
    planner.identify(people)
    if wanted.scope != "groups":
        planner.plan_users()
    if teams is not None:
        planner.plan_groups(teams)
    return planner.done


class _Planner:
    def __init__(self, realm: Realm, wanted: SyncOptions, present: Present) -> None:
        self.done = SyncPlan()
        self._realm = realm
        self._enable = wanted.enable_new is not False
        self._remove = frozenset(split_list(wanted.remove_vanished or ""))
        self._present = present
        self._who: dict[str, Person] = {}

    def identify(self, people: Iterable[Person]) -> None:
        """Find the ids that people have, or would have, here."""
        ids = self._present.users if self._realm.case_sensitive is False else ()
        folded = {userid.casefold(): userid for userid in ids}
        for person in people:
            userid = f"{person.name}@{self._realm.realm}"
            userid = folded.get(userid.casefold(), userid)
            try:
                User.parse({"userid": userid, **person.properties})
            except InvalidParameter as error:
                self._leave_out(person.dn, str(error))
                continue
            if userid in self._who:
                self._leave_out(person.dn, f"another entry is '{userid}' already")
            else:
                self._who[userid] = person

    def plan_users(self) -> None:
        """Users who are new, who changed, and who are gone. Raises InvalidParameter."""
        for userid, person in self._who.items():
            old = self._present.users.get(userid)
            if old is None:
                self.done.new_users[userid] = User.parse(
                    {"userid": userid, "enable": self._enable, **person.properties}
                )
            elif changes := self._changes(old, person):
                self.done.changes[userid] = changes
        vanished = sorted(self._present.users.keys() - self._who.keys())
        if "entry" in self._remove and vanished and not self._who:
            why = "the directory has no user, and all would be removed: look at the realm's base and filter"
            raise InvalidParameter({"remove-vanished": why})
        self._vanish(vanished, self.done.drop_users)

    def plan_groups(self, teams: Sequence[Team]) -> None:
        """Groups that are new and that are gone, and who is in which."""
        found = self._named(teams)
        known = self._present.groups
        own = {name for name in known if _realm_of(name, self._present.realms) == self._realm.realm}
        self.done.new_groups += sorted(found.keys() - known)
        self._vanish(sorted(own - found.keys()), self.done.drop_groups)
        theirs: dict[str, list[str]] = {}
        for name, members in sorted(found.items()):
            for dn in members:
                theirs.setdefault(dn, []).append(name)
        left = self._present.users.keys() - set(self.done.drop_users)
        for userid in sorted({*left, *self.done.new_users}):
            user = self.done.new_users.get(userid) or self._present.users[userid]
            now = split_list(user.groups or "")
            person = self._who.get(userid)
            belongs = theirs.get(person.dn, []) if person is not None else []
            after = [*(name for name in now if name not in found or name in belongs), *belongs]
            _put_into(userid, now, list(dict.fromkeys(after)), self.done)

    def _changes(self, old: User, person: Person) -> dict[str, str | None]:
        kept = () if "properties" in self._remove else MAPPED
        after = {key: person.properties.get(key, getattr(old, key) if key in kept else None) for key in MAPPED}
        return {key: value for key, value in after.items() if value != getattr(old, key)}

    def _vanish(self, names: Sequence[str], drop: list[str]) -> None:
        if "entry" in self._remove:
            drop += names  # with their grants, so that a later one of the name inherits none
        elif "acl" in self._remove:
            self.done.strip += names

    def _named(self, teams: Sequence[Team]) -> dict[str, frozenset[str]]:
        """The directory's groups by the names that they have here, with their members' DNs."""
        found: dict[str, frozenset[str]] = {}
        for team in teams:
            try:
                name = group_name(self._realm.realm, team.name, self._present.realms)
            except ValueError as error:
                self._leave_out(team.name, str(error))
                continue
            if name in found:
                self._leave_out(team.name, "another entry is that group already")
            else:
                found[name] = team.members
        return found

    def _leave_out(self, what: str, why: str) -> None:
        self.done.warnings.append(f"'{_plain(what)}' is left out: {_plain(why)}")


def _put_into(userid: str, now: Sequence[str], after: Sequence[str], done: SyncPlan) -> None:
    if set(now) == set(after):
        return
    text = ",".join(after)
    try:
        User.parse({"userid": userid, "groups": text})
    except InvalidParameter as error:
        done.warnings.append(f"the groups of '{userid}' stay as they are: {error}")
        return
    if userid in done.new_users:
        done.new_users[userid] = done.new_users[userid].model_copy(update={"groups": text})
    else:
        done.changes.setdefault(userid, {})["groups"] = text or None


def _named(realm: Realm, teams: Sequence[Team], present: Present, done: SyncPlan) -> dict[str, frozenset[str]]:
    """The directory's groups by the names that they have here, with their members' DNs."""
    found: dict[str, frozenset[str]] = {}
    for team in teams:
        name = f"{team.name}-{realm.realm}"
        if _GROUP.fullmatch(name) is None:
            done.warnings.append(
                f"the group '{_plain(team.name)}' is left out: use letters, digits, ., _ and -, at most 64"
            )
        elif name in found or _realm_of(name, present.realms) != realm.realm:
            done.warnings.append(f"the group '{team.name}' is left out: '{name}' is another one's name")
        else:
            found[name] = team.members
    return found


def group_name(realm: str, name: str, realms: Iterable[str]) -> str:
    """What a realm's group is called here. Raises ValueError with the reason why it cannot be a group."""
    group = f"{name}-{realm}"
    if _GROUP.fullmatch(group) is None:
        raise ValueError("in a group's name are letters, digits, ., _ and -, at most 64")
    if _realm_of(group, realms) != realm:
        raise ValueError(f"the group '{group}' is another realm's")
    return group


def _realm_of(group: str, realms: Iterable[str]) -> str | None:
    """The realm that a group's name ends with: of `b` and `a-b`, the group `x-a-b` is the latter's."""
    return max((realm for realm in realms if group.endswith(f"-{realm}")), key=len, default=None)


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:200]
