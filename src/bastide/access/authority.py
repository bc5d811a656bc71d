"""What everybody may do: one moment's users, tokens, groups, roles and grants, and the decisions that follow.

Pure and synchronous, so that a list of thousands of guests is filtered with one `Authority`. The rules are Proxmox
VE's: along a path the most specific level with a grant wins; on one level a user's (or token's) own grant wins over
those of groups; a grant that does not propagate counts only on its own path; `NoAccess` beats other roles of its
level; a pool's grants come on top of its members' own paths; a token with privilege separation has what both it and
its user have.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from bastide.access.roles import NO_ACCESS, PRIVILEGES
from bastide.base.errors import PermissionDenied
from bastide.model.access import ROOT, Grant, Identity, Token, User

_PATH = re.compile(r"/|(/[A-Za-z0-9._@+:-]+)+", re.ASCII)
_CACHE_LIMIT = 20_000
_EVERYTHING: Mapping[str, bool] = MappingProxyType(dict.fromkeys(PRIVILEGES, True))

Levels = Mapping[str, Mapping[str, bool]]
"""On one path: subject -> role -> whether it propagates."""


def normalize_path(path: str) -> str | None:
    """The path with single slashes and none at its end, or None when it is no path of the access tree."""
    if not path.startswith("/"):
        return None
    path = re.sub(r"/+", "/", path).rstrip("/") or "/"
    return path if len(path) <= 512 and _PATH.fullmatch(path) else None


def denied(path: str, privileges: Sequence[str], *, any: bool = False) -> PermissionDenied:  # noqa: A002 - the reference's word
    """The refusal, in the words that clients know."""
    return PermissionDenied(f"Permission check failed ({path}, {('|' if any else ', ').join(privileges)})")


def _parent(path: str) -> str | None:
    """`/vms/100` -> `/vms` -> `/` -> None."""
    return (path.rpartition("/")[0] or "/") if path != "/" else None


@dataclass(frozen=True)
class Authority:
    """One moment of the access tree. `tokens` by full id; `groups` by name with their members' user ids.

    `pools` maps a member's path (`/vms/100`, `/storage/local`) to the paths of the pools it is in.
    """

    users: Mapping[str, User]
    tokens: Mapping[str, Token]
    groups: Mapping[str, frozenset[str]]
    roles: Mapping[str, frozenset[str]]
    grants: Sequence[Grant]
    pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _subjects: dict[str, dict[str, dict[str, bool]]] = field(default_factory=dict, repr=False)
    _groups: dict[str, dict[str, dict[str, bool]]] = field(default_factory=dict, repr=False)
    _reach: dict[tuple[str, str], Mapping[str, bool]] = field(default_factory=dict, repr=False)
    _sums: dict[frozenset[tuple[str, bool]], Mapping[str, bool]] = field(default_factory=dict, repr=False)
    _cache: dict[tuple[str, str | None, str], Mapping[str, bool]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for grant in self.grants:
            tree = self._groups if grant.kind == "group" else self._subjects
            tree.setdefault(grant.path, {}).setdefault(grant.subject, {})[grant.role] = grant.propagate

    def is_root(self, identity: Identity) -> bool:
        """Whether nothing is refused: root@pam, or its token without privilege separation."""
        if identity.userid != ROOT.userid:
            return False
        token = self.tokens.get(str(identity)) if identity.token is not None else None
        return identity.token is None or (token is not None and not token.privsep)

    def permissions(self, identity: Identity, path: str) -> Mapping[str, bool]:
        """The privileges on a path, each with whether it reaches what lies below."""
        if self.is_root(identity):
            return _EVERYTHING
        key = (identity.userid, identity.token, path)
        known = self._cache.get(key)
        if known is None:
            known = self._decide(identity, path)
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            self._cache[key] = known
        return known

    def allows(self, identity: Identity, path: str, privileges: Sequence[str], *, any: bool = False) -> bool:  # noqa: A002
        """Whether the caller has all (or any) of the privileges on the path."""
        held = self.permissions(identity, path)
        missing = len([privilege for privilege in privileges if privilege not in held])
        return missing < len(privileges) if any else not missing

    def check(self, identity: Identity, path: str, privileges: Sequence[str], *, any: bool = False) -> None:  # noqa: A002
        """Raise PermissionDenied unless `allows`; names the first privilege that is missing."""
        held = self.permissions(identity, path)
        missing = [privilege for privilege in privileges if privilege not in held]
        if any and len(missing) == len(privileges):
            raise denied(path, privileges, any=True)
        if missing and not any:
            raise denied(path, missing[:1])

    def groups_with(self, identity: Identity, privileges: Sequence[str]) -> set[str]:
        """The groups on which the caller has any of the privileges."""
        return {name for name in self.groups if self.allows(identity, f"/access/groups/{name}", privileges, any=True)}

    def members(self, groups: Iterable[str]) -> set[str]:
        """Everybody in any of the groups."""
        return {userid for name in groups for userid in self.groups.get(name, ())}

    def paths(self) -> list[str]:
        """The paths that a listing of one's own permissions shows: the main branches and every path with a grant."""
        branches = {"/", "/access", "/access/groups", "/mapping", "/nodes", "/pool", "/sdn", "/storage", "/vms"}
        return sorted(branches | self._subjects.keys() | self._groups.keys() | self.pools.keys())

    def _decide(self, identity: Identity, path: str) -> Mapping[str, bool]:
        if identity.userid not in self.users:
            return {}
        if identity.token is None:
            return self._privileges(identity.userid, path)
        token = self.tokens.get(str(identity))
        if token is None:
            return {}
        if not token.privsep:
            return self.permissions(Identity(identity.userid), path)
        own = self._privileges(str(identity), path)
        if identity.userid == ROOT.userid:
            return own
        user = self.permissions(Identity(identity.userid), path)
        return {name: reach and user[name] for name, reach in own.items() if name in user}

    def _privileges(self, subject: str, path: str) -> Mapping[str, bool]:
        roles = self._roles(subject, path)
        for pool in self.pools.get(path, ()) if NO_ACCESS not in roles else ():
            inherited = self._roles(subject, pool)
            if NO_ACCESS in inherited:
                return {}
            roles = {**dict.fromkeys(inherited, False), **roles}
        key = frozenset(roles.items())
        held = self._sums.get(key)
        if held is None:
            held = self._sums[key] = self._sum(roles)
        return held

    def _sum(self, roles: Mapping[str, bool]) -> dict[str, bool]:
        """The privileges of some roles; one reaches further down when any of its roles does."""
        held: dict[str, bool] = {}
        for role, reach in roles.items():
            for privilege in self.roles.get(role, ()):
                held[privilege] = held.get(privilege, False) or reach
        return held

    def _roles(self, subject: str, path: str) -> Mapping[str, bool]:
        """The roles that hold on a path: those of the last level that says something of the subject."""
        parent = _parent(path)
        roles = self._found(subject, path, final=True) or (self._reaching(subject, parent) if parent else {})
        return {NO_ACCESS: roles[NO_ACCESS]} if NO_ACCESS in roles else roles

    def _reaching(self, subject: str, level: str) -> Mapping[str, bool]:
        """The roles that come down from a level to those below it."""
        known = self._reach.get((subject, level))
        if known is None:
            parent = _parent(level)
            known = self._found(subject, level, final=False) or (self._reaching(subject, parent) if parent else {})
            if len(self._reach) >= _CACHE_LIMIT:
                self._reach.clear()
            self._reach[subject, level] = known
        return known

    def _found(self, subject: str, level: str, *, final: bool) -> dict[str, bool]:
        """What one level says: the subject's own grants, else those of the groups."""
        own = self._subjects.get(level, {}).get(subject, {})
        found = {role: reach for role, reach in own.items() if final or reach}
        if found or level not in self._groups:
            return found
        return {
            role: reach
            for group, granted in self._groups[level].items()
            if subject in self.groups.get(group, ())
            for role, reach in granted.items()
            if final or reach
        }
