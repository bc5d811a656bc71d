"""`/access`: logging in, who may do what, and roles. Users, tokens and realms are in `access_*.py`."""

from typing import Annotated, Any

from pydantic import Field

from bastide.access.roles import BUILTIN_ROLES
from bastide.access.second_step import HalfLogin
from bastide.access.webauthn import ANSWER_LIMIT
from bastide.api.lists import index
from bastide.api.logins import confirm, log_in, refuse_root
from bastide.api.routing import Branch, Call, NoParameters
from bastide.api.shapes_access import GrantRow, GroupInfo, GroupRow, RoleRow
from bastide.base.errors import AuthenticationFailed, InvalidParameter, NotFound
from bastide.model.access import Identity
from bastide.model.audit import Secret
from bastide.model.realm import RealmId
from bastide.model.record import Multiline, Record
from bastide.model.types import UserId, split_list

_CAPABILITIES = {
    "vms": "/vms", "dc": "/", "storage": "/storage", "access": "/access", "nodes": "/nodes", "sdn": "/sdn",
    "mapping": "/mapping",
}  # fmt: skip
_LIST = r"^[^\x00-\x1f]*$"

AclPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9/._@+:-]+$", max_length=512)]
Names = Annotated[str | None, Field(pattern=_LIST, max_length=8192)]
RoleId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=64)]

CHALLENGE_LIMIT = 65_536
"""Characters of half a ticket: it names every security key of its user."""

branch = Branch("/access")


class Login(Record):
    """A user's name and password; an unexpired ticket as the password renews it.

    A second factor is asked for by a ticket that is no more than a challenge: with it as `tfa-challenge` the password
    is the answer, such as `totp:123456`. `otp` gives the code of a TOTP at once.
    """

    username: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=ANSWER_LIMIT), Secret()]
    realm: RealmId | None = None
    new_format: Annotated[bool | None, Field(alias="new-format")] = None
    otp: Annotated[str | None, Field(max_length=256), Secret()] = None
    tfa_challenge: Annotated[str | None, Field(alias="tfa-challenge", max_length=CHALLENGE_LIMIT), Secret()] = None
    path: Annotated[AclPath | None, Field(max_length=64)] = None
    privs: Annotated[str | None, Field(pattern=_LIST, max_length=64)] = None


class ConsoleTicket(Record):
    """A console's ticket and what it shall be good for."""

    authid: Annotated[str, Field(max_length=64)]
    path: Annotated[AclPath, Field(max_length=64)]
    privs: Annotated[str, Field(pattern=_LIST, max_length=64)]
    vncticket: Annotated[str, Field(max_length=4096), Secret()]
    port: Annotated[int | None, Field(ge=0, le=65535)] = None


class Password(Record):
    """A user's new password, and the caller's own present one."""

    userid: UserId
    password: Annotated[str, Field(min_length=8, max_length=64), Secret()]
    confirmation_password: Annotated[
        str | None, Field(alias="confirmation-password", min_length=5, max_length=64), Secret()
    ] = None


class PermissionsQuery(Record):
    """Whose rights, and where."""

    userid: Annotated[
        str | None, Field(pattern=r"^[^\s:/!]+@[A-Za-z][A-Za-z0-9._-]+(![A-Za-z][A-Za-z0-9._-]+)?$", max_length=256)
    ] = None
    path: AclPath | None = None


class AclChange(Record):
    """Roles to give on a path, or with `delete` to take away."""

    path: AclPath
    roles: Annotated[str, Field(pattern=_LIST, max_length=4096)]
    users: Names = None
    groups: Names = None
    tokens: Names = None
    propagate: bool | None = None
    delete: bool | None = None


class RoleName(Record):
    """A role."""

    roleid: RoleId


class RoleCreate(RoleName):
    """A new role."""

    privs: Annotated[str | None, Field(pattern=_LIST, max_length=4096)] = None


class RoleChange(RoleCreate):
    """A role's privileges, or with `append` further ones."""

    append: bool | None = None


class GroupName(Record):
    """A group."""

    groupid: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=64)]


class GroupChange(GroupName):
    """A group's comment."""

    comment: Annotated[str | None, Field(max_length=4096), Multiline()] = None


@branch.get("", NoParameters, user="all")
async def read_index(_call: Call, _p: NoParameters) -> list[dict[str, str]]:
    """Directory index."""
    return index("subdir", "acl", "domains", "groups", "openid", "password", "permissions", "roles", "tfa", "ticket",
                 "users", "vncticket")  # fmt: skip


