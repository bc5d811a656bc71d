"""What a browser can be made to do against the page: in process, over the fakes.

Attack classes 17 (other sites), 22 (traversal), 23 (script in an address), 24 (redirects, framing), and what somebody
without rights can find out by asking.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from bastide.api import branches
from bastide.api.app import create_app
from bastide.api.page import Page
from framework.api import Api, call
from framework.rooms import TEMPLATE

pytestmark = pytest.mark.anyio

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
INDEX = '<!doctype html><meta name="nonce" content="%NONCE%"><script type="module" src="/assets/a.js"></script>'
SCRIPT = "<script>alert(1)</script>"
UPS = [
    "..",
    "%2e%2e",
    ".%2e",
    "%2e.",
    "..%2f",
    "%2e%2e%2f",
    "..%5c",
    "..\\",
    "%252e%252e",
    "..;",
    "%c0%ae%c0%ae",
    "....//",
]
TARGETS = ["etc/passwd", "canary", "page/index.html", "../canary", "..%2fcanary", "state/access/tickets.key"]
PREFIXES = ["", "assets/", "assets//", "icon.svg/", "guests/100/", "%2f", "./", "assets/%2e/"]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path / "house")
    yield made
    await made.services.rooms.tasks.shutdown()


@pytest.fixture
def browser(api: Api, tmp_path: Path) -> httpx.AsyncClient:
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "assets/a.js").write_text("1")
    (tmp_path / "canary").write_text("canary-text")
    transport = httpx.ASGITransport(create_app(api.services, Page(folder)))
    return httpx.AsyncClient(transport=transport, base_url="https://pve:8006", headers={"accept": HTML})


def raw(path: str) -> httpx.URL:
    """An address as it is written, which the client would otherwise tidy."""
    return httpx.URL("https://pve:8006", raw_path=path.encode())


async def test_no_path_leads_out_of_the_page(browser: httpx.AsyncClient) -> None:
    tried = 0
    for prefix in PREFIXES:
        for up in UPS:
            for target in TARGETS:
                for path in (f"/{prefix}{up}/{target}", f"/{prefix}{up}/{up}/{target}"):
                    answer = await browser.get(raw(path), headers={"accept": "*/*"})
                    assert "canary-text" not in answer.text, path
                    assert "root:" not in answer.text, path
                    assert answer.status_code in (401, 404), path
                    tried += 1
    assert tried > 1000


@pytest.mark.parametrize(
    "path", ["//evil.test/%2f..", "///evil.test", "/\\evil.test", "/%5cevil.test", "//evil.test/", "/https://evil.test",
             "/@evil.test", "/%0d%0aLocation:%20https://evil.test", "/.evil.test", "/?next=https://evil.test"],
)  # fmt: skip
async def test_no_address_leads_to_another_site(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(raw(path))
    assert answer.status_code in (200, 404)
    assert "location" not in answer.headers
    assert "refresh" not in answer.headers
    assert "evil" not in answer.text


@pytest.mark.parametrize(
    "path", [f"/{quote(SCRIPT)}", f"/guests/{quote(SCRIPT)}/x", f"/assets/{quote(SCRIPT)}", f"/?q={quote(SCRIPT)}",
             f"/api2/json/{quote(SCRIPT)}", f"/api2/extjs/nodes/{quote(SCRIPT)}", f"/api2/html/{quote(SCRIPT)}"],
)  # fmt: skip
async def test_script_in_an_address_comes_back_as_no_page(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(raw(path))
    if answer.headers.get("content-type", "").startswith("text/html"):
        assert "alert" not in answer.text
        assert "script-src 'self';" in answer.headers["content-security-policy"]
    elif answer.content:
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_no_answer_of_the_page_is_shared_or_framed(browser: httpx.AsyncClient) -> None:
    evil = {"origin": "https://evil.test", "sec-fetch-site": "cross-site", "access-control-request-method": "PUT"}
    for method in ("GET", "HEAD", "OPTIONS"):
        for path in ("/", "/guests/1", "/assets/a.js", "/openapi.json", "/api2/json/bastide/session",
                     "/api2/json/bastide/events"):  # fmt: skip
            answer = await browser.request(method, path, headers=evil)
            assert not [name for name in answer.headers if name.startswith("access-control")], (method, path)
            assert "set-cookie" not in answer.headers, (method, path)
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert answer.headers["x-frame-options"] == "DENY"
                assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_another_site_logs_nobody_in_or_out(api: Api) -> None:
    await api.data("POST", "/access/users", userid="ada@pve", password="correct horse 1")
    form = {"username": "ada@pve", "password": "correct horse 1"}
    for where in ({"origin": "https://evil.test"}, {"origin": "https://pve:8443"}, {"sec-fetch-site": "same-site"},
                  {"origin": "null"}, {"origin": "http://pve:8006.evil.test"}):  # fmt: skip
        for body in ({"data": form}, {"json": form}, {"params": form}):
            answer = await api.client.post("/bastide/session", headers=where, **body)  # type: ignore[arg-type]
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False), where
        came_back = {"code": "x", "state": "y", "redirect-url": "https://pve:8006"}
        answer = await api.client.post("/bastide/session/openid", headers=where, data=came_back)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False), where
        gone = await api.client.delete("/bastide/session", headers=where)
        assert (gone.status_code, "set-cookie" in gone.headers) == (403, False), where


async def login(api: Api, role: str = "Administrator") -> dict[str, str]:
    """Log a user in; the cookie, as a browser sends it, without the token that scripts of the page add."""
    await api.data("POST", "/access/users", userid="ada@pve", password="correct horse 1")
    await api.data("PUT", "/access/acl", path="/", users="ada@pve", roles=role)
    await api.client.post("/bastide/session", json={"username": "ada@pve", "password": "correct horse 1"})
    ticket = api.client.cookies["PVEAuthCookie"]
    api.client.cookies.clear()
    return {"cookie": f"PVEAuthCookie={ticket}"}


async def test_no_write_passes_with_the_cookie_alone(api: Api) -> None:
    """Whatever another site makes a browser send has the cookie at most."""
    cookie = await login(api)
    writing = [
        route for route in branches.routes() if route.method != "GET" and not route.websocket and route.user != "world"
    ]
    assert len(writing) > 100
    for route in writing:
        path = re.sub(r"\{[^}]+\}", "100", route.path.replace("{node}", "pve"))
        answer = await api.client.request(route.method, path, headers=cookie)
        assert answer.status_code == 401, f"{route.method} {path}"
    open_to_all = {route.path for route in branches.routes() if route.user == "world" and route.method != "GET"}
    # Of OpenID's, one asks where to log in, and two want the provider's own answer to that.
    openid = {"/access/openid/auth-url", "/access/openid/login", "/bastide/session/openid"}
    assert open_to_all == {"/access/ticket", "/access/vncticket", "/bastide/session"} | openid


async def test_no_answer_of_the_api_is_a_page_of_this_host(api: Api) -> None:
    """Opened by its address, or put into a page of another port, an answer is data, whoever's text is in it."""
    cookie = await login(api)
    upid = await api.data("POST", "/nodes/pve/vzdump", all=1, storage="local")
    await api.wait(upid)
    for path, status, headers in (
        ("/version", 200, cookie), ("/version", 401, {}), ("/nope", 501, cookie),
        ("/nodes/pve/lxc/100/config", 500, cookie),
        ("/nodes/pve/lxc/x/config", 400, cookie), (f"/nodes/pve/tasks/{upid}/log?download=1", 200, cookie),
        ("/bastide/guests/100/file?path=/x", 500, cookie), ("/bastide/session", 403, {**cookie, "origin": "null"}),
    ):  # fmt: skip
        answer = await api.client.get(path, headers=headers)
        assert answer.status_code == status, path
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["cross-origin-resource-policy"] == "same-origin", path
        assert answer.headers["content-security-policy"].endswith("frame-ancestors 'none'; sandbox"), path
        assert not answer.headers.get("content-type", "").startswith("text/html"), path


