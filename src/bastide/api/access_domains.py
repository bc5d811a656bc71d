"""`/access/domains`: the realms, and taking users and groups over from directories."""

from typing import Annotated, Any

from pydantic import Field

from bastide.access import directory
from bastide.access.realms import Secrets
from bastide.api.routing import Branch, Call, NoParameters, NotBuilt
from bastide.api.shape import Options
from bastide.api.shapes_access import RealmRow
from bastide.base.errors import InvalidParameter
from bastide.model.audit import Secret
from bastide.model.realm import KINDS, Realm, RealmId, RealmOptions, RealmType, SyncOptions
from bastide.model.record import Record
from bastide.model.types import split_list
from bastide.operations import realm_sync

_ALLOCATE = ("perm", "/access/realm", ("Realm.Allocate",))
_FILES = ("capath", "cert", "certkey")
_PLACES = frozenset(
    {"server1", "server2", "port", "mode", "secure", "verify", "capath", "sslversion", "bind_dn", "issuer-url"}
)
"""What says to whom a realm's secret is sent, and how safely."""

branch = Branch("/access/domains")


class _Given(RealmOptions):
    """Options and secrets that a realm is made with or gets."""

    password: Annotated[str | None, Field(max_length=1024), Secret()] = None
    client_key: Annotated[str | None, Field(alias="client-key", max_length=256), Secret()] = None
    check_connection: Annotated[bool | None, Field(alias="check-connection")] = None
    tfa: Annotated[str | None, Field(max_length=128), NotBuilt()] = None

    def secrets(self) -> Secrets:
        """The secrets that were sent."""
        given: Secrets = {"password": self.password, "client-key": self.client_key}
        return {kind: text for kind, text in given.items() if text is not None}

    def options(self) -> dict[str, Any]:
        """The options of the record that were sent."""
        return {key: value for key, value in self.to_text().items() if Realm.knows(key) and key != "realm"}


class RealmCreate(_Given):
    """A new realm."""

    realm: RealmId
    type: RealmType
    username_claim: Annotated[str | None, Field(alias="username-claim", max_length=256)] = None


class RealmChange(_Given):
    """Options of a realm to set or to delete."""

    realm: RealmId
    delete: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_,;\s-]*$", max_length=4096)] = None
    digest: Annotated[str | None, Field(max_length=64)] = None


class RealmName(Record):
    """A realm."""

    realm: RealmId


class RealmSync(RealmName):
    """What to take over from a directory; what is not said is the realm's default."""

    scope: str | None = None
    enable_new: Annotated[bool | None, Field(alias="enable-new")] = None
    remove_vanished: Annotated[str | None, Field(alias="remove-vanished", max_length=64)] = None
    full: bool | None = None
    purge: bool | None = None
    dry_run: Annotated[bool | None, Field(alias="dry-run")] = None


@branch.get("", NoParameters, user="world", answer=list[RealmRow])
async def list_realms(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The realms in which users may be; open to the world, for login pages."""
    return [
        {key: value for key, value in realm.to_text().items() if key in ("realm", "type", "comment", "default")}
        for realm in await call.access.realms.list()
    ]


@branch.post("", RealmCreate, check=_ALLOCATE)
async def create_realm(call: Call, p: RealmCreate) -> None:
    """Add a realm."""
    trusted = await _is_powerful(call)
    await _check_files(call, p)
    realm = Realm.parse({**p.options(), "realm": p.realm, "type": p.type, "trusted": trusted})
    if p.check_connection and realm.is_directory:
        await directory.check(realm, p.password)
    await call.access.realms.create(realm, p.secrets())


@branch.get("/{realm}", RealmName,
            check=("perm", "/access/realm", ("Realm.Allocate", "Sys.Audit"), "any", 1), answer=Options)  # fmt: skip
async def read_realm(call: Call, p: RealmName) -> dict[str, Any]:
    """A realm's options; never its secrets."""
    realm = await call.access.realms.get(p.realm)
    return {**realm.shown(), "digest": await call.access.realms.digest(p.realm)}


@branch.put("/{realm}", RealmChange, check=_ALLOCATE)
async def change_realm(call: Call, p: RealmChange) -> None:
    """Change a realm."""
    before = await call.access.realms.get(p.realm)
    changes, secrets = p.options(), dict(p.secrets())
    for key in split_list(p.delete or ""):
        if key == KINDS[before.type].secret:
            secrets[key] = None
        elif not Realm.knows(key) or key in ("realm", "type", "trusted", "username-claim"):
            raise InvalidParameter({"delete": f"'{key[:40]}' cannot be deleted"})
        else:
            changes[key] = None
    changes |= await _check_places(call, before, changes, secrets)
    await _check_files(call, p)
    if p.check_connection and before.is_directory:
        values = {**before.to_text(), **changes}
        after = Realm.parse({key: value for key, value in values.items() if value is not None})
        await directory.check(after, secrets.get("password", call.access.realms.secret(before)))
    await call.access.realms.update(p.realm, changes, secrets, p.digest)


@branch.delete("/{realm}", RealmName, check=_ALLOCATE)
async def delete_realm(call: Call, p: RealmName) -> None:
    """Forget a realm; its users stay, and cannot log in."""
    await call.access.realms.delete(p.realm)


@branch.post("/{realm}/sync", RealmSync,
             check=("and", ("perm", "/access/realm/{realm}", ("Realm.AllocateUser",)),
                    ("perm", "/access/groups", ("User.Modify",))))  # fmt: skip
async def sync_realm(call: Call, p: RealmSync) -> str:
    """Take users and groups over from a directory, as a task."""
    given = {key: value for key, value in p.to_text().items() if key not in ("realm", "dry-run")}
    wanted = SyncOptions.parse(given)
    return str(await realm_sync.sync(call.rooms, call.identity, p.realm, wanted, dry_run=bool(p.dry_run)))


async def _is_powerful(call: Call) -> bool:
    """Whether the caller may change the whole host, and so may have it speak to itself."""
    return await call.may("/", "Sys.Modify")


async def _check_files(call: Call, given: RealmOptions) -> None:
    """Files of the host are named by who may change the host. Raises PermissionDenied."""
    if any(getattr(given, key) is not None for key in _FILES):
        await call.require("/", "Sys.Modify")


async def _check_places(call: Call, before: Realm, changes: dict[str, Any], secrets: Secrets) -> dict[str, Any]:
    """Refuse to have a secret that one does not know sent elsewhere; returns who is trusted with the new place.

    Raises InvalidParameter that asks for the secret.
    """
    known = before.to_text()
    if all(known.get(key) == changes.get(key) for key in _PLACES & changes.keys()):
        return {}
    powerful, kind = await _is_powerful(call), KINDS[before.type].secret
    if not powerful and kind is not None and kind not in secrets and call.access.realms.secret(before) is not None:
        raise InvalidParameter({kind: "give it again: with this change it would be sent somewhere else"})
    return {"trusted": powerful}
