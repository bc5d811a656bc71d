"""The permission expressions of the API reference, evaluated.

("perm", PATH, (PRIVILEGE, ...))            all of them on the path; `{name}` in it is a parameter
("perm", PATH, (...), "any", 1)             one of them is enough
("perm", PATH, (...), "require_param", P)   false when the call does not give P
("and", CHECK, ...)  ("or", CHECK, ...)
("userid-param", "self")                    the parameter `userid` is the caller
("userid-param", "Realm.AllocateUser")      that privilege on the realm of `userid`
("userid-group", (...))                     one of the privileges on a group that `userid` is in, or on all groups
("userid-group", (...), "groups_param", "create" | "update")  ... and on each group the call gives
("perm-modify", PATH)                       may change the grants on the path
None                                        root@pam alone, not even its tokens
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from bastide.access.authority import Authority, denied, normalize_path
from bastide.base.errors import PermissionDenied
from bastide.model.access import ROOT, Identity
from bastide.model.types import split_list

Check = Sequence[Any]
Parameters = Mapping[str, object]

_PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_-]+)\}")
_ALLOCATE = {
    "storage": "Datastore.Allocate",
    "vms": "VM.Allocate",
    "pool": "Pool.Allocate",
    "sdn": "SDN.Allocate",
    "mapping": "Mapping.Modify",
}


class HasAuthority(Protocol):
    """What knows the present authority: `access.Access`."""

    async def authority(self) -> Authority:
        """The users, roles and grants of this moment."""


async def enforce(access: HasAuthority, identity: Identity, check: Check | None, parameters: Parameters) -> None:
    """Raise PermissionDenied unless the check lets the caller in."""
    evaluate(await access.authority(), identity, check, parameters)


def evaluate(authority: Authority, identity: Identity, check: Check | None, parameters: Parameters) -> None:
    """Raise PermissionDenied unless the check lets the caller in. Pure."""
    if identity == ROOT:
        return
    if check is None:
        raise PermissionDenied("Permission check failed (user != root@pam)")
    _TESTS[check[0]](authority, identity, check, parameters)


def permitted(authority: Authority, identity: Identity, check: Check | None, parameters: Parameters) -> bool:
    """Whether `evaluate` would not raise."""
    try:
        evaluate(authority, identity, check, parameters)
    except PermissionDenied:
        return False
    return True


def _and(authority: Authority, identity: Identity, check: Check, parameters: Parameters) -> None:
    for part in check[1:]:
        evaluate(authority, identity, part, parameters)


def _or(authority: Authority, identity: Identity, check: Check, parameters: Parameters) -> None:
    refusal = PermissionDenied("Permission check failed")
    for part in check[1:]:
        try:
            evaluate(authority, identity, part, parameters)
        except PermissionDenied as error:
            refusal = error
        else:
            return
    raise refusal


def _perm(authority: Authority, identity: Identity, check: Check, parameters: Parameters) -> None:
    _, template, privileges, *rest = check
    options = _options(rest)
    if "require_param" in options and not parameters.get(options["require_param"]):
        raise PermissionDenied(f"Permission check failed (parameter '{options['require_param']}' is missing)")
    path = _fill(template, parameters, privileges)
    authority.check(identity, path, tuple(privileges), any=bool(options.get("any")))


def _userid_param(authority: Authority, identity: Identity, check: Check, parameters: Parameters) -> None:
    userid = str(parameters.get("userid", ""))
    if check[1] == "self":
        if userid not in authority.users or str(identity) != userid:
            raise PermissionDenied("Permission check failed")
        return
    realm = userid.rpartition("@")[2]
    authority.check(identity, _fill(f"/access/realm/{realm}", {}, (check[1],)), (check[1],))


def _userid_group(authority: Authority, identity: Identity, check: Check, parameters: Parameters) -> None:
    _, privileges, *rest = check
    groups_given = _options(rest).get("groups_param")
    userid = str(parameters.get("userid", ""))
    if authority.allows(identity, "/access/groups", privileges, any=True):
        return  # also for a user who does not exist: that is what the caller is then told
    allowed = authority.groups_with(identity, privileges)
    if groups_given:
        given = split_list(str(parameters.get("groups") or ""))
        if not given:
            raise denied("/access/groups", privileges)
        for name in given:
            if name not in allowed:
                raise denied(f"/access/groups/{name}", privileges)
    if groups_given != "create" and userid not in authority.members(allowed):
        raise PermissionDenied("Permission check failed")


def _perm_modify(authority: Authority, identity: Identity, check: Check, parameters: Parameters) -> None:
    path = _fill(check[1], parameters, ("Permissions.Modify",))
    branch, _, rest = path[1:].partition("/")
    wanted = ["Permissions.Modify"]
    if rest and branch in _ALLOCATE:
        wanted.append(_ALLOCATE[branch])
    authority.check(identity, path, wanted, any=True)


_TESTS: Mapping[str, Callable[[Authority, Identity, Check, Parameters], None]] = {
    "and": _and,
    "or": _or,
    "perm": _perm,
    "userid-param": _userid_param,
    "userid-group": _userid_group,
    "perm-modify": _perm_modify,
}


def _options(rest: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(rest[::2], rest[1::2], strict=True))


def _fill(template: str, parameters: Parameters, privileges: Sequence[str]) -> str:
    """The path with its parameters. What makes no path (a value that is missing or odd) is refused like no right."""
    missing = [name for name in _PLACEHOLDER.findall(template) if parameters.get(name) in (None, "")]
    path = _PLACEHOLDER.sub(lambda match: str(parameters.get(match[1], "")), template)
    normal = None if missing else normalize_path(path)
    if normal is None:
        raise denied(template, privileges)
    return normal
