"""Forged, aged and misdirected tickets against a real daemon.

Attack classes 16 (forgery and confusion), 17 (other sites) and 18 (a console's ticket for another guest or port).
"""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bastide.access.access import Access
from bastide.access.keys import SigningKeys
from bastide.access.tickets import CLOCK_SKEW, LIFETIME, Tickets
from bastide.base.layout import Layout
from framework.api import Api
from framework.evil import put_template, try_create
from framework.host import Host
from framework.people import Person, person, stranger, ticket_headers
from framework.roots import busybox_tar

pytestmark = pytest.mark.system

READ, WRITE = "/access/permissions", "/access/roles"


@pytest.fixture
def ada(host: Host) -> Iterator[Person]:
    """Somebody who is logged in and may do everything."""
    with person(host, "ada-tickets", {"/": "Administrator"}) as made:
        yield made.by_ticket()


@pytest.fixture
def nobody(host: Host) -> Iterator[httpx.Client]:
    with stranger(host) as client:
        yield client


def read_status(client: httpx.Client, ticket: str) -> int:
    return client.get(READ, headers=ticket_headers(ticket)).status_code


def other(character: str) -> str:
    """A character that may stand there as well."""
    return "B" if character in "Aa" else "A"


def test_no_byte_of_a_ticket_can_be_another(ada: Person, nobody: httpx.Client) -> None:
    """Without the look at the signature in `Tickets.verify` this fails: a changed name or time is let in."""
    assert read_status(nobody, ada.ticket) == 200
    for place, character in enumerate(ada.ticket):
        forged = ada.ticket[:place] + other(character) + ada.ticket[place + 1 :]
        assert read_status(nobody, forged) == 401, f"byte {place}"
    for forged in (ada.ticket[:-1], ada.ticket + "=", ada.ticket + "A", ada.ticket.rstrip("="), f" {ada.ticket}x"):
        assert read_status(nobody, forged) == 401, forged


def test_no_byte_of_a_csrf_token_can_be_another(ada: Person, nobody: httpx.Client) -> None:
    """Without `verify_csrf` in `api/auth.py` this fails: every write is let in (400, as it names no role)."""
    right = nobody.post(WRITE, headers=ticket_headers(ada.ticket, ada.csrf), data={})
    assert right.status_code == 400
    for place, character in enumerate(ada.csrf):
        forged = ada.csrf[:place] + other(character) + ada.csrf[place + 1 :]
        assert nobody.post(WRITE, headers=ticket_headers(ada.ticket, forged), data={}).status_code == 401, place
    for wrong in (None, "", ada.ticket, ada.csrf.rpartition(":")[0]):
        assert nobody.post(WRITE, headers=ticket_headers(ada.ticket, wrong), data={}).status_code == 401, wrong


def test_no_byte_of_a_tokens_secret_can_be_another(host: Host, nobody: httpx.Client) -> None:
    """Without the comparison of the secret's digest in `Tokens.verify` this fails."""
    with person(host, "ada-secret") as ada:
        header = ada.by_token().client.headers["Authorization"]
        assert nobody.get(READ, headers={"Authorization": header}).status_code == 200
        begin = header.rindex("=") + 1
        for place in range(begin, len(header)):
            forged = header[:place] + other(header[place]) + header[place + 1 :]
            assert nobody.get(READ, headers={"Authorization": forged}).status_code == 401, place
        for forged in (header[:-1], header + "0", header[:begin], header.replace("!t=", "!T="), header.upper()):
            assert nobody.get(READ, headers={"Authorization": forged}).status_code == 401, forged


