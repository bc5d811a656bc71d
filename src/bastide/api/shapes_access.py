"""What is answered of users, tokens, roles, grants and pools."""

from typing import Literal

from bastide.api.shape import Flag, NotRequired, TypedDict, shape
from bastide.api.shapes_guests import GuestResource, StorageResource
from bastide.model.factors import FactorKind


@shape
class TokenInfo(TypedDict):
    """A token; `expire` in seconds since the epoch, 0 for never."""

    privsep: Flag
    expire: int
    comment: NotRequired[str]


@shape
class TokenRow(TokenInfo):
    """A token of a user."""

    tokenid: str


_NewTokenNames = TypedDict("_NewTokenNames", {"full-tokenid": str})


@shape
class NewToken(_NewTokenNames):
    """A new token, and its secret, which is shown this once."""

    info: TokenInfo
    value: str


class _User(TypedDict):
    enable: Flag
    expire: int
    firstname: NotRequired[str]
    lastname: NotRequired[str]
    email: NotRequired[str]
    comment: NotRequired[str]
    keys: NotRequired[str]


_Locks = TypedDict("_Locks", {"totp-locked": NotRequired[Flag], "tfa-locked-until": NotRequired[int]})
_UserNames = TypedDict("_UserNames", {"realm-type": str})


@shape
class UserRow(_User, _UserNames, _Locks):
    """A user; groups and tokens when they are asked for."""

    userid: str
    groups: NotRequired[str]
    tokens: NotRequired[list[TokenRow]]


@shape
class UserInfo(_User):
    """A user with groups, and tokens by their names."""

    groups: list[str]
    tokens: dict[str, TokenInfo]


@shape
class FactorRow(TypedDict):
    """A second factor; `created` in seconds since the epoch."""

    id: str
    type: FactorKind
    description: str
    created: int
    enable: Flag


@shape
class UserFactors(_Locks):
    """A user's second factors, and which are locked after wrong answers: until when, in seconds since the epoch."""

    userid: str
    entries: list[FactorRow]


@shape
class NewFactor(TypedDict):
    """A new second factor: its id, recovery codes, which are shown this once, or what to ask a security key."""

    id: NotRequired[str]
    challenge: NotRequired[str]
    recovery: NotRequired[list[str]]


@shape
class FactorTypes(TypedDict):
    """The types of a user's second factors."""

    types: NotRequired[list[FactorKind]]
    user: NotRequired[Literal["oath", "u2f"]]


@shape
class GrantRow(TypedDict):
    """A grant of a role on a path to a user, group or token."""

    path: str
    type: Literal["user", "group", "token"]
    ugid: str
    roleid: str
    propagate: Flag


@shape
class RoleRow(TypedDict):
    """A role; the built-in ones are special."""

    roleid: str
    privs: str
    special: Flag


@shape
class RealmRow(TypedDict):
    """A realm."""

    realm: str
    type: str
    comment: NotRequired[str]
    default: NotRequired[Flag]


@shape
class GroupRow(TypedDict):
    """A group; `users` is a list with commas."""

    groupid: str
    users: str
    comment: NotRequired[str]


@shape
class GroupInfo(TypedDict):
    """A group's members."""

    members: list[str]
    comment: NotRequired[str]


@shape
class PoolRow(TypedDict):
    """A pool, with its members when one is asked for."""

    poolid: str
    comment: NotRequired[str]
    members: NotRequired[list[GuestResource | StorageResource]]


@shape
class PoolInfo(TypedDict):
    """A pool's members."""

    members: list[GuestResource | StorageResource]
    comment: NotRequired[str]


@shape
class ClusterLogRow(TypedDict):
    """A line of the audit log as Proxmox VE shows its own; `pri` is syslog's, `uid` grows with every line."""

    uid: str
    time: int
    pri: int
    tag: str
    pid: int
    node: str
    user: str
    msg: str
