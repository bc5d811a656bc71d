"""Second factors against who knows the password (attack class 19).

Codes and recovery codes that are guessed, seen and used again, and half a ticket that is used as a whole one. Each
test fails without the defence that its docstring names.
"""

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
import pyotp
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from bastide.access.throttle import Throttle
from framework import trust
from framework.api import Api, call
from framework.host import Host
from framework.patience import PATIENCE

USER, PASSWORD = "mallory-knows@pve", secrets.token_urlsafe(16)


class Victim:
    """A user with an app and recovery codes, whose password is known."""

    def __init__(self, host: Host, client: httpx.Client) -> None:
        self.host, self.client = host, client
        self.app = pyotp.TOTP(pyotp.random_base32())
        uri = self.app.provisioning_uri(name=USER)
        host.post(f"/access/tfa/{USER}", type="totp", totp=uri, value=self.app.now())
        self.codes: list[str] = host.post(f"/access/tfa/{USER}", type="recovery")["recovery"]

    def login(self, password: str = PASSWORD, **more: str) -> httpx.Response:
        return self.client.post("/access/ticket", data={"username": USER, "password": password, **more})

    def half(self) -> str:
        data = self.login().json()["data"]
        assert data["NeedTFA"] == 1
        return str(data["ticket"])

    def answer(self, factor: str, half: str | None = None) -> int:
        return self.login(factor, **{"tfa-challenge": half or self.half()}).status_code

    def early(self) -> str:
        """A code that is right and unused: of the step after this one."""
        return f"totp:{self.app.at(int(time.time()) + 30)}"


@pytest.fixture
def victim(host: Host) -> Iterator[Victim]:
    where = f"https://127.0.0.1:{host.port}/api2/json"
    host.post("/access/users", userid=USER, password=PASSWORD)
    host.put("/access/acl", path="/", users=USER, roles="Administrator")
    try:
        with httpx.Client(base_url=where, verify=trust.anyone(), timeout=60 * PATIENCE) as client:
            yield Victim(host, client)
    finally:
        host.delete(f"/access/users/{USER}")


@pytest.mark.system
def test_what_was_used_is_not_right_again(victim: Victim) -> None:
    """Without the last step in `TotpFactor` and the used codes in `RecoveryCodes` this fails."""
    code = victim.early()
    assert victim.answer(code) == 200
    assert victim.answer(code) == 401, "a code that somebody saw was taken again"
    assert victim.answer(f"recovery:{victim.codes[0]}") == 200
    assert victim.answer(f"recovery:{victim.codes[0]}") == 401, "a recovery code was taken twice"


@pytest.mark.system
def test_half_a_ticket_opens_nothing(victim: Victim) -> None:
    """Without the own form and purpose of `Tickets.issue_half` this fails."""
    data = victim.login().json()["data"]
    half = data["ticket"]
    node, csrf = victim.host.node, {"CSRFPreventionToken": data["CSRFPreventionToken"]}
    ways = [{"cookie": f"PVEAuthCookie={text}", **csrf} for text in (half, quote(half, safe=""))]
    ways += [{"authorization": f"PVEAuthCookie={half}", **csrf}, {"authorization": f"PVEAPIToken={USER}!{half}"}]
    for headers in ways:
        for method, path in (
            ("GET", "/version"), ("GET", "/cluster/resources"), ("POST", "/access/users"), ("PUT", "/bastide/session"),
            ("DELETE", f"/access/tfa/{USER}/recovery"), ("PUT", "/access/password"), ("GET", "/bastide/events"),
        ):  # fmt: skip
            assert victim.client.request(method, path, headers=headers).status_code == 401, (method, path)
        url = f"wss://127.0.0.1:{victim.host.port}/api2/json/nodes/{node}/lxc/100/vncwebsocket?port=5900&vncticket=x"
        with pytest.raises(InvalidStatus) as refused, connect(url, ssl=trust.anyone(), additional_headers=headers):
            pass
        assert refused.value.response.status_code == 401
    assert victim.login(half).status_code == 401, "it renewed itself without a second factor"
    assert victim.client.get("/bastide/session", headers=ways[0]).json()["data"] is None


@pytest.mark.system
def test_half_a_ticket_is_for_one_user_and_one_state_of_the_factors(victim: Victim) -> None:
    """Without user and state in its signature this fails."""
    half, other = victim.half(), "other-factors@pve"
    victim.host.post("/access/users", userid=other, password=PASSWORD)
    try:
        codes = victim.host.post(f"/access/tfa/{other}", type="recovery")["recovery"]
        taken = victim.client.post(
            "/access/ticket", data={"username": other, "password": f"recovery:{codes[0]}", "tfa-challenge": half}
        )
        assert taken.status_code == 401
    finally:
        victim.host.delete(f"/access/users/{other}")
    victim.host.delete(f"/access/tfa/{USER}/recovery")
    assert victim.answer(victim.early(), half) == 401, "the factors changed since"
    assert victim.answer(victim.early()) == 200


@pytest.mark.system
def test_a_flood_of_codes_is_not_looked_at(victim: Victim) -> None:
    """Without the throttle of second steps all forty are looked at, and eight lock TOTP."""
    half = victim.half()
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda number: victim.answer(f"totp:{number:06}", half), range(40)))
    assert set(answers) == {401}
    [shown] = [row for row in victim.host.get("/access/tfa") if row["userid"] == USER]
    assert "totp-locked" not in shown


@pytest.mark.anyio
async def test_the_ninth_code_is_refused_though_it_is_right(tmp_path: Path) -> None:
    """Without `TOTP_FAILURES` this fails. In process, where the throttle's delays need not be waited for."""
    api = await Api.make(tmp_path)
    ticks = iter(range(0, 10**6, 1000))
    api.services.access._second_throttle = Throttle(lambda: float(next(ticks)))
    app = pyotp.TOTP(pyotp.random_base32())
    await api.data("POST", "/access/users", userid=USER, password=PASSWORD)
    uri = app.provisioning_uri(name=USER)
    await api.data("POST", f"/access/tfa/{USER}", type="totp", totp=uri, value=app.now())

    async def answer(code: str) -> int:
        credentials = {"username": USER, "password": PASSWORD}
        half = (await call(api.client, "POST", "/access/ticket", **credentials)).json()["data"]["ticket"]
        credentials = {"username": USER, "password": f"totp:{code}", "tfa-challenge": half}
        return (await call(api.client, "POST", "/access/ticket", **credentials)).status_code

    for number in range(8):
        assert await answer(f"{number:06}") == 401
    assert await answer(app.at(int(time.time()) + 30)) == 401, "it was let in after eight wrong codes"
    assert await api.data("PUT", f"/access/users/{USER}/unlock-tfa") == 1
    assert await answer(app.at(int(time.time()) + 30)) == 200
    await api.services.rooms.tasks.shutdown()
