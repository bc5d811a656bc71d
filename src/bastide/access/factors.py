"""The second factors that users have, under `factor/<userid>`: adding, changing, removing and unlocking them."""

import contextlib
import logging
import secrets
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bastide.access import recovery
from bastide.access.records import change, from_entry, to_json
from bastide.access.sealing import Seal
from bastide.access.totp import TotpSecret
from bastide.access.webauthn import Refused, Site, begin_registration, finish_registration
from bastide.base.errors import AlreadyExists, Conflict, InvalidParameter, NotFound
from bastide.model.factors import MOST_ENTRIES, RECOVERY_ID, Factor, FactorKind, Factors, KeyFactor, TotpFactor
from bastide.state.store import ABSENT, Store

REGISTRATION_LIFETIME = 300.0
"""Seconds in which a security key has to answer."""

_PENDING_LIMIT = 1024

_log = logging.getLogger(__name__)


def key_of(userid: str) -> str:
    """Where a user's factors lie in the store."""
    return f"factor/{userid}"


def new_state() -> str:
    """A state that no half ticket is of yet."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class _Pending:
    challenge: str
    description: str
    until: float


class FactorBook:
    """All users' factors. `clock` is seconds since the epoch."""

    def __init__(self, store: Store, seal: Seal, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._seal = seal
        self._clock = clock
        self._pending: OrderedDict[str, _Pending] = OrderedDict()

    async def every(self) -> list[Factors]:
        """Everybody's, in order of their user ids."""
        return [from_entry(Factors, entry) for entry in await self._store.list("factor/")]

    async def get(self, userid: str) -> Factors:
        """A user's; none for who has none."""
        entry = await self._store.get(key_of(userid))
        return from_entry(Factors, entry) if entry is not None else Factors(userid=userid, state="")

    async def entry(self, userid: str, factor: str) -> tuple[FactorKind, Factor]:
        """One entry with its kind. Raises NotFound."""
        for kind, entry in (await self.get(userid)).entries():
            if entry.id == factor:
                return kind, entry
        raise NotFound(_missing(userid, factor))

    async def add_totp(self, userid: str, uri: str, code: str, description: str = "") -> str:
        """Add a source of codes, which a present code of it proves; returns the entry's id. Raises InvalidParameter."""
        secret = TotpSecret.from_uri(uri)
        step = secret.step_of(code, self._clock())
        if step is None:
            raise InvalidParameter({"value": "is not the present code: is the clock of the device right?"})
        entry = TotpFactor(**self._named(description), sealed="", last=step)
        entry = entry.model_copy(update={"sealed": self._seal.close(secret.to_text(), purpose(userid, entry.id))})

        def step_(factors: Factors) -> Factors:
            _refuse_more(factors.totp)
            return factors.model_copy(update={"totp": (*factors.totp, entry)})

        await self._change(userid, step_)
        return entry.id

    async def add_recovery(self, userid: str) -> list[str]:
        """Make recovery codes; returns them, which are shown this once. Raises AlreadyExists."""
        kept, codes = recovery.make(self._clock())

        def step(factors: Factors) -> Factors:
            if factors.recovery is not None:
                raise AlreadyExists(f"recovery codes of {userid} already exist: remove them first")
            return factors.model_copy(update={"recovery": kept})

        await self._change(userid, step)
        return codes

    async def begin_webauthn(self, userid: str, site: Site, description: str = "") -> str:
        """What the browser shall ask a new security key, as JSON; one at a time a user. Raises InvalidParameter."""
        known = (await self.get(userid)).webauthn
        _refuse_more(known)
        asked, challenge = begin_registration(site, userid, known)
        self._forget_old()
        self._pending.pop(userid, None)
        self._pending[userid] = _Pending(challenge, description, self._clock() + REGISTRATION_LIFETIME)
        return asked

    async def finish_webauthn(self, userid: str, site: Site, challenge: str, answer: str) -> str:
        """Add the security key that answered; returns the entry's id. Raises InvalidParameter."""
        pending = self._pending.pop(userid, None)
        if pending is None or pending.challenge != challenge or self._clock() > pending.until:
            raise InvalidParameter({"challenge": "is not the one that was asked last: begin again"})
        try:
            credential, counter = finish_registration(site, challenge, answer)
        except Refused as error:
            raise InvalidParameter({"value": f"is not a security key's answer to the challenge: {error}"}) from None
        entry = KeyFactor(**self._named(pending.description), rp=site.id, credential=credential, counter=counter)

        def step(factors: Factors) -> Factors:
            _refuse_more(factors.webauthn)
            if any(key.credential == credential for key in factors.webauthn):
                raise AlreadyExists("the security key is already there: it already exists among the factors")
            return factors.model_copy(update={"webauthn": (*factors.webauthn, entry)})

        await self._change(userid, step)
        return entry.id

    async def update(self, userid: str, factor: str, *, enable: bool | None, description: str | None) -> None:
        """Enable or describe an entry. Raises NotFound, InvalidParameter for recovery codes, which have neither."""
        changes = {"enable": enable, "description": description}
        given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}

        def step(factors: Factors) -> Factors:
            if factor == RECOVERY_ID and factors.recovery is not None:
                raise InvalidParameter({"id": "recovery codes are neither described nor disabled: remove them"})
            if factor not in {entry.id for _, entry in factors.entries()}:
                raise NotFound(_missing(userid, factor))
            new = factors.model_copy(
                update={
                    "totp": tuple(_with(entry, factor, given) for entry in factors.totp),
                    "webauthn": tuple(_with(entry, factor, given) for entry in factors.webauthn),
                }
            )
            _tell_if_last(factors, new)
            return new

        await self._change(userid, step)

    async def remove(self, userid: str, factor: str) -> None:
        """Remove an entry. Raises NotFound."""

        def step(factors: Factors) -> Factors:
            new = factors.model_copy(
                update={
                    "totp": tuple(entry for entry in factors.totp if entry.id != factor),
                    "webauthn": tuple(entry for entry in factors.webauthn if entry.id != factor),
                    "recovery": None if factor == RECOVERY_ID else factors.recovery,
                }
            )
            if len(new.entries()) == len(factors.entries()):
                raise NotFound(_missing(userid, factor))
            _tell_if_last(factors, new)
            return new

        await self._change(userid, step)

    async def unlock(self, userid: str) -> bool:
        """Let a user's factors be answered again; returns whether any was locked."""
        locked = False

        def step(factors: Factors) -> Factors:
            nonlocal locked
            locked = factors.totp_locked or factors.locked_until > self._clock()
            return factors.model_copy(
                update={"totp_locked": False, "locked_until": 0, "totp_failures": 0, "failures": 0}
            )

        try:
            await change(self._store, key_of(userid), Factors, step, _missing(userid, ""))
        except NotFound:
            return False
        if locked:
            _log.warning("the second factors of %s were unlocked", userid)
        return locked

    async def forget(self, userid: str) -> None:
        """Remove all of a user's factors: of one who is removed, or before one is made of a name that was used."""
        self._pending.pop(userid, None)
        await self._store.delete(key_of(userid))

    async def _change(self, userid: str, step: Callable[[Factors], Factors]) -> None:
        if await self._store.get(key_of(userid)) is None:
            with contextlib.suppress(Conflict):
                await self._store.put(key_of(userid), to_json(Factors(userid=userid, state=new_state())), ABSENT)

        def changed(factors: Factors) -> Factors:
            return step(factors).model_copy(update={"state": new_state()})

        await change(self._store, key_of(userid), Factors, changed, _missing(userid, ""))

    def _named(self, description: str) -> dict[str, Any]:
        return {"id": str(uuid.uuid4()), "description": description, "created": int(self._clock())}

    def _forget_old(self) -> None:
        now = self._clock()
        for userid in [userid for userid, one in self._pending.items() if now > one.until]:
            del self._pending[userid]
        while len(self._pending) >= _PENDING_LIMIT:
            self._pending.popitem(last=False)


def purpose(userid: str, factor: str) -> str:
    """What a TOTP's secret is sealed for."""
    return f"totp:{userid}:{factor}"


def _with(entry: Any, factor: str, given: dict[str, Any]) -> Any:
    return entry.model_copy(update=given) if entry.id == factor else entry


def _refuse_more(entries: tuple[Factor, ...]) -> None:
    if len(entries) >= MOST_ENTRIES:
        raise InvalidParameter({"type": f"there are {MOST_ENTRIES} of this type already: remove one first"})


def _tell_if_last(before: Factors, after: Factors) -> None:
    if before.needed and not after.needed:
        _log.warning("the last second factor of %s was removed or disabled: a password is enough again", before.userid)


def _missing(userid: str, factor: str) -> str:
    return f"no such TFA entry '{factor[:80]}' of user '{userid[:80]}'"