@branch.get("/ticket", NoParameters, user="world")
async def read_ticket(_call: Call, _p: NoParameters) -> None:
    """Dummy: useful for formatters that want to provide a login page."""


@branch.post("/ticket", Login, user="world", allow_token=False, event="login")
async def create_ticket(call: Call, p: Login) -> dict[str, Any]:
    """Log in, or renew a ticket; answers the ticket and its CSRF prevention token."""
    if (p.path is None) != (p.privs is None):
        raise InvalidParameter({"path": "'path' and 'privs' go together"})
    outcome = await log_in(call, p.username, p.realm, p.password, p.tfa_challenge)
    if isinstance(outcome, HalfLogin) and p.otp:
        code = p.otp if ":" in p.otp else f"totp:{p.otp}"
        outcome = await log_in(call, outcome.userid, None, code, outcome.ticket)
    if isinstance(outcome, Identity) and p.path is not None and p.privs is not None:
        await call.access.check(outcome, p.path, split_list(p.privs))
    return await ticket_of(call, outcome)


async def ticket_of(call: Call, outcome: Identity | HalfLogin) -> dict[str, Any]:
    """What a login answers: a ticket with what its user may see, or half of one that a second factor completes."""
    if isinstance(outcome, HalfLogin):
        # Clients read a CSRF prevention token here as well. This one is nobody's: it goes with no ticket.
        _, csrf = await call.access.issue_ticket(f"!tfa!{outcome.userid}")
        return {
            "username": outcome.userid,
            "ticket": outcome.ticket,
            "CSRFPreventionToken": csrf,
            "clustername": call.rooms.node,
            "NeedTFA": 1,
        }
    return await _whole(call, outcome)


async def _whole(call: Call, identity: Identity) -> dict[str, Any]:
    ticket, csrf = await call.access.issue_ticket(identity.userid)
    authority = await call.access.authority()
    return {
        "username": identity.userid,
        "ticket": ticket,
        "CSRFPreventionToken": csrf,
        "clustername": call.rooms.node,
        "cap": {
            name: dict.fromkeys(sorted(authority.permissions(identity, path)), 1)
            for name, path in _CAPABILITIES.items()
        },
    }


@branch.post("/vncticket", ConsoleTicket, user="world", event="login")
async def verify_console_ticket(call: Call, p: ConsoleTicket) -> None:
    """Verify a console's ticket and that its holder has the privileges; 401 when it is not so."""
    userid, _, token = p.authid.partition("!")
    identity = Identity(userid, token or None)
    await call.access.look_at_console_ticket(p.vncticket, identity, p.path, p.port)
    if not (await call.access.authority()).allows(identity, p.path, split_list(p.privs)):
        raise AuthenticationFailed("permission denied - invalid PVEVNC ticket")


@branch.put("/password", Password, allow_token=False,
            check=("or", ("userid-param", "self"),
                   ("and", ("userid-param", "Realm.AllocateUser"), ("userid-group", ("User.Modify",)))))  # fmt: skip
async def change_password(call: Call, p: Password) -> None:
    """Change a user's password. Everybody but root@pam must confirm with their own present one."""
    await refuse_root(call, p.userid)
    await confirm(call, "confirmation-password", p.confirmation_password)
    await call.access.users.set_password(p.userid, p.password)


@branch.get("/permissions", PermissionsQuery, user="all")
async def read_permissions(call: Call, p: PermissionsQuery) -> dict[str, dict[str, int]]:
    """One's own rights, or with Sys.Audit on /access another's, path by path."""
    identity = call.identity
    if p.userid is not None and p.userid != str(identity):
        userid, _, token = p.userid.partition("!")
        if userid != identity.userid or identity.token is not None:
            await call.require("/access", "Sys.Audit")
        identity = Identity(userid, token or None)
    authority = await call.access.authority()
    if identity.userid not in authority.users or (identity.token and str(identity) not in authority.tokens):
        raise NotFound(f"no such user or token '{str(identity)[:100]}'")
    paths = authority.paths() if p.path is None else [p.path]
    shown = {path: authority.permissions(identity, path) for path in paths}
    return {
        path: {name: int(reach) for name, reach in sorted(held.items())}
        for path, held in shown.items()
        # An empty one says that what comes down from above ends there.
        if held or p.path is not None or any(authority.permissions(identity, path.rpartition("/")[0] or "/").values())
    }


