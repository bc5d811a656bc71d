"""Realms: where users' passwords are. Directories (`ldap`, `ad`) and OpenID providers beside the two that are built in.

The options are those of Proxmox VE's `/access/domains`. The bind password and the client key are no part of a record.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from bastide.model.record import Multiline, PropertyString, Record
from bastide.model.types import is_dns_name

RealmType = Literal["ad", "ldap", "openid", "pam", "pve"]
RealmId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]+$", max_length=32)]
RealmSecret = Literal["password", "client-key"]
SyncScope = Literal["users", "groups", "both"]

MAPPED = ("email", "firstname", "lastname", "comment")
"""What of a user `sync_attributes` can fill."""

_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*", re.ASCII)
_VANISHED = r"^(none|(acl|properties|entry)(;(acl|properties|entry))*)$"


def _attribute(text: str) -> str:
    if _ATTRIBUTE.fullmatch(text) is None:
        raise ValueError(f"'{text[:60]}' is not the name of an LDAP attribute")
    return text


def _attributes(text: str) -> str:
    return ",".join(_attribute(part.strip()) for part in text.split(","))


def _mapping(text: str) -> str:
    for part in text.split(","):
        ours, equals, theirs = part.strip().partition("=")
        if ours not in MAPPED or not equals:
            raise ValueError(f"'{part.strip()[:60]}' is not one of {', '.join(MAPPED)} with =ATTRIBUTE")
        _attribute(theirs)
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if is_dns_name(text):
            return text
        raise ValueError(f"'{text[:80]}' is neither a DNS name nor an IP address") from None


def is_here(url: str) -> bool:
    """Whether a URL names this host itself, by a loopback address or `localhost`."""
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def secure_url(text: str) -> str:
    """A URL whose answers can be believed: https, or plain http to this host itself. Raises ValueError."""
    parts = urlsplit(text)
    if not text.isascii() or any(char <= " " for char in text) or "@" in parts.netloc or parts.fragment:
        raise ValueError("this is not a usable URL")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_here(text))):
        raise ValueError("use an https:// URL (plain http:// only to this host itself)")
    return text


def _files(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("give the whole path of a file on the host")
    return text


Attribute = Annotated[str | None, Field(min_length=1, max_length=256), AfterValidator(lambda v: v and _attribute(v))]
Attributes = Annotated[str | None, Field(min_length=1, max_length=1024), AfterValidator(lambda v: v and _attributes(v))]
Dn = Annotated[str | None, Field(min_length=1, max_length=256)]
Filter = Annotated[str | None, Field(min_length=1, max_length=2048)]
Address = Annotated[str | None, Field(min_length=1, max_length=256), AfterValidator(lambda v: v and _address(v))]
HostFile = Annotated[str | None, Field(max_length=1024), AfterValidator(lambda v: v and _files(v))]


class SyncOptions(PropertyString):
    """What a sync does: which parts, whether new users may log in, what becomes of what has vanished."""

    schema_format = "realm-sync-options"

    scope: SyncScope | None = None
    enable_new: Annotated[bool | None, Field(alias="enable-new")] = None
    remove_vanished: Annotated[str | None, Field(alias="remove-vanished", pattern=_VANISHED)] = None
    full: bool | None = None
    purge: bool | None = None


class RealmOptions(Record):
    """The options that a realm of some type has; None is not set."""

    comment: Annotated[str | None, Field(max_length=4096), Multiline()] = None
    default: bool | None = None
    # directories
    server1: Address = None
    server2: Address = None
    port: Annotated[int | None, Field(ge=1, le=65535)] = None
    mode: Literal["ldap", "ldaps", "ldap+starttls"] | None = None
    secure: bool | None = None
    verify: bool | None = None
    capath: HostFile = None
    cert: HostFile = None
    certkey: HostFile = None
    sslversion: Literal["tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3"] | None = None
    domain: Annotated[str | None, Field(pattern=r"^\S+$", max_length=256)] = None
    base_dn: Dn = None
    bind_dn: Dn = None
    user_attr: Annotated[Attribute, Field(min_length=2)] = None
    user_classes: Attributes = None
    filter: Filter = None
    group_dn: Dn = None
    group_name_attr: Attribute = None
    group_classes: Attributes = None
    group_filter: Filter = None
    sync_attributes: Annotated[str | None, Field(max_length=1024), AfterValidator(lambda v: v and _mapping(v))] = None
    sync_defaults_options: Annotated[SyncOptions | None, Field(alias="sync-defaults-options")] = None
    case_sensitive: Annotated[bool | None, Field(alias="case-sensitive")] = None
    # OpenID
    issuer_url: Annotated[
        str | None, Field(alias="issuer-url", max_length=256), AfterValidator(lambda v: v and secure_url(v))
    ] = None
    client_id: Annotated[str | None, Field(alias="client-id", min_length=1, max_length=256)] = None
    autocreate: bool | None = None
    groups_claim: Annotated[str | None, Field(alias="groups-claim", pattern=r"^[A-Za-z0-9._-]+$", max_length=256)] = (
        None
    )
    groups_autocreate: Annotated[bool | None, Field(alias="groups-autocreate")] = None
    groups_overwrite: Annotated[bool | None, Field(alias="groups-overwrite")] = None
    scopes: Annotated[str | None, Field(pattern=r"^[\x21-\x7e]+( [\x21-\x7e]+)*$", max_length=1024)] = None
    prompt: Annotated[str | None, Field(pattern=r"^\S+$", max_length=256)] = None
    acr_values: Annotated[
        str | None, Field(alias="acr-values", pattern=r'^[^\x00-\x1F\x7F <>#"]*$', max_length=1024)
    ] = None
    query_userinfo: Annotated[bool | None, Field(alias="query-userinfo")] = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of realm: what it must have, and what it may have, beside `comment` and `default`."""

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    secret: RealmSecret | None = None


