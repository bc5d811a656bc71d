"""Downloads: where they may go, and that what arrives is what was asked for, however often the line breaks."""

import asyncio
import hashlib
import http.server
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure, InvalidParameter, Locked, PermissionDenied
from bastide.host import download as module
from bastide.host.download import PUBLIC, Guard, check_url, download, fetch, metadata

DATA = bytes(range(256)) * 20_000
LOOPBACK = Guard(networks=(ipaddress.ip_network("127.0.0.0/8"),))
ONE_ADDRESS = Guard(networks=(ipaddress.ip_network("127.0.0.1/32"),))

Respond = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each path with a function of the test, and counts."""

    protocol_version = "HTTP/1.1"
    paths: dict[str, Respond]
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Range")))
        self.paths[self.path](self)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Server:
    """A server on loopback."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.paths: dict[str, Respond] = {}
        self.seen: list[tuple[str, str | None]] = []
        handler = type("Bound", (Handler,), {"paths": self.paths, "seen": self.seen})
        self._server = http.server.ThreadingHTTPServer((address, 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.base = f"http://{address}:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "public", "private"),
    [
        ("1.1.1.1", True, True),
        ("2606:4700:4700::1111", True, True),
        ("10.1.2.3", False, True),
        ("192.168.0.5", False, True),
        ("172.31.255.255", False, True),
        ("100.64.0.1", False, True),
        ("fd12:3456::1", False, True),
        ("127.0.0.1", False, False),
        ("127.8.9.10", False, False),
        ("::1", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("fd00:ec2::254", False, False),
        ("168.63.129.16", False, False),
        ("100.100.100.200", False, False),
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
        ("240.0.0.1", False, False),
        ("255.255.255.255", False, False),
        ("192.0.2.1", False, False),
        ("::ffff:127.0.0.1", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("::ffff:192.168.0.5", False, True),
        ("64:ff9b::7f00:1", False, False),
        ("2002:7f00:1::", False, False),
        ("2001:0:7f00:1::", False, False),
    ],
)
def test_the_guard_knows_addresses(text: str, public: bool, private: bool) -> None:
    address = ipaddress.ip_address(text)
    assert PUBLIC.permits(address) is public
    assert Guard(private=True).permits(address) is private


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://example.org/",
        "ftp://example.org/a",
        "http://",
        "http:///a",
        "http://user@example.org/",
        "http://user:secret@example.org/",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://example.org/a b",
        "http://example.org/a\nHost: x",
        "http://exämple.org/",
        "//example.org/a",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(InvalidParameter, match="url"):
        check_url(url)


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1"])
async def test_this_hosts_own_services_see_nothing(server: Server, host: str, tmp_path: Path) -> None:
    for guard in (PUBLIC, Guard(private=True)):
        with pytest.raises((PermissionDenied, HostFailure)):
            await download(f"http://{host}:{server.port}/x", tmp_path / "file", guard)
    assert server.seen == []


@pytest.mark.anyio
async def test_a_redirect_is_checked_like_a_first_request(server: Server, tmp_path: Path) -> None:
    inner = Server("127.0.0.2")
    try:
        inner.paths["/secret"] = lambda handler: handler.answer(200, b"secret")
        server.paths["/out"] = lambda handler: handler.answer(302, Location=f"{inner.base}/secret")
        server.paths["/file"] = lambda handler: handler.answer(302, Location="file:///etc/passwd")
        server.paths["/loop"] = lambda handler: handler.answer(302, Location="/loop")
        server.paths["/here"] = lambda handler: handler.answer(301, Location="/data")
        server.paths["/data"] = lambda handler: handler.answer(200, DATA)
        with pytest.raises(PermissionDenied):
            await download(f"{server.base}/out", tmp_path / "a", ONE_ADDRESS)
        assert inner.seen == []
        with pytest.raises(InvalidParameter):
            await download(f"{server.base}/file", tmp_path / "a", ONE_ADDRESS)
        with pytest.raises(HostFailure, match="redirects"):
            await download(f"{server.base}/loop", tmp_path / "a", ONE_ADDRESS)
        done = await download(f"{server.base}/here", tmp_path / "b", ONE_ADDRESS)
        assert (tmp_path / "b").read_bytes() == DATA
        assert done.sha256 == hashlib.sha256(DATA).hexdigest()
    finally:
        inner.close()


@pytest.mark.anyio
async def test_a_name_that_changes_its_address_between_check_and_use_gains_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.paths["/data"] = lambda handler: handler.answer(200, DATA)
    answers = [["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1", "127.0.0.2"]]
    asked = 0

    async def resolve(_loop: Any, host: str, port: int, **_options: Any) -> list[Any]:
        nonlocal asked
        addresses = answers[asked]
        asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop().__class__, "getaddrinfo", resolve)
    url = f"http://rebinding.test:{server.port}/data"
    assert await fetch(url, ONE_ADDRESS) == DATA
    assert asked == 1, "what was checked is what is connected to: the name is resolved once"
    with pytest.raises(PermissionDenied, match=r"127\.0\.0\.2"):
        await fetch(url, ONE_ADDRESS)
    with pytest.raises(PermissionDenied):
        await fetch(url, ONE_ADDRESS)


@pytest.mark.anyio
async def test_a_broken_line_is_carried_on_with_where_it_broke(server: Server, tmp_path: Path) -> None:
    half = len(DATA) // 2

    def respond(handler: Handler) -> None:
        wanted = handler.headers.get("Range")
        if wanted is None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(DATA)))
            handler.send_header("ETag", '"v1"')
            handler.end_headers()
            handler.wfile.write(DATA[:half])
            handler.close_connection = True
            return
        assert handler.headers["If-Range"] == '"v1"'
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        content_range = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
        handler.answer(206, DATA[start:], Content_Range=content_range, ETag='"v1"')

    server.paths["/data"] = respond
    seen: list[tuple[int, int | None]] = []
    done = await download(
        f"{server.base}/data",
        tmp_path / "file",
        LOOPBACK,
        checksum=("sha512", hashlib.sha512(DATA).hexdigest().upper()),
        progress=lambda size, total: seen.append((size, total)),
    )
    assert (tmp_path / "file").read_bytes() == DATA
    assert done.size == len(DATA)
    assert [path for path, _ in server.seen] == ["/data", "/data"]
    assert server.seen[1][1] is not None
    assert server.seen[1][1] != "bytes=0-"
    assert seen == sorted(seen)
    assert seen[-1] == (len(DATA), len(DATA))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.anyio
