"""Second factors with a clock that the tests move: codes, recovery codes, security keys, locks."""

import json
import logging
import secrets
import stat
from base64 import b32encode
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyotp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.access.factors import FactorBook
from bastide.access.keys import SigningKeys
from bastide.access.sealing import Seal
from bastide.access.second_step import SecondStep
from bastide.access.tickets import HALF_LIFETIME, Tickets
from bastide.access.totp import SET_BACK
from bastide.access.webauthn import ANSWER_LIMIT, Refused, Site, finish_login, finish_registration
from bastide.base.errors import AlreadyExists, AuthenticationFailed, HostFailure, InvalidParameter, NotFound
from bastide.model.factors import MOST_ENTRIES
from bastide.state.memory import MemoryStore
from framework.security_key import SecurityKey

pytestmark = pytest.mark.anyio

ADA, BOB = "ada@pve", "bob@pve"
SITE = Site("pve.example.org", "Bastide", "https://pve.example.org:8006")


class House:
    """Factors over a store in memory, at a time that is set."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_800_000_000.0
        self.store = MemoryStore()
        self.seal = Seal(folder / "access" / "factors.key")
        clock = lambda: self.now  # noqa: E731
        self.tickets = Tickets(SigningKeys(folder / "access" / "tickets.key", clock), clock)
        self.book = FactorBook(self.store, self.seal, clock)
        self.second = SecondStep(self.store, self.tickets, self.seal, clock)

    async def totp(self, userid: str = ADA) -> pyotp.TOTP:
        """A source of codes of the user, whose present code is spent."""
        maker = pyotp.TOTP(b32encode(secrets.token_bytes(20)).decode())
        await self.book.add_totp(
            userid, maker.provisioning_uri(name=userid, issuer_name="Bastide"), maker.at(int(self.now))
        )
        self.now += 30
        return maker

    async def ticket(self, userid: str = ADA, site: Site | None = SITE) -> str:
        half = await self.second.ask(userid, site)
        assert half is not None
        return half.ticket

    async def fails(self, answer: str, ticket: str | None = None, userid: str = ADA, site: Site | None = SITE) -> None:
        with pytest.raises(AuthenticationFailed):
            await self.second.answer(userid, ticket or await self.ticket(userid), answer, site)

    async def passes(self, answer: str, ticket: str | None = None, userid: str = ADA) -> None:
        await self.second.answer(userid, ticket or await self.ticket(userid), answer, SITE)

    def code(self, maker: pyotp.TOTP, steps: int = 0) -> str:
        return f"totp:{maker.at(int(self.now) + 30 * steps)}"

    async def key(self, userid: str = ADA, site: Site = SITE) -> SecurityKey:
        key = SecurityKey()
        challenge, value = key.register(await self.book.begin_webauthn(userid, site, "blue key"), site.origin)
        await self.book.finish_webauthn(userid, site, challenge, value)
        return key


def asked(ticket: str) -> dict[str, Any]:
    return json.loads(unquote(ticket.removeprefix("PVE:!tfa!").partition(":")[0]))  # type: ignore[no-any-return]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_who_has_no_factor_is_not_asked(house: House) -> None:
    assert await house.second.ask(ADA, SITE) is None
    await house.totp(BOB)
    assert await house.second.ask(ADA, SITE) is None
    [(_, entry)] = (await house.book.get(BOB)).entries()
    await house.book.update(BOB, entry.id, enable=False, description="old phone")
    assert await house.second.ask(BOB, SITE) is None, "what is disabled is not asked for"


async def test_codes_of_one_step_around_now_are_right_once(house: House) -> None:
    maker = await house.totp()
    house.now += 300
    await house.fails(house.code(maker, -2))
    await house.fails(house.code(maker, 2))
    await house.passes(house.code(maker, -1))
    await house.fails(house.code(maker, -1))
    await house.passes(house.code(maker, 1))
    await house.fails(house.code(maker, 0))
    house.now += 60
    await house.passes(house.code(maker))


async def test_a_code_is_spent_by_the_registration_that_it_proved(house: House) -> None:
    maker = await house.totp()
    await house.fails(house.code(maker, -1))


async def test_a_clock_that_was_set_back_far_locks_nobody_out(house: House) -> None:
    maker = await house.totp()
    house.now += 3600
    await house.passes(house.code(maker))
    house.now -= 60
    await house.fails(house.code(maker))
    house.now -= 30 * (SET_BACK + 2)
    await house.passes(house.code(maker))


async def test_eight_wrong_codes_in_a_row_lock_totp_alone(house: House, caplog: pytest.LogCaptureFixture) -> None:
    maker = await house.totp()
    codes = await house.book.add_recovery(ADA)
    for _ in range(7):
        await house.fails("totp:000000")
    await house.passes(house.code(maker))
    house.now += 60
    for _ in range(8):
        await house.fails("totp:000000")
    assert "TOTP of ada@pve is locked" in caplog.text
    await house.fails(house.code(maker))
    half = await house.second.ask(ADA, SITE)
    assert half is not None
    assert half.kinds == ("recovery",), "what is locked is not asked for"
    await house.passes(f"recovery:{codes[0]}")
    await house.passes(house.code(maker))


async def test_an_administrator_unlocks(house: House, caplog: pytest.LogCaptureFixture) -> None:
    maker = await house.totp()
    for _ in range(8):
        await house.fails("totp:000000")
    assert await house.book.unlock(ADA)
    assert "were unlocked" in caplog.text
    assert not await house.book.unlock(ADA)
    assert not await house.book.unlock("nobody@pve")
    await house.passes(house.code(maker))


async def test_a_hundred_other_wrong_answers_lock_all_for_an_hour(house: House) -> None:
    maker = await house.totp()
    codes = await house.book.add_recovery(ADA)
    for _ in range(99):
        await house.fails("recovery:0000-0000-0000-0000")
    await house.passes(f"recovery:{codes[0]}")
    for _ in range(100):
        await house.fails("yubico:x")
    assert (await house.second.ask(ADA, SITE)).kinds == ()  # type: ignore[union-attr]
    house.now += 3599
    await house.fails(f"recovery:{codes[1]}")
    await house.fails(house.code(maker))
    house.now += 2
    await house.passes(house.code(maker))
    await house.passes(f"recovery:{codes[1]}")


async def test_recovery_codes_are_ten_and_good_once(house: House) -> None:
    codes = await house.book.add_recovery(ADA)
    assert len(set(codes)) == 10
    with pytest.raises(AlreadyExists):
        await house.book.add_recovery(ADA)
    await house.passes(f"recovery: {codes[3].upper()} ")
    await house.fails(f"recovery:{codes[3]}")
    await house.fails("recovery:")
    assert asked(await house.ticket())["recovery"] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    for index in (0, 1, 2, 4, 5, 6, 7, 8, 9):
        await house.passes(f"recovery:{codes[index]}")
    half = await house.second.ask(ADA, SITE)
    assert half is not None, "who has used all codes is not let in by the password alone"
    await house.fails("recovery:")
    entry = await house.store.get(f"factor/{ADA}")
    assert entry is not None
    assert not any(code.replace("-", "") in entry.value for code in codes)


async def test_a_half_ticket_is_one_users_for_one_answer_and_five_minutes(house: House) -> None:
    maker, other = await house.totp(), await house.totp(BOB)
    ticket = await house.ticket()
    await house.fails(house.code(maker), "PVE:!tfa!%7B%7D:FFFFFFFF::AAAA")
    await house.fails(house.code(other), ticket, BOB)
    for damaged in (ticket[:-2] + "A=", ticket.replace("totp", "t0tp"), ticket + " ", ticket[4:], ""):
        await house.fails(house.code(maker), damaged or "x")
    with pytest.raises(AuthenticationFailed):
        house.tickets.verify(ticket)
    await house.passes(house.code(maker), ticket)
    house.now += 60
    await house.fails(house.code(maker), ticket)
    ticket = await house.ticket()
    house.now += HALF_LIFETIME + 1
    await house.fails(house.code(maker), ticket)
    ticket = await house.ticket()
    await house.book.add_recovery(ADA)
    await house.fails(house.code(maker), ticket)
    await house.passes(house.code(maker))


async def test_a_whole_ticket_is_no_half_one(house: House) -> None:
    maker = await house.totp()
    await house.fails(house.code(maker), house.tickets.issue(ADA)[0])


async def test_a_wrong_answer_leaves_the_half_ticket_good(house: House) -> None:
    maker = await house.totp()
    ticket = await house.ticket()
    await house.fails("totp:000000", ticket)
    await house.passes(house.code(maker), ticket)


async def test_a_security_key_answers_for_its_site_alone(house: House, caplog: pytest.LogCaptureFixture) -> None:
    key = await house.key()
    options = asked(await house.ticket())["webauthn"]["publicKey"]
    assert (options["rpId"], len(options["allowCredentials"])) == ("pve.example.org", 1)
    ticket = await house.ticket()
    for origin in (
        "https://evil.example",
        "https://pve.example.org",
        "http://pve.example.org:8006",
        "null",
        "https://[",
    ):
        await house.fails("webauthn:" + key.answer(asked(ticket)["webauthn"], origin), ticket)
    stranger = SecurityKey()
    stranger.id = key.id
    await house.fails("webauthn:" + stranger.answer(asked(ticket)["webauthn"], SITE.origin), ticket)
    answer = "webauthn:" + key.answer(asked(ticket)["webauthn"], SITE.origin)
    await house.fails(answer, await house.ticket())  # to another challenge
    await house.fails(answer, ticket, site=None)
    await house.passes(answer, ticket)
    await house.fails(answer, ticket)
    elsewhere = Site("other.example.org", "Bastide", "https://other.example.org")
    assert (await house.second.ask(ADA, elsewhere)).kinds == ()  # type: ignore[union-attr]
    assert (await house.second.ask(ADA, None)).kinds == ()  # type: ignore[union-attr]


async def test_a_copy_of_a_security_key_is_noticed(house: House) -> None:
    key = await house.key()
    ticket = await house.ticket()
    await house.passes("webauthn:" + key.answer(asked(ticket)["webauthn"], SITE.origin), ticket)
    key.counter -= 1
    ticket = await house.ticket()
    await house.fails("webauthn:" + key.answer(asked(ticket)["webauthn"], SITE.origin), ticket)


async def test_a_disabled_security_key_is_neither_asked_nor_taken(house: House) -> None:
    key, _ = await house.key(), await house.totp()
    ticket = await house.ticket()
    answer = "webauthn:" + key.answer(asked(ticket)["webauthn"], SITE.origin)
    [entry] = (await house.book.get(ADA)).webauthn
    await house.book.update(ADA, entry.id, enable=False, description=None)
    assert "webauthn" not in asked(await house.ticket())
    await house.fails(answer, ticket)


async def test_subdomains_are_a_site_where_that_is_configured() -> None:
    wide = Site("example.org", "B", "https://example.org", subdomains=True)
    assert wide.is_own("https://pve.example.org:8006")
    assert not wide.is_own("http://pve.example.org")
    assert not wide.is_own("https://notexample.org")
    assert not SITE.is_own("https://a.pve.example.org:8006")


async def test_a_registration_is_answered_once_and_in_time(house: House) -> None:
    key = SecurityKey()
    challenge, value = key.register(await house.book.begin_webauthn(ADA, SITE), SITE.origin)
    with pytest.raises(InvalidParameter, match="challenge"):
        await house.book.finish_webauthn(BOB, SITE, challenge, value)
    with pytest.raises(InvalidParameter, match="value"):
        await house.book.finish_webauthn(
            ADA, SITE, challenge, value.replace('attestationObject": "o2', 'attestationObject": "AA')
        )
    with pytest.raises(InvalidParameter, match="challenge"):
        await house.book.finish_webauthn(ADA, SITE, challenge, value)
    challenge, value = key.register(await house.book.begin_webauthn(ADA, SITE), "https://evil.example")
    with pytest.raises(InvalidParameter, match="origin"):
        await house.book.finish_webauthn(ADA, SITE, challenge, value)
    challenge, value = key.register(await house.book.begin_webauthn(ADA, SITE), SITE.origin)
    house.now += 301
    with pytest.raises(InvalidParameter, match="begin again"):
        await house.book.finish_webauthn(ADA, SITE, challenge, value)
    challenge, value = key.register(await house.book.begin_webauthn(ADA, SITE), SITE.origin)
    await house.book.finish_webauthn(ADA, SITE, challenge, value)
    excluded = json.loads(await house.book.begin_webauthn(ADA, SITE))["publicKey"]["excludeCredentials"]
    assert len(excluded) == 1, "the browser does not register a key twice"
    challenge, value = key.register(await house.book.begin_webauthn(ADA, SITE), SITE.origin)
    with pytest.raises(AlreadyExists):
        await house.book.finish_webauthn(ADA, SITE, challenge, value)


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda raw: json.dumps({"response": raw.hex()}))))
@settings(max_examples=50)
def test_what_is_no_security_keys_answer_is_refused(text: str) -> None:
    for read in (
        lambda: finish_registration(SITE, "AAAA", text),
        lambda: finish_login(SITE, (), "AAAA", text),
    ):
        with pytest.raises(Refused):
            read()


def test_a_deep_or_huge_answer_is_refused() -> None:
    for text in ("[" * 60_000, "x" * (ANSWER_LIMIT + 1), '{"a":' * 20_000):
        with pytest.raises(Refused):
            finish_login(SITE, (), "AAAA", text)


async def test_entries_are_described_removed_and_counted(house: House, caplog: pytest.LogCaptureFixture) -> None:
    await house.totp()
    await house.book.add_recovery(ADA)
    kinds = [kind for kind, _ in (await house.book.get(ADA)).entries()]
    assert kinds == ["totp", "recovery"]
    [(_, entry), _] = (await house.book.get(ADA)).entries()
    await house.book.update(ADA, entry.id, enable=None, description="phone")
    assert (await house.book.entry(ADA, entry.id))[1].description == "phone"
    with pytest.raises(InvalidParameter):
        await house.book.update(ADA, "recovery", enable=False, description=None)
    for missing in ("nope", ""):
        with pytest.raises(NotFound):
            await house.book.remove(ADA, missing)
        with pytest.raises(NotFound):
            await house.book.update(ADA, missing, enable=True, description=None)
    await house.book.remove(ADA, "recovery")
    assert "last second factor" not in caplog.text
    await house.book.remove(ADA, entry.id)
    assert "the last second factor of ada@pve" in caplog.text
    assert await house.second.ask(ADA, SITE) is None


async def test_entries_of_one_type_have_an_end(house: House) -> None:
    for _ in range(MOST_ENTRIES):
        await house.totp()
    with pytest.raises(InvalidParameter, match="remove one first"):
        await house.totp()


async def test_secrets_of_codes_are_sealed_for_one_user_and_entry(house: House, tmp_path: Path) -> None:
    maker = await house.totp()
    entry = await house.store.get(f"factor/{ADA}")
    assert entry is not None
    assert maker.secret not in entry.value
    file = tmp_path / "access/factors.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await house.store.put(f"factor/{BOB}", entry.value.replace(ADA, BOB))
    await house.fails(house.code(maker), userid=BOB)
    await house.passes(house.code(maker))


async def test_a_lost_key_file_lets_nobody_in(house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    maker = await house.totp()
    (tmp_path / "access/factors.key").unlink()
    lost = House(tmp_path)
    lost.now = house.now
    entry = await house.store.get(f"factor/{ADA}")
    assert entry is not None
    await lost.store.put(entry.key, entry.value)
    await lost.fails(house.code(maker))
    assert "factors.key" in caplog.text
    with pytest.raises(HostFailure):
        lost.seal.open("AAAA", "x")


async def test_no_secret_is_logged(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    maker = await house.totp()
    codes = await house.book.add_recovery(ADA)
    await house.fails("totp:123456")
    await house.fails("recovery:dead-beef")
    await house.passes(f"recovery:{codes[0]}")
    assert not [text for text in (maker.secret, "123456", "dead-beef", codes[0], codes[1]) if text in caplog.text]
    shown = repr(await house.book.get(ADA))
    assert "sealed" not in shown
    assert "salt" not in shown
