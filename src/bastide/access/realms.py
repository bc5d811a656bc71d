"""The configured realms, and their secrets: files that root alone reads, in no record and no answer."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bastide.access.records import from_entry, to_json
from bastide.base.errors import AlreadyExists, Conflict, InvalidParameter, NotFound, WrongState
from bastide.base.layout import Layout
from bastide.host.filesystems import make_folder, replace_text
from bastide.host.ldap_filter import parse
from bastide.model.realm import BUILT_IN, KINDS, Realm, RealmSecret
from bastide.state.store import ABSENT, Entry, Store

_Realms = list[Realm]
_SECRETS: tuple[RealmSecret, ...] = ("password", "client-key")
_FILTERS = ("filter", "group_filter")

Secrets = Mapping[RealmSecret, str | None]
"""Secrets to write, or with None to remove."""


async def is_realm(store: Store, name: str) -> bool:
    """Whether there is a realm of the name."""
    return name in BUILT_IN or (0 < len(name) <= 32 and await store.get(f"realm/{name}") is not None)


class Realms:
    """The realms. `pam` and `pve` are always there."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._folder: Path = layout.state / "secrets" / "realm"

    async def list(self) -> _Realms:
        """All realms, in order of their names."""
        stored = {entry.key.removeprefix("realm/"): from_entry(Realm, entry) for entry in await self._entries()}
        return [realm for _, realm in sorted({**BUILT_IN, **stored}.items())]

    async def get(self, name: str) -> Realm:
        """One realm. Raises NotFound."""
        return (await self._read(name))[0]

    async def digest(self, name: str) -> str:
        """The digest of a realm's present options, for `update`. Raises NotFound."""
        return _digest((await self._read(name))[0])

    async def create(self, realm: Realm, secrets: Secrets) -> None:
        """Add a realm. Raises AlreadyExists, InvalidParameter, HostFailure."""
        if realm.realm in BUILT_IN or realm.type in BUILT_IN:
            raise AlreadyExists(f"domain '{realm.realm if realm.realm in BUILT_IN else realm.type}' already exists")
        _check(realm, secrets)
        try:
            await self._store.put(f"realm/{realm.realm}", to_json(realm), ABSENT)
        except Conflict:
            raise AlreadyExists(f"domain '{realm.realm}' already exists") from None
        try:
            self._keep(realm.realm, dict.fromkeys(_SECRETS) | dict(secrets))
        except BaseException:
            await self._store.delete(f"realm/{realm.realm}")
            raise
        await self._only_default(realm)

    async def update(self, name: str, changes: Mapping[str, Any], secrets: Secrets, digest: str | None = None) -> None:
        """Change options (None unsets one) and secrets. Raises NotFound, InvalidParameter, Conflict, HostFailure."""
        before, revision = await self._read(name)
        if digest is not None and digest != _digest(before):
            raise Conflict("detected modified configuration - file changed by other user? Try again.")
        after = _with(before, changes)
        _check(after, secrets)
        written = await self._store.put(f"realm/{name}", to_json(after), revision)
        try:
            self._keep(name, secrets)
        except BaseException:
            await self._store.put(f"realm/{name}", to_json(before), written.revision)
            raise
        await self._only_default(after)

    async def delete(self, name: str) -> None:
        """Forget a realm; its users stay and can't log in. Raises NotFound, WrongState for one that is built in."""
        await self.get(name)
        if name in BUILT_IN:
            raise WrongState(f"the realm '{name}' is built in and cannot be removed")
        await self._store.delete(f"realm/{name}")
        self._keep(name, dict.fromkeys(_SECRETS))

    def secret(self, realm: Realm) -> str | None:
        """A realm's bind password or client key. Raises HostFailure."""
        kind = KINDS[realm.type].secret
        path = self._folder / f"{realm.realm}.{kind}"
        return path.read_text() if kind is not None and path.exists() else None

    def _keep(self, name: str, secrets: Secrets) -> None:
        for kind, text in secrets.items():
            path = self._folder / f"{name}.{kind}"
            if text is None:
                path.unlink(missing_ok=True)
            else:
                make_folder(self._folder, 0o700)
                replace_text(path, text)

    async def _only_default(self, realm: Realm) -> None:
        """The newest default is the only one."""
        for other in await self.list() if realm.default else ():
            if other.default and other.realm != realm.realm:
                await self._store.put(f"realm/{other.realm}", to_json(_with(other, {"default": None})))

    async def _read(self, name: str) -> tuple[Realm, int]:
        entry = await self._store.get(f"realm/{name}") if 0 < len(name) <= 32 else None
        if entry is not None:
            return from_entry(Realm, entry), entry.revision
        if name in BUILT_IN:
            return BUILT_IN[name], ABSENT
        raise NotFound(f"domain '{name[:80]}' does not exist")

    async def _entries(self) -> Iterable[Entry]:
        return await self._store.list("realm/")


def _with(realm: Realm, changes: Mapping[str, Any]) -> Realm:
    values = {**realm.to_text(), **changes}
    return Realm.parse({key: value for key, value in values.items() if value is not None})


def _digest(realm: Realm) -> str:
    return hashlib.sha1(to_json(realm).encode(), usedforsecurity=False).hexdigest()


def _check(realm: Realm, secrets: Secrets) -> None:
    for key in _FILTERS:
        try:
            parse(getattr(realm, key) or "a=b")
        except ValueError as error:
            raise InvalidParameter({key: str(error)}) from None
    for kind, text in secrets.items():
        if kind != KINDS[realm.type].secret:
            raise InvalidParameter({kind: f"a realm of the type {realm.type} has no such option"})
        if text is not None and not 1 <= len(text.encode()) <= 1024:
            raise InvalidParameter({kind: "1 to 1024 bytes"})
