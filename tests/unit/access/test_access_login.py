"""Logging in: the right password, the constant pace of wrong ones, throttling, and PAM."""

import asyncio
import itertools
import logging
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import argon2
import pytest

from bastide.access.access import Access
from bastide.access.throttle import Throttle
from bastide.base.errors import AuthenticationFailed, InvalidParameter, NotSupported
from bastide.base.layout import Layout
from bastide.model.access import Identity, User
from bastide.state.memory import MemoryStore

PASSWORD = "correct horse"


async def make(folder: Path, pace: float = 0) -> Access:
    access = Access(MemoryStore(), "node1", Layout(folder), pace=pace)
    await access.users.create(User(userid="ada@pve"), PASSWORD)
    return access


ADDRESSES = itertools.count()


async def fails(access: Access, userid: str, password: str, address: str | None = None) -> float:
    address = f"198.51.100.{next(ADDRESSES) % 256}" if address is None else address
    begun = time.perf_counter()
    with pytest.raises(AuthenticationFailed, match=r"^authentication failure$"):
        await access.authenticate(userid, password, address)
    return time.perf_counter() - begun


@pytest.mark.anyio
async def test_only_the_right_password_logs_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    access = await make(tmp_path)
    assert await access.authenticate("ada@pve", PASSWORD) == Identity("ada@pve")
    for userid, password in [
        ("ada@pve", PASSWORD + "x"),
        ("ada@pve", ""),
        ("ada@pve", "\0"),
        ("ada@pve", "x" * 5000),
        ("Ada@pve", PASSWORD),
        ("ada@pam", PASSWORD),
        ("ada", PASSWORD),
        ("", PASSWORD),
        ("ada@pve\n", PASSWORD),
        ("ada@pve", "\ud800"),
    ]:
        await fails(access, userid, password)
    await access.users.set_password("ada@pve", "another one")
    await fails(access, "ada@pve", PASSWORD)
    await access.authenticate("ada@pve", "another one")
    await access.users.update("ada@pve", {"enable": False})
    await fails(access, "ada@pve", "another one")
    await access.users.create(User(userid="bob@pve"))
    await fails(access, "bob@pve", PASSWORD)
    assert PASSWORD not in caplog.text


@pytest.mark.anyio
async def test_wrong_logins_are_answered_at_one_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = await make(tmp_path, pace=0.4)

    async def verify(stored: str | None, _password: str) -> bool:
        await asyncio.sleep(0.2 if stored else 0)
        return False

    monkeypatch.setattr(access._passwords, "verify_hash", verify)
    fastest = [
        min(await asyncio.gather(*(fails(access, userid, "wrong") for _ in range(4))))
        for userid in ("ada@pve", "nobody@pve", "x@y", "ada@pam", "")
    ]
    assert min(fastest) >= 0.399
    assert max(fastest) - min(fastest) < 0.1


@pytest.mark.anyio
async def test_an_unknown_user_costs_a_hash_too(tmp_path: Path) -> None:
    access = await make(tmp_path)
    await access._passwords.verify_hash(None, "warm up")
    known, unknown = [], []
    for _ in range(5):
        for userid, spent in (("ada@pve", known), ("nobody@pve", unknown)):
            begun = time.process_time()  # of the processor, which a busy machine does not change
            await fails(access, userid, "wrong")
            spent.append(time.process_time() - begun)
    assert min(unknown) > min(known) / 2


@pytest.mark.anyio
async def test_guessing_is_slowed_down_for_the_guesser_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = await make(tmp_path)
    looked_at = 0

    async def verify(_stored: str | None, _password: str) -> bool:
        nonlocal looked_at
        looked_at += 1
        return False

    monkeypatch.setattr(access._passwords, "verify_hash", verify)
    await asyncio.gather(*(fails(access, "ada@pve", str(number), "192.0.2.1") for number in range(1000)))
    assert looked_at == 5
    monkeypatch.undo()
    await fails(access, "ada@pve", PASSWORD, "192.0.2.1")
    await access.authenticate("ada@pve", PASSWORD, "192.0.2.2")


@pytest.mark.anyio
async def test_many_right_logins_at_once_are_let_in(tmp_path: Path) -> None:
    access = await make(tmp_path)
    await asyncio.gather(*(access.authenticate("ada@pve", PASSWORD, "192.0.2.1") for _ in range(20)))
    assert access._throttle._turns == {}


def test_the_delay_grows_and_is_forgotten() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    waits = []
    for _ in range(20):
        begun = now
        while throttle.blocked("ada@pve", "2001:db8::1"):
            now += 0.5
        waits.append(now - begun)
        throttle.failed("ada@pve", f"2001:db8::{len(waits):x}")
    assert waits[:5] == [0.0] * 5
    assert waits[5:12] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert max(waits) == 60.0
    assert not throttle.blocked("ada@pve", "2001:db8:0:1::1")
    throttle.succeeded("ada@pve", "2001:db8::1")
    assert not throttle.blocked("ada@pve", "2001:db8::1")
    for number in range(40):
        throttle.failed(f"user{number}@pve", "2001:db8::1")
    assert throttle.blocked("ada@pve", "2001:db8::1")
    now += 10
    assert not throttle.blocked("ada@pve", "2001:db8::1")
    now += 1000
    throttle.failed("ada@pve", "2001:db8::1")
    assert not throttle.blocked("ada@pve", "2001:db8::1")


def test_throttling_forgets_what_is_too_much_and_spares_the_host() -> None:
    throttle = Throttle(lambda: 0.0)
    for number in range(20_000):
        throttle.failed(f"user{number}@pve", f"2001:db8:{number:x}::1")
    assert len(throttle._failures) <= 8192
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        for number in range(100):
            throttle.failed(f"user{number}@pve", address)
        assert not throttle.blocked("ada@pve", address)


@pytest.mark.anyio
async def test_a_hash_of_other_parameters_is_renewed_at_the_login(tmp_path: Path) -> None:
    access = await make(tmp_path)
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    await access.users.set_hash("ada@pve", weak)
    await access.authenticate("ada@pve", PASSWORD)
    stored = (await access.users.stored("ada@pve")).password
    assert stored is not None
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await access.authenticate("ada@pve", PASSWORD)
    assert (await access.users.stored("ada@pve")).password == stored


@pytest.mark.anyio
async def test_the_systems_users_are_asked_of_pam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Pam:
        def authenticate(self, name: str, password: str, **_options: Any) -> bool:
            asked.append(name)
            return password == PASSWORD

    monkeypatch.setitem(sys.modules, "pam", SimpleNamespace(PamAuthenticator=Pam))  # type: ignore[arg-type]
    access = await make(tmp_path)
    assert await access.authenticate("root@pam", PASSWORD) == Identity("root@pam")
    await fails(access, "root@pam", "wrong")
    await fails(access, "daemon@pam", PASSWORD)
    await fails(access, "root@pam", "")
    assert asked == ["root", "root"]
    await access.users.create(User(userid="daemon@pam"))
    assert await access.authenticate("daemon@pam", PASSWORD) == Identity("daemon@pam")
    with pytest.raises(NotSupported, match="passwd"):
        await access.users.set_password("root@pam", PASSWORD)


@pytest.mark.anyio
@pytest.mark.parametrize("password", ["", "short", "with \0 nul", "x" * 2000])
async def test_a_password_that_cannot_be_is_not_set(tmp_path: Path, password: str) -> None:
    access = await make(tmp_path)
    with pytest.raises(InvalidParameter) as refusal:
        await access.users.set_password("ada@pve", password)
    assert set(refusal.value.errors) == {"password"}
    assert password not in str(refusal.value) or not password