async def test_whoever_has_no_right_on_a_guest_cannot_find_out_its_name(api: Api) -> None:
    made = await api.data("POST", "/nodes/pve/lxc", vmid=100, hostname="payroll", ostemplate=TEMPLATE, unprivileged=1)
    assert await api.wait(made) == "OK"
    stranger, owner = await api.token("eve@pve"), await api.token("ada@pve", grants={"/vms/100": "PVEVMUser"})
    assert (await call(owner, "GET", "/bastide/guests/payroll")).json()["data"]["vmid"] == 100
    named = [
        (route.method, route.path)
        for route in branches.routes()
        if "{guest}" in route.path and not route.websocket and route.method == "GET"
    ]
    assert ("GET", "/bastide/guests/{guest}/addresses") in named
    for method, path in named:
        for values in ({}, {"path": "/etc/hostname"}):
            answers = [
                await call(stranger, method, path.replace("{guest}", name), **values) for name in ("payroll", "nothing")
            ]
            shown = [(a.status_code, a.text.replace("payroll", "nothing")) for a in answers]
            assert shown[0] == shown[1], path
    for path in ("/bastide/guests/{}", "/bastide/guests/{}/addresses", "/architect/review?guest={}"):
        there, not_there = [await stranger.get(path.format(vmid)) for vmid in (100, 101)]
        assert (there.status_code, there.text) == (403, not_there.text.replace("101", "100")), path
    for name in ("payroll", "nothing"):
        answer = await stranger.post("/architect/launch", json={"name": name, "service": "nginx"})
        assert answer.status_code == 403, answer.text