def test_no_ticket_is_taken_for_another_kind_or_user(host: Host, ada: Person, nobody: httpx.Client) -> None:
    """Without the purpose in the signature (`keys._sign`) or the name in what is signed this fails."""
    with person(host, "eve-tickets") as eve:
        eve.by_ticket()
        _, userid, at, *_ = ada.ticket.split(":")
        signature, csrf = ada.ticket.rpartition(":")[2], ada.csrf.rpartition(":")[2]
        forged = [
            *(ada.ticket.replace("PVE:", prefix, 1) for prefix in ("PVEVNC:", "PVE2:", "pve:", "PVETFA:", ":", "")),
            *(f"PVE:{name}:{at}::{signature}" for name in (
                "root@pam", eve.userid, userid.upper(), userid.replace("@pve", "@pam"), userid.replace("@pve", "@PVE"),
                f"{userid}!t", f"!tfa!{userid}", "", f"{userid} ", f" {userid}",
            )),
            f"PVE:{userid}:{at}::{csrf}", f"PVE:!tfa!{userid}:{at}::{signature}", f"PVE:{userid}:{at}:x::{signature}",
        ]  # fmt: skip
        for ticket in forged:
            assert read_status(nobody, ticket) == 401, ticket
        # One user's token against forged writes is no use with another's ticket.
        assert nobody.post(WRITE, headers=ticket_headers(ada.ticket, eve.csrf), data={}).status_code == 401
        # A ticket as an API token, and an API token as a ticket.
        assert nobody.get(READ, headers={"Authorization": f"PVEAPIToken={ada.ticket}"}).status_code == 401
        token = eve.by_token().client.headers["Authorization"].partition("=")[2]
        assert read_status(nobody, token) == 401


def test_tickets_live_for_two_hours(host: Host, ada: Person, nobody: httpx.Client) -> None:
    """Without `_is_fresh` this fails: tickets of yesterday and of tomorrow are let in."""
    keys = SigningKeys(Layout(host.root).state / "access" / "tickets.key")

    def issued(seconds: float) -> int:
        ticket, csrf = Tickets(keys, clock=lambda: time.time() + seconds).issue(ada.userid)
        written = nobody.post(WRITE, headers=ticket_headers(ada.ticket, csrf), data={}).status_code
        assert (written == 400) == (read_status(nobody, ticket) == 200)
        return read_status(nobody, ticket)

    assert [issued(0), issued(120 - LIFETIME), issued(CLOCK_SKEW / 2)] == [200, 200, 200]
    assert [issued(-LIFETIME - 5), issued(-86_400), issued(CLOCK_SKEW + 60), issued(86_400)] == [401] * 4


@pytest.mark.parametrize("change", [{"enable": 0}, {"expire": 1}])
def test_a_ticket_ends_with_its_user(host: Host, ada: Person, change: dict[str, Any]) -> None:
    """Without the look at the user in `Access.verify_ticket` this fails."""
    host.put(f"/access/users/{ada.userid}", **change)
    assert ada.status("GET", READ) == 401
    host.put(f"/access/users/{ada.userid}", enable=1, expire=0)
    assert ada.status("GET", READ) == 200
    host.delete(f"/access/users/{ada.userid}")
    assert ada.status("GET", READ) == 401


@pytest.mark.anyio
async def test_a_key_is_forgotten_after_its_time(tmp_path: Path) -> None:
    """Without the end of `_current` in `keys.py` the ticket of a key that is long past is let in. In process."""
    api = await Api.make(tmp_path)
    await api.data("POST", "/access/users", userid="ada@pve")
    file = api.services.rooms.layout.state / "access" / "tickets.key"
    ticket, _ = await api.services.access.issue_ticket("ada@pve")
    [[made, secret]] = json.loads(file.read_text())

    async def after(seconds: int) -> int:
        """What the ticket is answered with when its key was replaced so long ago and the daemon has started anew."""
        file.write_text(json.dumps([[int(time.time()) - seconds, "22" * 32], [made, secret]]))
        rooms = api.services.rooms
        fresh = Api(replace(api.services, access=Access(rooms.store, rooms.node, rooms.layout, pace=0)))
        return (await fresh.client.get(READ, headers=ticket_headers(ticket))).status_code

    assert await after(60) == 200, "a ticket lives on when the key changes"
    assert await after(LIFETIME + 400) == 401
    assert len(json.loads(file.read_text())) == 1, "the old key lies on no disk any more"
    await api.services.rooms.tasks.shutdown()


# other sites