def _named(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DIRECTORY = _named(
    "server2 port mode secure verify capath cert certkey sslversion bind_dn user_classes filter group_dn"
    " group_name_attr group_classes group_filter sync_attributes sync-defaults-options case-sensitive"
)
_OPENID = _named(
    "autocreate username-claim groups-claim groups-autocreate groups-overwrite scopes prompt acr-values query-userinfo"
)
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "pam": Kind(),
        "pve": Kind(),
        "ldap": Kind(_named("server1 base_dn user_attr"), _DIRECTORY, "password"),
        "ad": Kind(_named("server1 domain"), _DIRECTORY | {"base_dn", "user_attr"}, "password"),
        "openid": Kind(_named("issuer-url client-id"), _OPENID, "client-key"),
    }
)
"""The types of realms."""

_ALWAYS = frozenset({"realm", "type", "comment", "default", "trusted"})


class Realm(RealmOptions):
    """A realm. `trusted` ones may name this host itself: who may change all of it has set them up."""

    realm: RealmId
    type: RealmType
    username_claim: Annotated[
        str | None, Field(alias="username-claim", pattern=r"^[A-Za-z0-9._:/-]+$", max_length=256)
    ] = None
    trusted: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        kind = KINDS[self.type]
        given = set(self.to_text())
        if missing := sorted(kind.required - given):
            raise ValueError(f"{missing[0]}: property is missing and it is not optional")
        if extra := sorted(given - kind.required - kind.optional - _ALWAYS):
            raise ValueError(f"{extra[0]}: a realm of the type {self.type} has no such option")
        if (self.cert is None) != (self.certkey is None):
            raise ValueError("certkey: 'cert' and 'certkey' go together")
        if self.sslversion in ("tlsv1", "tlsv1_1"):
            raise ValueError("sslversion: this host speaks TLS 1.2 and newer")
        return self

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory, which can be synced."""
        return self.type in ("ldap", "ad")

    def shown(self) -> dict[str, str | int | float]:
        """The options as they are answered; without `realm`, and without what nobody set."""
        return {key: value for key, value in self.to_text().items() if key not in ("realm", "trusted")}


BUILT_IN: Mapping[str, Realm] = MappingProxyType(
    {
        "pam": Realm(realm="pam", type="pam", comment="Linux PAM standard authentication"),
        "pve": Realm(realm="pve", type="pve", comment="Bastide authentication server"),
    }
)
"""The realms that are always there."""
