"""`/access/tfa` and the login in two steps, as clients speak to them."""

import json
import re
import time
from typing import Any
from urllib.parse import unquote

import httpx
import pyotp
import pytest

from bastide.access.throttle import Throttle
from framework.api import Api, call
from framework.security_key import SecurityKey

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse 1"
ORIGIN = "https://pve:8006"


class Person:
    """Ada, logged in by the password alone."""

    def __init__(self, api: Api, ticket: dict[str, Any]) -> None:
        self.api, self.userid = api, ticket["username"]
        self.headers = {
            "cookie": f"PVEAuthCookie={ticket['ticket']}",
            "CSRFPreventionToken": ticket["CSRFPreventionToken"],
        }

    async def ask(self, method: str, path: str, **values: Any) -> httpx.Response:
        where = "params" if method in ("GET", "DELETE") else "data"
        return await self.api.client.request(method, path, headers=self.headers, **{where: values})  # type: ignore[arg-type]

    async def data(self, method: str, path: str, **values: Any) -> Any:
        answer = await self.ask(method, path, **values)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def totp(self) -> pyotp.TOTP:
        """A source of codes, whose present code is spent and its next one is not."""
        maker = pyotp.TOTP(pyotp.random_base32())
        uri = maker.provisioning_uri(name=self.userid, issuer_name="Bastide")
        await self.data("POST", f"/access/tfa/{self.userid}", type="totp", totp=uri, value=maker.now(),
                        description="phone", password=PASSWORD)  # fmt: skip
        return maker

    async def key(self) -> SecurityKey:
        path, key = f"/access/tfa/{self.userid}", SecurityKey()
        asked = (await self.data("POST", path, type="webauthn", description="blue", password=PASSWORD))["challenge"]
        challenge, value = key.register(asked, ORIGIN)
        await self.data("POST", path, type="webauthn", challenge=challenge, value=value, password=PASSWORD)
        return key


async def login(api: Api, userid: str = "ada@pve", password: str = PASSWORD, **more: str) -> httpx.Response:
    return await api.client.post("/access/ticket", data={"username": userid, "password": password, **more})


async def person(api: Api, userid: str = "ada@pve", role: str | None = None) -> Person:
    await api.data("POST", "/access/users", userid=userid, password=PASSWORD)
    if role is not None:
        await api.data("PUT", "/access/acl", path="/", users=userid, roles=role)
    return Person(api, (await login(api, userid)).json()["data"])


@pytest.fixture
async def ada(api: Api) -> Person:
    return await person(api)


def next_code(maker: pyotp.TOTP) -> str:
    """A code that is early by a step, which no test has to wait for."""
    return maker.at(int(time.time()) + 30)


def challenge_of(half: dict[str, Any]) -> dict[str, Any]:
    found = re.match(r"PVE:!tfa!([^:]+):[0-9A-F]{8}::", half["ticket"])
    assert found is not None
    return json.loads(unquote(found[1]))  # type: ignore[no-any-return]


async def test_a_login_in_two_steps(api: Api, ada: Person) -> None:
    maker = await ada.totp()
    half = (await login(api)).json()["data"]
    assert half["NeedTFA"] == 1
    assert half["username"] == "ada@pve"
    assert "cap" not in half
    assert challenge_of(half) == {"totp": True}
    for wrong in ("totp:000000", next_code(maker), PASSWORD):  # fewer than are slowed down
        assert (await login(api, password=wrong, **{"tfa-challenge": half["ticket"]})).status_code == 401
    answer = await login(api, password=f"totp:{next_code(maker)}", **{"tfa-challenge": half["ticket"]})
    whole = answer.json()["data"]
    assert whole["ticket"].startswith("PVE:ada@pve:")
    assert "NeedTFA" not in whole
    assert (await Person(api, whole).ask("GET", "/version")).status_code == 200
    renewed = (await login(api, password=whole["ticket"])).json()["data"]
    assert "NeedTFA" not in renewed, "a ticket renews itself without a second factor"
    assert (await ada.ask("GET", "/version")).status_code == 200, "tickets of before stay"