async def test_a_later_download_carries_on_and_notices_a_new_version(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file"
    version = '"v1"'

    def begin(handler: Handler) -> None:
        handler.send_response(200 if handler.headers.get("Range") is None else 503)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.send_header("ETag", version)
        handler.end_headers()
        handler.wfile.write(DATA[: 3 << 20])
        handler.close_connection = True

    server.paths["/data"] = begin
    with pytest.raises(HostFailure):
        await download(f"{server.base}/data", target, LOOPBACK)
    assert target.stat().st_size >= 1 << 20
    changed = DATA[::-1]
    server.paths["/data"] = lambda handler: handler.answer(200, changed, ETag='"v2"')
    await download(f"{server.base}/data", target, LOOPBACK)
    assert server.seen[-1][1] is not None, "it asked for the rest"
    assert target.read_bytes() == changed, "and took the whole of the new version"


@pytest.mark.anyio
async def test_wrong_content_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.paths["/data"] = lambda handler: handler.answer(200, DATA, ETag='"v1"')
    server.paths["/gone"] = lambda handler: handler.answer(404, b"a body with secrets")

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        try:
            while True:
                handler.wfile.write(DATA)
        except OSError:
            pass

    server.paths["/endless"] = endless
    with pytest.raises(HostFailure, match="checksum mismatch"):
        await download(f"{server.base}/data", tmp_path / "a", LOOPBACK, checksum=("md5", "0" * 32))
    with pytest.raises(HostFailure, match=r"answered 404 Not Found$"):
        await download(f"{server.base}/gone", tmp_path / "a", LOOPBACK)
    with pytest.raises(HostFailure, match="more than"):
        await download(f"{server.base}/data", tmp_path / "a", LOOPBACK, limit=1000)
    with pytest.raises(HostFailure, match="more than"):
        await download(f"{server.base}/endless", tmp_path / "a", LOOPBACK, limit=20_000_000)
    assert not (tmp_path / "a").exists() or (tmp_path / "a").stat().st_size == 0
    with pytest.raises(HostFailure, match="longer than"):
        await fetch(f"{server.base}/endless", LOOPBACK, limit=100)


@pytest.mark.anyio
async def test_one_file_is_downloaded_by_one_task(server: Server, tmp_path: Path) -> None:
    release = threading.Event()

    def slow(handler: Handler) -> None:
        release.wait(10)
        handler.answer(200, b"done")

    server.paths["/slow"] = slow
    first = asyncio.create_task(download(f"{server.base}/slow", tmp_path / "file", LOOPBACK))
    while not server.seen:
        await asyncio.sleep(0.01)
    with pytest.raises(Locked):
        await download(f"{server.base}/slow", tmp_path / "file", LOOPBACK)
    release.set()
    assert (await first).size == 4


@pytest.mark.anyio
async def test_links_are_not_written_through(server: Server, tmp_path: Path) -> None:
    server.paths["/data"] = lambda handler: handler.answer(200, b"evil")
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    (tmp_path / "file").symlink_to(canary)
    with pytest.raises(HostFailure):
        await download(f"{server.base}/data", tmp_path / "file", LOOPBACK)
    assert canary.read_text() == "untouched"


@pytest.mark.anyio
async def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_DEADLINE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        with pytest.raises(HostFailure, match="download failed"):
            await asyncio.wait_for(download(url, tmp_path / "file", LOOPBACK), 5)


@pytest.mark.anyio
async def test_metadata_is_asked_without_fetching(server: Server) -> None:
    server.paths["/a%20dir/x.iso"] = lambda handler: handler.answer(200, DATA, Content_Type="application/x-iso; a=b")
    found = await metadata(f"{server.base}/a%20dir/x.iso", LOOPBACK)
    assert (found.filename, found.mimetype, found.size) == ("x.iso", "application/x-iso", len(DATA))
