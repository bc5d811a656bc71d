"""Tickets and tokens: forged, stretched, swapped, expired, of people who are gone."""

import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bastide.access.access import Access
from bastide.access.keys import KEEP_AFTER, ROTATE_AFTER, SigningKeys
from bastide.access.tickets import CLOCK_SKEW, CONSOLE_LIFETIME, LIFETIME, ConsoleTickets, Tickets
from bastide.base.errors import AuthenticationFailed, HostFailure, NotFound
from bastide.base.layout import Layout
from bastide.model.access import ROOT, Identity, User
from bastide.state.memory import MemoryStore

NOW = 1_800_000_000


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tickets(tmp_path: Path, clock: Clock) -> Tickets:
    return Tickets(SigningKeys(tmp_path / "access" / "tickets.key", clock), clock)


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(MemoryStore(), "node1", Layout(tmp_path), pace=0)


def refused(call: Any, *args: Any) -> bool:
    try:
        call(*args)
    except AuthenticationFailed:
        return True
    return False


def test_a_ticket_has_proxmoxs_form_and_says_who(tickets: Tickets) -> None:
    ticket, csrf = tickets.issue("ada@pve")
    assert ticket.startswith(f"PVE:ada@pve:{NOW:08X}::")
    assert csrf.startswith(f"{NOW:08X}:")
    assert tickets.verify(ticket) == "ada@pve"
    tickets.verify_csrf(csrf, "ada@pve")
    assert refused(tickets.verify_csrf, csrf, "bob@pve")
    assert refused(tickets.verify_csrf, ticket.rpartition("::")[2], "ada@pve")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_changed_ticket_is_good(tickets: Tickets, data: st.DataObject) -> None:
    ticket, csrf = tickets.issue("ada@pve")
    for text, verify in ((ticket, tickets.verify), (csrf, lambda text: tickets.verify_csrf(text, "ada@pve"))):
        spot = data.draw(st.integers(0, len(text) - 1))
        char = data.draw(st.characters(exclude_characters=text[spot]))
        assert refused(verify, text[:spot] + char + text[spot + 1 :])
        assert refused(verify, text[:spot])
        assert refused(verify, text + char)


@pytest.mark.parametrize("text", ["", "PVE:", "PVE:root@pam:00000000::", "PVEVNC:00000000::AAAA", "PVE:!tfa!x:0::A"])
def test_what_is_no_ticket_is_refused(tickets: Tickets, text: str) -> None:
    assert refused(tickets.verify, text)
    assert refused(tickets.verify_csrf, text, "root@pam")


@pytest.mark.parametrize(
    ("later", "good"), [(LIFETIME, True), (LIFETIME + 1, False), (-CLOCK_SKEW, True), (-61, False)]
)
def test_a_ticket_lives_two_hours(tickets: Tickets, clock: Clock, later: int, good: bool) -> None:
    ticket, csrf = tickets.issue("ada@pve")
    clock.now += later
    assert refused(tickets.verify, ticket) is not good
    assert refused(tickets.verify_csrf, csrf, "ada@pve") is not good