async def test_otp_gives_the_code_at_once(api: Api, ada: Person) -> None:
    maker = await ada.totp()
    assert (await login(api, otp="000000")).status_code == 401
    whole = (await login(api, otp=next_code(maker))).json()["data"]
    assert whole["ticket"].startswith("PVE:ada@pve:")
    codes = (await ada.data("POST", "/access/tfa/ada@pve", type="recovery", password=PASSWORD))["recovery"]
    assert "cap" in (await login(api, otp=f"recovery:{codes[0]}")).json()["data"]
    assert (await login(api, otp=f"recovery:{codes[0]}")).status_code == 401


async def test_a_half_ticket_is_nobodys_ticket(api: Api, ada: Person) -> None:
    await ada.totp()
    half = (await login(api)).json()["data"]
    for headers in (
        {"cookie": f"PVEAuthCookie={half['ticket']}", "CSRFPreventionToken": half["CSRFPreventionToken"]},
        {"authorization": f"PVEAuthCookie={half['ticket']}", "CSRFPreventionToken": half["CSRFPreventionToken"]},
        {"authorization": f"PVEAPIToken={half['ticket']}"},
    ):
        for method, path in (("GET", "/version"), ("POST", "/access/tfa/ada@pve"), ("PUT", "/bastide/session")):
            assert (await api.client.request(method, path, headers=headers)).status_code == 401
    assert (await login(api, password=half["ticket"])).status_code == 401, "nor does it renew itself"
    lent = {**ada.headers, "CSRFPreventionToken": half["CSRFPreventionToken"]}
    assert (await api.client.post("/pools", data={"poolid": "p"}, headers=lent)).status_code == 401


async def test_the_pages_login_in_two_steps(api: Api, ada: Person) -> None:
    maker = await ada.totp()
    where = "/bastide/session"
    credentials = {"username": "ada", "realm": "pve"}
    begun = await api.client.post(where, json={**credentials, "password": PASSWORD})
    assert "set-cookie" not in begun.headers
    asked = begun.json()["data"]
    assert asked["factors"] == ["totp"]
    answer = {**credentials, "password": f"totp:{next_code(maker)}", "tfa-challenge": asked["challenge"]}
    done = await api.client.post(where, json=answer)
    assert done.json()["data"]["username"] == "ada@pve"
    assert "PVEAuthCookie=PVE%3Aada%40pve%3A" in done.headers["set-cookie"]


async def test_a_security_key_logs_in(api: Api, ada: Person) -> None:
    key = await ada.key()
    half = (await login(api)).json()["data"]
    answer = key.answer(challenge_of(half)["webauthn"], ORIGIN)
    assert (await login(api, password=f"webauthn:{answer}", **{"tfa-challenge": half["ticket"]})).status_code == 200
    half = (await login(api)).json()["data"]
    answer = key.answer(challenge_of(half)["webauthn"], "https://evil.example")
    assert (await login(api, password=f"webauthn:{answer}", **{"tfa-challenge": half["ticket"]})).status_code == 401


async def test_the_site_of_security_keys_is_configured(api: Api, ada: Person) -> None:
    await api.data("PUT", "/cluster/options", webauthn="rp=Our house,id=example.org,origin=https://pve.example.org")
    options = await api.data("GET", "/cluster/options")
    assert options["webauthn"] == "rp=Our house,id=example.org,origin=https://pve.example.org"
    asked = await ada.data("POST", "/access/tfa/ada@pve", type="webauthn", password=PASSWORD)
    assert json.loads(asked["challenge"])["publicKey"]["rp"] == {"name": "Our house", "id": "example.org"}
    await api.data("PUT", "/cluster/options", delete="webauthn")
    assert "webauthn" not in await api.data("GET", "/cluster/options")
    for values, status in (
        ({"webauthn": "id=10.0.0.1"}, 400), ({"delete": "nope"}, 400), ({"delete": "keyboard"}, 501),
        ({"keyboard": "de"}, 501), ({"webauthn": "id=a.example", "delete": "webauthn"}, 400),
    ):  # fmt: skip
        assert (await call(api.root, "PUT", "/cluster/options", **values)).status_code == status, values


