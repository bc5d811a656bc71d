"""A browser's session: the cookie that scripts cannot read, and who cannot get at it from elsewhere."""

from http.cookies import Morsel, SimpleCookie
from urllib.parse import unquote

import httpx
import pytest

from framework.api import Api, call

pytestmark = pytest.mark.anyio

SESSION = "/bastide/session"
PASSWORD = "correct horse 1"
FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "https://pve:8007"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


def cookie(answer: httpx.Response) -> Morsel[str]:
    return SimpleCookie(answer.headers["set-cookie"])["PVEAuthCookie"]


async def begin(api: Api) -> httpx.Response:
    answer = await api.client.post(SESSION, json={"username": "ada", "realm": "pve", "password": PASSWORD})
    api.client.cookies.clear()
    return answer


def headers(begun: httpx.Response, **more: str) -> dict[str, str]:
    csrf = begun.json()["data"]["csrf"]
    return {"cookie": f"PVEAuthCookie={cookie(begun).value}", "CSRFPreventionToken": csrf, **more}


@pytest.fixture
async def begun(api: Api) -> httpx.Response:
    await api.data("POST", "/access/users", userid="ada@pve", password=PASSWORD)
    return await begin(api)


async def test_a_login_sets_a_cookie_that_scripts_and_other_sites_do_not_get(begun: httpx.Response) -> None:
    assert begun.json()["data"].keys() == {"username", "csrf"}
    set_ = cookie(begun)
    assert (set_["path"], set_["samesite"], set_["secure"], set_["httponly"]) == ("/", "strict", True, True)
    assert (set_["domain"], set_["max-age"]) == ("", ""), "a session's cookie, and no other host's"
    assert unquote(set_.value).startswith("PVE:ada@pve:")
    assert unquote(set_.value) not in begun.text
    assert begun.headers["cache-control"] == "no-store"


async def test_a_reload_finds_the_session_again(api: Api, begun: httpx.Response) -> None:
    found = await api.client.get(SESSION, headers={"cookie": headers(begun)["cookie"]})
    assert found.json()["data"]["username"] == "ada@pve"
    assert "set-cookie" not in found.headers
    csrf = {"cookie": headers(begun)["cookie"], "CSRFPreventionToken": found.json()["data"]["csrf"]}
    assert (await api.client.put(SESSION, headers=csrf)).status_code == 200


async def test_a_session_is_renewed_and_forgotten(api: Api, begun: httpx.Response) -> None:
    renewed = await api.client.put(SESSION, headers=headers(begun))
    assert unquote(cookie(renewed).value).startswith("PVE:ada@pve:")
    without = await api.client.put(SESSION, headers={"cookie": headers(begun)["cookie"]})
    assert (without.status_code, "set-cookie" in without.headers) == (401, False)
    over = await api.client.delete(SESSION, headers=headers(begun))
    assert (cookie(over).value, cookie(over)["max-age"], cookie(over)["httponly"]) == ("", "0", True)
    expired = await api.client.delete(SESSION, headers={"cookie": "PVEAuthCookie=PVE:x"})
    assert cookie(expired)["max-age"] == "0"


@pytest.mark.parametrize("where", FOREIGN, ids=str)
async def test_another_origin_gets_nothing(api: Api, begun: httpx.Response, where: dict[str, str]) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = await api.client.request(method, SESSION, headers=headers(begun, **where))
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False), method
        assert "csrf" not in answer.text
    values = {"username": "ada@pve", "password": PASSWORD}
    login = await api.client.post(SESSION, json=values, headers=where)
    assert (login.status_code, "set-cookie" in login.headers) == (403, False)


async def test_the_pages_own_calls_pass(api: Api, begun: httpx.Response) -> None:
    own = {"origin": "https://pve:8006", "sec-fetch-site": "same-origin"}
    assert (await api.client.get(SESSION, headers=headers(begun, **own))).status_code == 200
    assert (await api.client.put(SESSION, headers=headers(begun, **own))).status_code == 200


async def test_wrong_credentials_are_refused_as_at_the_ticket(api: Api, begun: httpx.Response) -> None:
    for values in ({"username": "ada@pve", "password": "wrong"}, {"username": "x@pve", "password": PASSWORD}):
        answer = await api.client.post(SESSION, json=values)
        assert answer.status_code == 401
        assert answer.status_code.reason == "authentication failure"  # type: ignore[attr-defined]
        assert "set-cookie" not in answer.headers
    assert (await api.client.post(SESSION, json={"username": "ada@pve"})).json()["errors"].keys() == {"password"}


async def test_only_a_ticket_makes_a_session(api: Api, begun: httpx.Response) -> None:
    for client in (api.root, api.client):
        asked = await call(client, "GET", SESSION)
        assert (asked.status_code, asked.json()["data"], "set-cookie" in asked.headers) == (200, None, False)
        assert (await call(client, "PUT", SESSION)).status_code == 401
    token = await api.token("eve@pve")
    for method in ("GET", "PUT"):
        answer = await call(token, method, SESSION)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False), method


async def test_a_user_who_is_disabled_has_no_session(api: Api, begun: httpx.Response) -> None:
    await api.data("PUT", "/access/users/ada@pve", enable=0)
    answer = await api.client.get(SESSION, headers=headers(begun))
    assert (answer.status_code, answer.json()["data"]) == (200, None)
