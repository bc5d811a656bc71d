"""The second step of a login: what is asked, and whether the answer is right.

An answer is `KIND:VALUE`, as Proxmox VE has it: `totp:123456`, `recovery:0123-4567-89ab-cdef`, `webauthn:{...}`. What
it does to the counts of failures is written in the same compare-and-swap as its verdict, so that answers that come at
once gain nothing over answers one after the other.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bastide.access import recovery
from bastide.access.factors import key_of, new_state, purpose
from bastide.access.records import change, from_entry
from bastide.access.sealing import Seal
from bastide.access.tickets import Tickets
from bastide.access.totp import TotpSecret
from bastide.access.webauthn import Refused, Site, begin_login, finish_login
from bastide.base.errors import AuthenticationFailed, HostFailure, NotFound
from bastide.model.factors import Factors
from bastide.state.store import Store

TOTP_FAILURES = 8
"""Wrong codes in a row that lock a user's TOTP."""

FAILURES = 100
"""Other wrong answers in a row that lock all second factors for a while."""

LOCKED_FOR = 3600
"""Seconds of that while."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HalfLogin:
    """A user whose password was right. `ticket` is half a ticket, `kinds` the kinds of factors that can be asked."""

    userid: str
    ticket: str
    kinds: tuple[str, ...]


class SecondStep:
    """Asks for second factors and judges the answers. `clock` is seconds since the epoch."""

    def __init__(self, store: Store, tickets: Tickets, seal: Seal, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._tickets = tickets
        self._seal = seal
        self._clock = clock

    async def ask(self, userid: str, site: Site | None) -> HalfLogin | None:
        """What to ask a user whose password was right; None for who has no second factor.

        Without a site there are no security keys. Kinds that are locked or used up are not asked for; when none is
        left, the login cannot go on, and yet is not let in.
        """
        entry = await self._store.get(key_of(userid))
        factors = from_entry(Factors, entry) if entry is not None else None
        if factors is None or not factors.needed:
            return None
        challenge = self._challenge(factors, site)
        ticket = self._tickets.issue_half(userid, factors.state, challenge)
        return HalfLogin(userid, ticket, tuple(kind for kind, value in challenge.items() if value))

    async def answer(self, userid: str, ticket: str, answer: str, site: Site | None) -> None:
        """Raise AuthenticationFailed unless the answer is right and the half ticket is this user's present one."""
        right = False

        def step(factors: Factors) -> Factors:
            nonlocal right
            asked = self._tickets.verify_half(ticket, userid, factors.state)
            new = self._judge(factors, asked, answer, site)
            right = new is not None
            # A right answer uses the half ticket up.
            return new.model_copy(update={"state": new_state()}) if new is not None else self._counted(factors, answer)

        try:
            await change(self._store, key_of(userid), Factors, step, "no second factors")
        except NotFound:
            raise AuthenticationFailed("authentication failure") from None
        if not right:
            raise AuthenticationFailed("authentication failure")

    def _challenge(self, factors: Factors, site: Site | None) -> dict[str, Any]:
        if factors.locked_until > self._clock():
            return {}
        asked: dict[str, Any] = {}
        if not factors.totp_locked and any(entry.enable for entry in factors.totp):
            asked["totp"] = True
        if factors.recovery is not None:
            asked["recovery"] = factors.recovery.left
        keys = begin_login(site, factors.webauthn) if site is not None else None
        return asked if keys is None else {**asked, "webauthn": keys}

    def _judge(self, factors: Factors, asked: dict[str, Any], answer: str, site: Site | None) -> Factors | None:
        """The factors after a right answer, or None."""
        if factors.locked_until > self._clock():
            return None
        kind, _, value = answer.partition(":")
        match kind:
            case "totp":
                return self._by_totp(factors, value)
            case "recovery":
                return _by_recovery(factors, value)
            case "webauthn":
                return _by_key(factors, asked, value, site)
        return None

    def _by_totp(self, factors: Factors, code: str) -> Factors | None:
        if factors.totp_locked:
            return None
        for number, entry in enumerate(factors.totp):
            secret = self._secret(factors.userid, entry.id, entry.sealed) if entry.enable else None
            step = secret.step_of(code, self._clock()) if secret is not None else None
            if secret is None or step is None or secret.is_used(step, entry.last, self._clock()):
                continue
            used = entry.model_copy(update={"last": step})
            totp = (*factors.totp[:number], used, *factors.totp[number + 1 :])
            return factors.model_copy(update={"totp": totp, "totp_failures": 0, "failures": 0})
        return None

    def _secret(self, userid: str, factor: str, sealed: str) -> TotpSecret | None:
        try:
            return TotpSecret.from_text(self._seal.open(sealed, purpose(userid, factor)))
        except (HostFailure, ValueError, TypeError) as error:
            _log.error("TOTP of %s: %s", userid, error)
            return None

    def _counted(self, factors: Factors, answer: str) -> Factors:
        """The factors after a wrong answer. What is locked counts no further."""
        now = self._clock()
        if factors.locked_until > now:
            return factors
        if answer.startswith("totp:"):
            failures = factors.totp_failures + 1
            locked = factors.totp_locked or failures >= TOTP_FAILURES
            if locked and not factors.totp_locked:
                _log.warning("TOTP of %s is locked after %d wrong codes", factors.userid, failures)
            return factors.model_copy(update={"totp_failures": min(failures, TOTP_FAILURES), "totp_locked": locked})
        failures = factors.failures + 1
        if failures < FAILURES:
            return factors.model_copy(update={"failures": failures})
        _log.warning("the second factors of %s are locked for an hour after %d wrong answers", factors.userid, failures)
        return factors.model_copy(update={"failures": 0, "locked_until": int(now) + LOCKED_FOR})


def _by_recovery(factors: Factors, code: str) -> Factors | None:
    """A recovery code also unlocks TOTP, as in Proxmox VE."""
    left = recovery.spend(factors.recovery, code) if factors.recovery is not None else None
    if left is None:
        return None
    return factors.model_copy(update={"recovery": left, "totp_locked": False, "totp_failures": 0, "failures": 0})


def _by_key(factors: Factors, asked: dict[str, Any], answer: str, site: Site | None) -> Factors | None:
    challenge = asked.get("webauthn", {}).get("publicKey", {}).get("challenge")
    if site is None or challenge is None:
        return None
    try:
        used = finish_login(site, factors.webauthn, challenge, answer)
    except Refused as error:
        _log.info("a security key of %s is refused: %r", factors.userid, str(error))  # it may quote the answer
        return None
    keys = tuple(used if key.id == used.id else key for key in factors.webauthn)
    return factors.model_copy(update={"webauthn": keys, "failures": 0})