def test_no_other_site_writes_or_opens_a_socket(host: Host, ada: Person, boxes: tuple[int, int]) -> None:
    """Without the CSRF token, or `check_origin`, this fails."""
    cookie = {"Cookie": f"PVEAuthCookie={ada.ticket}", "Origin": "https://evil.test"}
    with stranger(host) as browser:
        for method, path in (("POST", WRITE), ("PUT", "/access/acl"), ("DELETE", "/pools")):
            assert browser.request(method, path, headers=cookie).status_code == 401, path
        answer = browser.get(READ, headers=cookie)
        assert not [name for name in answer.headers if name.startswith("access-control")]
    console = f"/bastide/guests/{boxes[0]}/console"
    assert ada.socket_status(console, {}, f"https://127.0.0.1:{host.port}") == 101
    for origin in (
        "https://evil.test",
        f"http://127.0.0.1:{host.port + 1}",
        "null",
        f"https://127.0.0.1:{host.port}.evil",
    ):
        for path, params in ((console, {}), (f"/bastide/guests/{boxes[0]}/exec", {"command": "true"})):
            assert ada.socket_status(path, params, origin) == 403, (origin, path)


# consoles


@pytest.fixture(scope="module")
def boxes(host: Host) -> Iterator[tuple[int, int]]:
    """Two running containers."""
    made = []
    for _ in range(2):
        vmid, told = try_create(host, put_template(host, "small", busybox_tar()))
        assert vmid is not None, told
        host.act(vmid, "start")
        made.append(vmid)
    yield made[0], made[1]
    for vmid in made:
        host.remove(vmid)


def test_a_consoles_ticket_is_for_one_guest_user_port_and_use(host: Host, ada: Person, boxes: tuple[int, int]) -> None:
    """Without what `ConsoleTickets._verify` compares, or with `look` in place of `use`, this fails."""
    first, second = boxes

    def knock(who: Person, vmid: int, offer: dict[str, Any], **changes: Any) -> int:
        values = {"port": offer["port"], "vncticket": offer["ticket"], **changes}
        return who.socket_status(f"/nodes/{host.node}/lxc/{vmid}/vncwebsocket", values)

    def offered(vmid: int) -> dict[str, Any]:
        made: dict[str, Any] = ada.call("POST", host.path(vmid, "/termproxy")).json()["data"]
        return made

    with person(host, "eve-consoles", {"/vms": "PVEVMUser"}) as eve:
        eve.by_ticket()
        of_first, of_second = offered(first), offered(second)
        for who, vmid, changes in (
            (ada, second, {}),  # the other guest
            (ada, second, {"port": of_second["port"]}),  # ... at its own port
            (eve, first, {}),  # somebody else, who may see consoles
            (ada, first, {"vncticket": ada.ticket}),
            (ada, first, {"vncticket": of_first["ticket"][:-4] + "AAAA"}),
        ):
            assert knock(who, vmid, of_first, **changes) in (401, 403), (who.userid, vmid, changes)
    fresh = offered(first)
    assert knock(ada, first, fresh, port=fresh["port"] + 1) in (401, 403)
    fresh = offered(first)
    assert knock(ada, first, fresh) == 101
    assert knock(ada, first, fresh) in (401, 403), "a second use"


def test_the_next_guest_of_a_vmid_has_other_consoles(host: Host, ada: Person) -> None:
    """Without `_require_same_run`, the ticket shows the next one's console, and this fails."""
    template = put_template(host, "small", busybox_tar())
    vmid, told = try_create(host, template)
    assert vmid is not None, told
    host.act(vmid, "start")
    offer = ada.call("POST", host.path(vmid, "/termproxy")).json()["data"]
    host.wait(host.delete(host.path(vmid), force=1))
    host.wait(host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=template, unprivileged=1, rootfs="local:0"))
    host.act(vmid, "start")
    values = {"port": offer["port"], "vncticket": offer["ticket"]}
    path, shown = f"/nodes/{host.node}/lxc/{vmid}/vncwebsocket", list[Any]()
    with contextlib.suppress(InvalidStatus, ConnectionClosed), ada.socket(path, values) as socket:
        socket.send(f"{offer['user']}:{offer['ticket']}\n")
        shown.append(socket.recv(timeout=20))
    host.remove(vmid)
    assert shown == []
