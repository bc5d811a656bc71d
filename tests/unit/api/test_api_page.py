"""The web page as it is served: deep links, caching, headers, and no way out of its folder."""

import gzip
import re
from pathlib import Path

import httpx
import pytest

from bastide.api.app import create_app
from bastide.api.page import Page
from framework.api import Api

pytestmark = pytest.mark.anyio

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
INDEX = '<!doctype html><meta name="nonce" content="%NONCE%"><script type="module" src="/assets/a-1.js"></script>'
SCRIPT = "export const page = 1;\n" * 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "package" / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "icon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "assets" / "a-1.js").write_text(SCRIPT)
    (folder / "assets" / "a-1.js.gz").write_bytes(gzip.compress(SCRIPT.encode()))
    (folder / "assets" / "a-1.css").write_text("a{}")
    (folder / ".stamp").write_text("secret")
    (folder.parent / "canary.js").write_text("secret")
    (folder / "assets" / "link.js").symlink_to(folder.parent / "canary.js")
    (folder / "out").symlink_to(folder.parent)
    return folder


@pytest.fixture
def browser(api: Api, folder: Path) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(api.services, Page(folder)))
    return httpx.AsyncClient(transport=transport, base_url="https://pve:8006", headers={"accept": HTML})


@pytest.mark.parametrize(
    "path", ["/", "/guests/100/summary", "/index.html", "/storage/local", "/guests/%2e%2e/x", "//x"]
)
async def test_every_address_of_the_page_is_the_page(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "%NONCE%" not in answer.text


async def test_the_policy_lets_in_the_pages_own_files_and_one_word_alone(browser: httpx.AsyncClient) -> None:
    seen = set()
    for _ in range(3):
        answer = await browser.get("/")
        policy = answer.headers["content-security-policy"]
        word = re.search(r'name="nonce" content="([\w-]{24,})"', answer.text)
        assert word is not None
        assert f"style-src 'self' 'nonce-{word[1]}';" in policy
        seen.add(word[1])
    assert len(seen) == 3
    assert "unsafe" not in policy
    for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'",
                 "form-action 'none'", "connect-src 'self'", "font-src 'self'"):  # fmt: skip
        assert part in policy.split("; "), part


@pytest.mark.parametrize("path", ["/", "/icon.svg", "/assets/a-1.js", "/assets/none.js"])
async def test_every_answer_has_its_walls(browser: httpx.AsyncClient, path: str) -> None:
    headers = (await browser.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


async def test_files_are_kept_for_ever_and_come_packed(browser: httpx.AsyncClient) -> None:
    packed = await browser.get("/assets/a-1.js", headers={"accept": "*/*", "accept-encoding": "gzip, br"})
    plain = await browser.get("/assets/a-1.js", headers={"accept": "*/*", "accept-encoding": "identity"})
    assert (packed.headers["content-encoding"], "content-encoding" in plain.headers) == ("gzip", False)
    assert packed.text == plain.text == SCRIPT
    assert int(packed.headers["content-length"]) < len(SCRIPT)
    refused = await browser.get("/assets/a-1.js", headers={"accept": "*/*", "accept-encoding": "gzip;q=0, *"})
    assert "content-encoding" not in refused.headers
    for answer in (packed, plain, refused):
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["vary"] == "accept-encoding"
    assert (await browser.get("/icon.svg")).headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize("path", ["/", "/assets/a-1.js", "/guests/1"])
async def test_head_tells_what_get_would(browser: httpx.AsyncClient, path: str) -> None:
    head, get = await browser.head(path), await browser.get(path)
    assert (head.status_code, head.headers["content-length"]) == (200, get.headers["content-length"])


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../canary.js", "/assets/%2e%2e/%2e%2e/canary.js", "/../canary.js", "/%2e%2e/canary.js",
        "/assets/..%2f..%2fcanary.js", "/assets/link.js", "/out/canary.js", "/out/page/index.html", "/.stamp",
        "/assets/a-1.js%00", "/assets//etc/passwd", "//etc/passwd", "/assets/%252e%252e/canary.js", "/etc/passwd",
        "/assets/\\..\\canary.js", "/assets/%c0%ae%c0%ae/canary.js", "/assets", "/" + "a" * 3000,
    ],
)  # fmt: skip
async def test_nothing_leads_out_of_the_folder(browser: httpx.AsyncClient, path: str) -> None:
    for accept in (HTML, "*/*"):
        answer = await browser.get(httpx.URL("https://pve:8006", raw_path=path.encode()), headers={"accept": accept})
        assert "secret" not in answer.text
        assert "root:" not in answer.text
        assert answer.status_code in ((401, 404) if accept != HTML else (200, 404))


async def test_a_script_that_is_gone_is_not_answered_with_html(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/assets/old-9.js")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api2/json/nope"), ("GET", "/api2"), ("POST", "/"), ("PUT", "/x")]
)
async def test_what_is_the_apis_stays_the_apis(browser: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await browser.request(method, path)
    assert (answer.status_code, answer.content) == (401, b"")


async def test_a_program_is_not_answered_with_the_page(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/guests/100", headers={"accept": "*/*"})).status_code == 401
    assert "<!doctype html>" in (await browser.get("/", headers={"accept": "*/*"})).text


async def test_a_new_build_is_seen_at_once(browser: httpx.AsyncClient, folder: Path) -> None:
    assert (await browser.get("/assets/b-2.js")).status_code == 404
    (folder / "assets" / "b-2.js").write_text("2")
    (folder / "index.new").write_text(INDEX + "<!-- 2 -->")
    (folder / "index.new").rename(folder / "index.html")
    assert (await browser.get("/assets/b-2.js")).text == "2"


async def test_without_a_build_the_page_says_how_to_make_one(api: Api, tmp_path: Path) -> None:
    transport = httpx.ASGITransport(create_app(api.services, Page(tmp_path / "none")))
    async with httpx.AsyncClient(transport=transport, base_url="https://pve:8006", headers={"accept": HTML}) as browser:
        answer = await browser.get("/guests/100")
        assert (answer.status_code, "./bastide up" in answer.text) == (503, True)
        assert (await browser.get("/assets/a-1.js")).status_code == 404


async def test_the_document_is_packed_and_known_again(browser: httpx.AsyncClient) -> None:
    plain = await browser.get("/openapi.json", headers={"accept-encoding": "identity"})
    packed = await browser.get("/openapi.json", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) * 5 < int(plain.headers["content-length"])
    for refused in ("gzip;q=0", "br, gzip; q=0.0", "*;q=0", "xgzip"):
        answer = await browser.get("/openapi.json", headers={"accept-encoding": refused})
        assert "content-encoding" not in answer.headers, refused
    again = await browser.get("/openapi.json", headers={"if-none-match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