async def test_a_page_that_is_open_by_its_address_has_no_security_keys(api: Api, ada: Person) -> None:
    values = {"type": "webauthn", "password": PASSWORD}
    for host in ("10.0.0.1:8006", "[fd00::1]:8006", "[", "a b"):
        answer = await api.client.post("/access/tfa/ada@pve", data=values, headers={**ada.headers, "host": host})
        assert answer.status_code == 400, host
        assert "name" in answer.json()["errors"]["type"]


async def test_who_changes_factors_confirms_with_the_own_password(api: Api, ada: Person) -> None:
    boss = await person(api, "boss@pve", "Administrator")
    maker = await ada.totp()
    [entry] = await ada.data("GET", "/access/tfa/ada@pve")
    assert {key: entry[key] for key in ("type", "description", "enable")} == {
        "type": "totp", "description": "phone", "enable": 1,
    }  # fmt: skip
    path = f"/access/tfa/ada@pve/{entry['id']}"
    for who in (ada, boss):
        for method, values in (("PUT", {"enable": "0"}), ("DELETE", {}), ("POST", {"type": "recovery"})):
            there = path if method != "POST" else "/access/tfa/ada@pve"
            assert (await who.ask(method, there, **values)).status_code == 400
            assert (await who.ask(method, there, **values, password="wrong one")).status_code == 401
            ticket = who.headers["cookie"].partition("=")[2]
            assert (await who.ask(method, there, **values, password=ticket)).status_code in (400, 401)
    await boss.data("PUT", path, description="old phone", password=PASSWORD)
    assert (await boss.data("GET", path))["description"] == "old phone"
    await ada.data("DELETE", path, password=PASSWORD)
    assert await ada.data("GET", "/access/tfa/ada@pve") == []
    assert (await login(api)).json()["data"].get("NeedTFA") is None
    assert maker.secret


async def test_others_and_roots_factors(api: Api, ada: Person) -> None:
    boss = await person(api, "boss@pve", "Administrator")
    auditor = await person(api, "watch@pve", "PVEAuditor")
    await ada.totp()
    assert [row["userid"] for row in await boss.data("GET", "/access/tfa")] == ["ada@pve"]
    assert await boss.data("GET", "/access/tfa/ada@pve") == await auditor.data("GET", "/access/tfa/ada@pve")
    stranger = await person(api, "bob@pve")
    assert await stranger.data("GET", "/access/tfa") == []
    assert (await stranger.ask("GET", "/access/tfa/ada@pve")).status_code == 403
    for who in (auditor, stranger):
        for method, path in (("POST", "/access/tfa/ada@pve"), ("PUT", "/access/users/ada@pve/unlock-tfa")):
            assert (await who.ask(method, path, type="recovery", password=PASSWORD)).status_code == 403
    for method, path, values in (
        ("POST", "/access/tfa/root@pam", {"type": "recovery", "password": PASSWORD}),
        ("DELETE", "/access/tfa/root@pam/recovery", {"password": PASSWORD}),
        ("PUT", "/access/tfa/root@pam/recovery", {"password": PASSWORD}),
        ("PUT", "/access/users/root@pam/unlock-tfa", {}),
    ):
        assert (await boss.ask(method, path, **values)).status_code == 403, path
    assert len((await api.data("POST", "/access/tfa/root@pam", type="recovery"))["recovery"]) == 10


async def test_a_token_has_no_factors_to_change_and_needs_none(api: Api) -> None:
    token = await api.token(grants={"/": "Administrator"})
    codes = (await api.data("POST", "/access/tfa/ada@pve", type="recovery"))["recovery"]
    assert (await token.get("/version")).status_code == 200
    assert (await token.get("/access/tfa/ada@pve")).status_code == 200
    for method, path in (
        ("POST", "/access/tfa/ada@pve"), ("PUT", "/access/tfa/ada@pve/recovery"),
        ("DELETE", "/access/tfa/ada@pve/recovery"),
    ):  # fmt: skip
        answer = await call(token, method, path, type="recovery", password=PASSWORD)
        assert answer.status_code == 403
    assert codes[0] not in (await token.get("/access/tfa")).text


