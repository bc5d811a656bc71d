"""Users, tokens, roles and grants."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from bastide.model.audit import Secret
from bastide.model.record import Multiline, Record
from bastide.model.types import TokenName, UserId


class User(Record):
    """A user; `password` is an argon2 hash and only of the realm `pve`."""

    userid: UserId
    enable: bool = True
    expire: Annotated[int, Field(ge=0)] = 0
    firstname: Annotated[str | None, Field(max_length=1024)] = None
    lastname: Annotated[str | None, Field(max_length=1024)] = None
    email: Annotated[str | None, Field(max_length=254)] = None
    comment: Annotated[str | None, Field(max_length=2048), Multiline()] = None
    keys: Annotated[str | None, Field(max_length=2048), Secret()] = None
    groups: Annotated[str | None, Field(max_length=2048)] = None
    password: Annotated[str | None, Field(repr=False), Secret()] = None


class Token(Record):
    """An API token; `secret` is the SHA-256 of its random secret. `privsep` limits it to its own grants."""

    userid: UserId
    tokenid: TokenName
    privsep: bool = True
    expire: Annotated[int, Field(ge=0)] = 0
    comment: Annotated[str | None, Field(max_length=2048), Multiline()] = None
    secret: Annotated[str, Field(repr=False)]


class Grant(Record):
    """An entry of the access control list: `subject` (user, token or group) has `role` on `path`."""

    path: str
    subject: str
    kind: str
    role: str
    propagate: bool = True


@dataclass(frozen=True, slots=True)
class Identity:
    """Who makes a call: a user id, and the token it came by, if any."""

    userid: str
    token: str | None = None

    def __str__(self) -> str:
        return self.userid if self.token is None else f"{self.userid}!{self.token}"


ROOT = Identity("root@pam")