def test_the_key_changes_daily_and_the_old_one_lasts_as_long_as_its_tickets(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "access" / "tickets.key"
    keys = SigningKeys(path, clock)
    first = keys.sign("ticket", "text")
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    clock.now += ROTATE_AFTER
    second = keys.sign("ticket", "text")
    assert second != first
    again = SigningKeys(path, clock)
    assert again.verify("ticket", "text", first)
    assert again.verify("ticket", "text", second)
    assert not again.verify("csrf", "text", second)
    clock.now += KEEP_AFTER + 1
    for one in (again, keys, SigningKeys(path, clock)):
        assert not one.verify("ticket", "text", first)
        assert one.verify("ticket", "text", second)
    assert second not in path.read_text()


def test_an_unreadable_key_file_is_a_clear_failure(tmp_path: Path) -> None:
    path = tmp_path / "tickets.key"
    path.write_text("[[1]]")
    with pytest.raises(HostFailure, match="remove it, everybody logs in again"):
        SigningKeys(path).sign("ticket", "text")


@pytest.mark.anyio
async def test_a_ticket_ends_with_its_user(access: Access) -> None:
    await access.users.create(User(userid="ada@pve"), "long enough")
    ticket, _ = await access.issue_ticket("ada@pve")
    assert await access.verify_ticket(ticket) == Identity("ada@pve")
    assert await access.log_in("ada@pve", ticket) == Identity("ada@pve")
    with pytest.raises(AuthenticationFailed):
        await access.log_in("root@pam", ticket)
    with pytest.raises(AuthenticationFailed):
        await access.authenticate("ada@pve", ticket)  # a stolen ticket confirms nothing as the password
    for change in ({"enable": False}, {"enable": True, "expire": 1}):
        await access.users.update("ada@pve", change)
        with pytest.raises(AuthenticationFailed):
            await access.verify_ticket(ticket)
    await access.users.update("ada@pve", {"expire": 0})
    await access.verify_ticket(ticket)
    await access.delete_user("ada@pve")
    with pytest.raises(AuthenticationFailed):
        await access.verify_ticket(ticket)


@pytest.mark.anyio
async def test_a_token_is_good_while_it_and_its_user_are(access: Access) -> None:
    await access.users.create(User(userid="ada@pve"))
    token, secret = await access.tokens.create("ada@pve", "ci", comment="runner")
    assert secret not in repr(token)
    identity = Identity("ada@pve", "ci")
    good = f"ada@pve!ci={secret}"
    assert await access.verify_token(good) == identity
    for bad in (good[:-1], good + "a", f"ada@pve!cj={secret}", f"root@pam!ci={secret}", "ada@pve!ci=", "", secret):
        with pytest.raises(AuthenticationFailed):
            await access.verify_token(bad)
    for change in ({"expire": 1}, {"expire": 2_000_000_000}):
        await access.tokens.update("ada@pve", "ci", change)
        if change["expire"] == 1:
            with pytest.raises(AuthenticationFailed):
                await access.verify_token(good)
    assert await access.verify_token(good) == identity
    await access.users.update("ada@pve", {"enable": False})
    with pytest.raises(AuthenticationFailed):
        await access.verify_token(good)
    await access.users.update("ada@pve", {"enable": True})
    await access.delete_token("ada@pve", "ci")
    with pytest.raises(AuthenticationFailed):
        await access.verify_token(good)
    with pytest.raises(NotFound, match="no such token"):
        await access.tokens.get("ada@pve", "ci")


@pytest.mark.anyio
async def test_the_store_holds_no_secret(tmp_path: Path) -> None:
    store = MemoryStore()
    access = Access(store, "node1", Layout(tmp_path), pace=0)
    await access.users.create(User(userid="ada@pve"), "s3cret-password")
    _, secret = await access.tokens.create("ada@pve", "ci")
    kept = "".join(entry.value for entry in await store.list(""))
    assert "s3cret-password" not in kept
    assert secret not in kept
    shown = repr(await access.users.list()) + repr(await access.tokens.list()) + repr(await access.authority())
    assert "argon2" not in shown
    assert (await access.tokens.list())[0].secret == ""


def test_a_console_ticket_opens_one_door_once() -> None:
    clock = Clock()
    consoles = ConsoleTickets(clock)
    wrong = [("bob@pve", "/vms/100", 5900), ("ada@pve", "/vms/101", 5900), ("ada@pve", "/vms/100", 5901)]
    for user, path, port in wrong:
        ticket = consoles.issue("ada@pve", "/vms/100", 5900)
        assert ticket.startswith("PVEVNC:")
        assert refused(consoles.use, ticket, user, path, port)
        assert refused(consoles.use, ticket, "ada@pve", "/vms/100", 5900)
    ticket = consoles.issue("ada@pve", "/vms/100", 5900)
    consoles.look(ticket, "ada@pve", "/vms/100")
    assert refused(consoles.look, ticket, "ada@pve", "/vms/100", 5901)
    consoles.use(ticket, "ada@pve", "/vms/100", 5900)
    assert refused(consoles.use, ticket, "ada@pve", "/vms/100", 5900)
    ticket = consoles.issue(str(ROOT), "/vms/100", 5900)
    clock.now += CONSOLE_LIFETIME + 1
    assert refused(consoles.use, ticket, str(ROOT), "/vms/100", 5900)
    for _ in range(5000):
        consoles.issue(str(ROOT), "/vms/100", 5900)
    assert len(consoles._issued) <= 4096