@branch.get("/acl", NoParameters, user="all", answer=list[GrantRow])
async def list_acl(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The grants on the paths that the caller may audit or change."""
    authority = await call.access.authority()
    return [
        {"path": grant.path, "type": grant.kind, "ugid": grant.subject, "roleid": grant.role,
         "propagate": int(grant.propagate)}
        for grant in await call.access.grants.list()
        if authority.allows(call.identity, "/access", ("Sys.Audit",))
        or authority.allows(call.identity, grant.path, ("Permissions.Modify",))
    ]  # fmt: skip


@branch.put("/acl", AclChange, check=("perm-modify", "{path}"))
async def change_acl(call: Call, p: AclChange) -> None:
    """Give roles on a path to users, groups and tokens, or take them away."""
    roles, users, tokens = split_list(p.roles), split_list(p.users or ""), split_list(p.tokens or "")
    groups, propagate = split_list(p.groups or ""), p.propagate is not False
    reached = {subject.partition("!")[0] for subject in (*users, *tokens)}
    for userid in reached | (await call.access.authority()).members(groups):
        await call.access.check_own_change(call.identity, userid)
    await call.access.check_grant(call.identity, p.path, roles, propagate=propagate)
    await call.access.grants.set(
        p.path,
        roles,
        users=users,
        groups=groups,
        tokens=tokens,
        propagate=propagate,
        delete=bool(p.delete),
    )


@branch.get("/roles", NoParameters, user="all", answer=list[RoleRow])
async def list_roles(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The roles with their privileges."""
    roles = await call.access.roles.list()
    return [
        {"roleid": name, "privs": ",".join(sorted(roles[name])), "special": int(name in BUILTIN_ROLES)}
        for name in sorted(roles)
    ]


@branch.post("/roles", RoleCreate, check=("perm", "/access", ("Sys.Modify",)))
async def create_role(call: Call, p: RoleCreate) -> None:
    """Make a role."""
    await call.access.roles.create(p.roleid, split_list(p.privs or ""))


@branch.get("/roles/{roleid}", RoleName, user="all")
async def read_role(call: Call, p: RoleName) -> dict[str, int]:
    """A role's privileges."""
    return dict.fromkeys(sorted(await call.access.roles.get(p.roleid)), 1)


@branch.put("/roles/{roleid}", RoleChange, check=("perm", "/access", ("Sys.Modify",)))
async def change_role(call: Call, p: RoleChange) -> None:
    """Replace or extend a role's privileges."""
    if p.append and p.privs is None:
        raise InvalidParameter({"append": "missing property - 'privs' is required by 'append'"})
    await call.access.roles.update(p.roleid, split_list(p.privs or ""), append=bool(p.append))


@branch.delete("/roles/{roleid}", RoleName, check=("perm", "/access", ("Sys.Modify",)))
async def delete_role(call: Call, p: RoleName) -> None:
    """Remove a role and the grants of it."""
    await call.access.delete_role(p.roleid)


@branch.get("/groups", NoParameters, user="all", answer=list[GroupRow])
async def list_groups(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The groups that the caller may change or audit."""
    authority = await call.access.authority()
    wanted = ("User.Modify", "Sys.Audit", "Group.Allocate")
    return [
        {"groupid": group.groupid, "users": ",".join(group.members), **_comment(group.comment)}
        for group in await call.access.groups.list()
        if authority.allows(call.identity, f"/access/groups/{group.groupid}", wanted, any=True)
    ]


@branch.post("/groups", GroupChange, check=("perm", "/access/groups", ("Group.Allocate",)))
async def create_group(call: Call, p: GroupChange) -> None:
    """Make a group."""
    await call.access.groups.create(p.groupid, p.comment)


@branch.get("/groups/{groupid}", GroupName,
            check=("perm", "/access/groups", ("Sys.Audit", "Group.Allocate"), "any", 1), answer=GroupInfo)  # fmt: skip
async def read_group(call: Call, p: GroupName) -> dict[str, Any]:
    """A group's members."""
    group = await call.access.groups.get(p.groupid)
    return {"members": list(group.members), **_comment(group.comment)}


@branch.put("/groups/{groupid}", GroupChange, check=("perm", "/access/groups", ("Group.Allocate",)))
async def change_group(call: Call, p: GroupChange) -> None:
    """Change a group's comment."""
    await call.access.groups.update(p.groupid, p.comment)


@branch.delete("/groups/{groupid}", GroupName, check=("perm", "/access/groups", ("Group.Allocate",)))
async def delete_group(call: Call, p: GroupName) -> None:
    """Remove a group and its grants."""
    await call.access.delete_group(p.groupid)


def _comment(comment: str | None) -> dict[str, str]:
    return {} if comment is None else {"comment": comment}
