"""Logging in as clients do: tickets, cookies, CSRF tokens, API tokens, and who is turned away before being read."""

from urllib.parse import quote

import httpx
import pytest

from framework.api import Api, call

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse 1"


@pytest.fixture
async def ticket(api: Api) -> dict[str, str]:
    await api.data("POST", "/access/users", userid="ada@pve", password=PASSWORD)
    await api.data("PUT", "/access/acl", path="/", users="ada@pve", roles="Administrator")
    answer = await call(api.client, "POST", "/access/ticket", username="ada@pve", password=PASSWORD)
    assert answer.status_code == 200, answer.reason_phrase
    return answer.json()["data"]


def reason(answer: httpx.Response) -> str:
    assert answer.status_code == 401
    assert answer.content == b""
    return answer.status_code.reason  # type: ignore[attr-defined,no-any-return]


async def test_a_stranger_is_turned_away_before_the_body_is_read(api: Api) -> None:
    read = False

    async def body():  # type: ignore[no-untyped-def]
        nonlocal read
        read = True
        yield b"{" * 100_000

    answer = await api.client.post("/nodes/pve/lxc", content=body(), headers={"content-type": "application/json"})
    assert reason(answer) == "No ticket"
    assert not read
    assert reason(await api.client.get("/no/such/method")) == "No ticket"


async def test_login_by_form_by_query_and_with_a_realm(api: Api, ticket: dict[str, str]) -> None:
    by_query = await api.client.post("/access/ticket", params={"username": "ada@pve", "password": PASSWORD})
    by_realm = await call(api.client, "POST", "/access/ticket", username="ada", realm="pve", password=PASSWORD)
    assert by_query.json()["data"]["username"] == by_realm.json()["data"]["username"] == ticket["username"]
    assert ticket["ticket"].startswith("PVE:ada@pve:")
    assert "VM.Allocate" in by_query.json()["data"]["cap"]["vms"]


async def test_a_ticket_renews_itself_as_the_password(api: Api, ticket: dict[str, str]) -> None:
    answer = await call(api.client, "POST", "/access/ticket", username="ada@pve", password=ticket["ticket"])
    assert answer.status_code == 200


@pytest.mark.parametrize("user", ["ada@pve", "nobody@pve", "ada@nowhere", "ada", "root@pam\n"])
async def test_wrong_credentials_look_alike(api: Api, ticket: dict[str, str], user: str) -> None:
    answer = await call(api.client, "POST", "/access/ticket", username=user, password="wrong")
    if "\n" in user:
        assert answer.status_code == 400
    else:
        assert reason(answer) == "authentication failure"


@pytest.mark.parametrize(
    "header",
    [
        lambda text: {"cookie": f"PVEAuthCookie={quote(text, safe='')}"},
        lambda text: {"cookie": f"other=1; PVEAuthCookie={text}; path=/; secure"},
        lambda text: {"authorization": f"PVEAuthCookie={text}"},
    ],
)
async def test_a_ticket_comes_in_several_headers(api: Api, ticket: dict[str, str], header) -> None:  # type: ignore[no-untyped-def]
    answer = await api.client.get("/version", headers=header(ticket["ticket"]))
    assert answer.status_code == 200


async def test_a_write_with_a_ticket_needs_its_csrf_token(api: Api, ticket: dict[str, str]) -> None:
    cookie = {"cookie": f"PVEAuthCookie={ticket['ticket']}"}
    without = await api.client.post("/pools", data={"poolid": "p"}, headers=cookie)
    wrong = await api.client.post("/pools", data={"poolid": "p"}, headers={**cookie, "CSRFPreventionToken": "6:x"})
    right = await api.client.post(
        "/pools", data={"poolid": "p"}, headers={**cookie, "CSRFPreventionToken": ticket["CSRFPreventionToken"]}
    )
    assert reason(without) == reason(wrong) == "Permission denied - invalid csrf token"
    assert right.status_code == 200


async def test_a_damaged_ticket_is_told_in_the_words_clients_know(api: Api, ticket: dict[str, str]) -> None:
    text = ticket["ticket"]
    for damaged in (text[:-3] + "AAA", text.replace("ada@pve", "root@pam"), "PVE:x", "", text + "\x00"):
        answer = await api.client.get("/version", headers={"authorization": f"PVEAuthCookie={damaged}"})
        assert reason(answer) == "permission denied - invalid PVE ticket"


@pytest.mark.parametrize("separator", ["=", " "])
async def test_api_tokens_need_no_csrf_token(api: Api, separator: str) -> None:
    made = await api.data("POST", "/access/users/root@pam/token/t", privsep="0")
    header = {"authorization": f"PVEAPIToken{separator}root@pam!t={made['value']}"}
    assert (await api.client.post("/pools", data={"poolid": "p"}, headers=header)).status_code == 200
    wrong = {"authorization": f"PVEAPIToken{separator}root@pam!t=00000000-0000-0000-0000-000000000000"}
    assert reason(await api.client.get("/version", headers=wrong)) == "no such token or invalid token value!"


async def test_a_token_may_not_log_in_or_change_passwords(api: Api) -> None:
    token = await api.token(grants={"/": "Administrator"})
    answer = await call(token, "PUT", "/access/password", userid="ada@pve", password="long enough 1")
    assert answer.status_code == 403
    assert "not available with API token" in answer.json()["message"]


async def test_nobody_else_may_become_root(api: Api) -> None:
    admin = await api.token(grants={"/": "Administrator"})
    for method, path, values in (
        ("POST", "/access/users/root@pam/token/mine", {"privsep": "0"}),
        ("PUT", "/access/users/root@pam", {"enable": "0"}),
        ("DELETE", "/access/users/root@pam", {}),
    ):
        assert (await call(admin, method, path, **values)).status_code == 403, path


async def test_a_separated_token_cannot_lift_its_own_limits(api: Api) -> None:
    token = await api.token(grants={"/": "Administrator"}, privsep=1)
    for method, path, values in (
        ("PUT", "/access/users/ada@pve/token/t", {"privsep": "0"}),
        ("POST", "/access/users/ada@pve/token/u", {"privsep": "0"}),
        ("PUT", "/access/acl", {"path": "/", "tokens": "ada@pve!t", "roles": "Administrator"}),
        ("PUT", "/access/users/ada@pve", {"comment": "x"}),
    ):
        assert (await call(token, method, path, **values)).status_code == 403, path


async def test_the_realms_and_the_document_are_open_to_the_world(api: Api) -> None:
    assert [row["realm"] for row in (await api.client.get("/access/domains")).json()["data"]] == ["pam", "pve"]
    document = (await api.client.get("https://pve:8006/openapi.json")).json()
    assert document["openapi"].startswith("3.")


async def test_who_may_see_all_users_is_told_that_one_does_not_exist(api: Api) -> None:
    may = await api.token("boss@pve", grants={"/": "Administrator"})
    may_not = await api.token("guest@pve", grants={"/vms": "PVEVMUser"})
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/token")):
        seen = await call(may, method, f"/access/users/grace@pve{path}")
        hidden = await call(may_not, method, f"/access/users/grace@pve{path}")
        assert (seen.status_code, hidden.status_code) == (500, 403), (method, path)
        assert "no such user ('grace@pve')" in seen.json()["message"], (method, path)
        there = await call(may_not, method, f"/access/users/boss@pve{path}")
        assert there.json() == hidden.json(), "who may not see users learns nothing"
