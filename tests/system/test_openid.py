"""Logging in at a real OpenID provider, by the API as a browser's page calls it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from framework.api import Api, call
from framework.openid_provider import consent, describe, provider

pytestmark = [pytest.mark.anyio, pytest.mark.system]

HERE = "https://pve:8006"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with provider(require_nonce=True) as running:
        yield running


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()


async def add(api: Api, issuer: str, **options: Any) -> None:
    values = {"realm": "sso", "type": "openid", "issuer-url": issuer, "client-id": "bastide", "client-key": "a-key"}
    await api.data("POST", "/access/domains", **{**values, **options})


async def begin(api: Api, redirect: str = HERE) -> str:
    answer = await call(api.client, "POST", "/access/openid/auth-url", realm="sso", **{"redirect-url": redirect})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"])


async def finish(api: Api, code: str, state: str, redirect: str = HERE) -> httpx.Response:
    return await call(api.client, "POST", "/access/openid/login", code=code, state=state, **{"redirect-url": redirect})


async def log_in(api: Api, sub: str) -> httpx.Response:
    return await finish(api, *consent(await begin(api), sub))


async def test_who_is_a_user_here_comes_in(api: Api, issuer: str) -> None:
    await add(api, issuer)
    assert (await log_in(api, "ada")).status_code == 401
    await api.data("POST", "/access/users", userid="ada@sso")
    data = (await log_in(api, "ada")).json()["data"]
    assert data["username"] == "ada@sso"
    answer = await api.client.get("/access/permissions", headers={"cookie": f"PVEAuthCookie={data['ticket']}"})
    assert answer.status_code == 200
    await api.data("PUT", "/access/users/ada@sso", enable=0)
    assert (await log_in(api, "ada")).status_code == 401


async def test_users_are_made_where_the_realm_says_so(api: Api, issuer: str) -> None:
    describe(issuer, "grace", email="grace@x.test", given_name="Grace", family_name="Hopper", preferred_username="gh",
             groups=["ops", "dev", "not a name", "x"])  # fmt: skip
    await add(api, issuer, autocreate=1, **{"username-claim": "username", "groups-claim": "groups"})
    await api.data("POST", "/access/groups", groupid="ops-sso")
    await api.data("POST", "/access/groups", groupid="ops")
    assert (await log_in(api, "grace")).json()["data"]["username"] == "gh@sso"
    user = await api.data("GET", "/access/users/gh@sso")
    assert (user["email"], user["firstname"], user["lastname"]) == ("grace@x.test", "Grace", "Hopper")
    assert user["groups"] == ["ops-sso"]
    await api.data("PUT", "/access/users/gh@sso", groups="ops")
    await api.data("PUT", "/access/domains/sso", **{"groups-autocreate": 1})
    assert (await log_in(api, "grace")).status_code == 200
    assert sorted((await api.data("GET", "/access/users/gh@sso"))["groups"]) == ["dev-sso", "ops", "ops-sso", "x-sso"]
    await api.data("PUT", "/access/domains/sso", **{"groups-overwrite": 1})
    assert (await log_in(api, "grace")).status_code == 200
    assert sorted((await api.data("GET", "/access/users/gh@sso"))["groups"]) == ["dev-sso", "ops-sso", "x-sso"]


@pytest.mark.parametrize("name", ["root@pam", "a b", "a/b", "a:b", "x!y", "a" * 80, "\u2028"])
async def test_names_that_no_user_can_have_come_not_in(api: Api, issuer: str, name: str) -> None:
    describe(issuer, "odd", preferred_username=name)
    await add(api, issuer, autocreate=1, **{"username-claim": "username"})
    answer = await log_in(api, "odd")
    names = {row["userid"] for row in await api.data("GET", "/access/users")}
    if answer.status_code == 200:  # `root@pam` is a name like any other, in this realm
        assert name == "root@pam"
        assert names == {"root@pam", "root@pam@sso"}
    else:
        assert names == {"root@pam"}


async def test_an_address_that_the_provider_did_not_verify_is_nobodys(api: Api, issuer: str) -> None:
    describe(issuer, "eve", email="ada", email_verified=False)
    await add(api, issuer, autocreate=1, **{"username-claim": "email"})
    assert (await log_in(api, "eve")).status_code == 401
    describe(issuer, "eve", email="eve", email_verified=True)
    assert (await log_in(api, "eve")).status_code == 200


async def test_the_url_has_what_binds_a_login_to_its_beginning(api: Api, issuer: str) -> None:
    await add(api, issuer, scopes="email groups", prompt="login", **{"acr-values": "2"})
    query = {key: value[0] for key, value in parse_qs(urlsplit(await begin(api)).query).items()}
    again = {key: value[0] for key, value in parse_qs(urlsplit(await begin(api)).query).items()}
    assert query["scope"] == "openid email groups"
    assert (query["prompt"], query["acr_values"], query["redirect_uri"]) == ("login", "2", HERE)
    assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
    for key in ("state", "nonce", "code_challenge"):
        assert query[key] != again[key]
        assert len(query[key]) >= 43


async def test_a_login_is_finished_once_and_where_it_began(api: Api, issuer: str) -> None:
    await add(api, issuer, autocreate=1)
    code, state = consent(await begin(api), "ada")
    assert (await finish(api, code, state, "https://pve:8006/")).status_code == 401
    other = parse_qs(urlsplit(await begin(api)).query)["state"][0]
    assert (await finish(api, code, other)).status_code == 401, "another login's state has another verifier"
    code, state = consent(await begin(api), "ada")
    assert (await finish(api, code, state[:-1] + ("A" if state[-1] != "A" else "B"))).status_code == 401
    assert (await finish(api, code, state.replace("sso.", "pve.", 1))).status_code == 401
    assert (await finish(api, code, state)).status_code == 200
    assert (await finish(api, code, state)).status_code == 401


@pytest.mark.parametrize(
    "url",
    ["https://evil.test", "https://pve:8006.evil.test", "http://pve:8006", "https://pve:8006@evil.test",
     "https://pve:8006/elsewhere", "https://pve:8006/?x=1", "https://pve:9999", "//pve:8006", "javascript:alert(1)",
     "https://[", ""],
)  # fmt: skip
async def test_a_browser_comes_back_to_this_host_alone(api: Api, issuer: str, url: str) -> None:
    await add(api, issuer)
    answer = await call(api.client, "POST", "/access/openid/auth-url", realm="sso", **{"redirect-url": url})
    assert answer.status_code == 400
    assert "redirect-url" in answer.text
    assert (await finish(api, "c", "s", url)).status_code == 400


async def test_other_realms_are_not_logged_in_to_so(api: Api) -> None:
    for realm in ("pam", "pve", "nobody"):
        answer = await call(api.client, "POST", "/access/openid/auth-url", realm=realm, **{"redirect-url": HERE})
        assert answer.status_code == 500


async def test_a_provider_that_is_down_is_told_of(api: Api) -> None:
    await add(api, "http://localhost:1")
    answer = await call(api.client, "POST", "/access/openid/auth-url", realm="sso", **{"redirect-url": HERE})
    assert answer.status_code == 500
    assert "cannot be asked" in answer.text


async def test_no_password_opens_a_realm_of_a_provider(api: Api, issuer: str) -> None:
    await add(api, issuer)
    await api.data("POST", "/access/users", userid="ada@sso")
    for password in ("x", "ada", "a-key"):
        answer = await call(api.client, "POST", "/access/ticket", username="ada@sso", password=password)
        assert answer.status_code == 401