async def test_locks_are_shown_and_lifted(api: Api, ada: Person) -> None:
    await ada.totp()
    for number in range(8):
        half = (await api.client.post("/access/ticket", data={"username": "ada@pve", "password": PASSWORD})).json()
        with_ = {"tfa-challenge": half["data"]["ticket"]}
        api.services.access._second_throttle._failures.clear()  # its delays have a test of their own
        assert (await login(api, password=f"totp:{number:06}", **with_)).status_code == 401
    [row] = await api.data("GET", "/access/tfa")
    assert row["totp-locked"] == 1
    rows = await api.data("GET", "/access/users")
    assert [row["userid"] for row in rows if row.get("totp-locked")] == ["ada@pve"]
    assert challenge_of((await login(api)).json()["data"]) == {}
    assert await api.data("PUT", "/access/users/ada@pve/unlock-tfa") == 1
    assert await api.data("PUT", "/access/users/ada@pve/unlock-tfa") == 0
    assert challenge_of((await login(api)).json()["data"]) == {"totp": True}


async def test_answers_that_follow_fast_are_not_looked_at(api: Api, ada: Person) -> None:
    """A right first step forgives nothing of the second."""
    maker = await ada.totp()
    api.services.access._second_throttle = Throttle(lambda: 0.0)
    for _ in range(5):
        half = (await login(api)).json()["data"]["ticket"]
        await login(api, password="totp:000000", **{"tfa-challenge": half})
    half = (await login(api)).json()["data"]["ticket"]
    right = await login(api, password=f"totp:{next_code(maker)}", **{"tfa-challenge": half})
    assert right.status_code == 401


async def test_types_as_old_and_new_clients_ask_for_them(api: Api, ada: Person) -> None:
    path = "/access/users/ada@pve/tfa"
    assert (await ada.data("GET", path), await ada.data("GET", path, multiple=1)) == ({}, {"types": []})
    await ada.totp()
    await ada.key()
    assert await ada.data("GET", path) == {"user": "oath"}
    assert await ada.data("GET", path, multiple=1) == {"types": ["totp", "webauthn"]}


async def test_a_user_of_a_name_that_was_used_has_no_factors(api: Api, ada: Person) -> None:
    await ada.totp()
    await api.data("DELETE", "/access/users/ada@pve")
    assert await api.data("GET", "/access/tfa") == []
    again = await person(api)
    assert await again.data("GET", "/access/tfa/ada@pve") == []
    await again.totp()
    await api.services.rooms.store.delete("user/ada@pve")  # a removal that was cut short
    assert await api.data("GET", "/access/tfa") == []
    third = await person(api)
    assert await third.data("GET", "/access/tfa/ada@pve") == []


async def test_faulty_factors_are_named(api: Api, ada: Person) -> None:
    path = "/access/tfa/ada@pve"
    uri = "otpauth://totp/x?secret=" + "A" * 32
    for values, status, named in (
        ({"type": "totp"}, 400, "totp"),
        ({"type": "totp", "totp": uri}, 400, "value"),
        ({"type": "totp", "totp": uri, "value": "000"}, 400, "value"),
        ({"type": "totp", "totp": "x", "value": "000000"}, 400, "totp"),
        ({"type": "webauthn", "value": "{}"}, 400, "challenge"),
        ({"type": "webauthn", "challenge": "x"}, 400, "value"),
        ({"type": "webauthn", "challenge": "x", "value": "{}"}, 400, "challenge"),
        ({"type": "sms"}, 400, "type"),
        ({"type": "u2f"}, 501, None),
        ({"type": "yubico"}, 501, None),
    ):
        answer = await ada.ask("POST", path, **values, password=PASSWORD)
        assert answer.status_code == status, values
        assert named is None or named in answer.json()["errors"], values
    for method in ("GET", "PUT", "DELETE"):
        answer = await ada.ask(method, f"{path}/nope", **({} if method == "GET" else {"password": PASSWORD}))
        assert "no such TFA entry 'nope'" in answer.json()["message"]
    assert "no such user" in (await call(api.root, "POST", "/access/tfa/no@pve", type="recovery")).json()["message"]
