"""Real sockets: TLS and plain HTTP on one port, the UNIX socket, limits against slow and greedy clients."""

import asyncio
import contextlib
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bastide.host.certificate import ensure_certificate
from bastide.web import connection, listeners, process
from bastide.web.listeners import redirection
from bastide.web.serve import serve
from framework.api import Api
from framework.fronts import beside

pytestmark = pytest.mark.anyio


@dataclass
class Served:
    port: int
    unix_socket: Path
    context: ssl.SSLContext

    async def plain(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def secure(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context)

    async def local(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.unix_socket))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()


@pytest.fixture
async def served(api: Api, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(api, tmp_path, free_port()) as host:
        yield host


@contextlib.asynccontextmanager
async def serving(api: Api, tmp_path: Path, port: int) -> AsyncIterator[Served]:
    """Serve at a port. Raises what ends the server before it answers."""
    certificate, key = ensure_certificate(tmp_path, "pve", ["127.0.0.1"])
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stop, ready = asyncio.Event(), asyncio.Event()
    with_port = Served(port, tmp_path / "api.sock", context)
    task = asyncio.create_task(
        serve(
            api.app,
            listen="127.0.0.1",
            port=with_port.port,
            certificate=certificate,
            key=key,
            unix_socket_at=with_port.unix_socket,
            stop=stop,
            front=beside,
            ready=ready.set,
        )
    )
    await asyncio.wait({task, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    yield with_port
    stop.set()
    await asyncio.wait_for(task, 10)
    assert not with_port.unix_socket.exists()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> bytes:
    reader, writer = streams
    writer.write(request)
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: pve:8006", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_the_reason_phrase_is_the_error_text(served: Served) -> None:
    assert (await ask(await served.secure(), get("/api2/json/version"))).startswith(b"HTTP/1.1 401 No ticket\r\n")
    missing = await ask(await served.local(), get("/api2/json/nodes/pve/lxc/100/config"))
    assert missing.startswith(b"HTTP/1.1 500 Configuration file 'nodes/pve/lxc/100.conf' does not exist\r\n")


async def test_the_unix_socket_is_roots_and_needs_no_ticket(served: Served) -> None:
    assert stat.S_IMODE(os.stat(served.unix_socket).st_mode) == 0o600
    answer = await ask(await served.local(), get("/api2/json/access/users"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_plain_http_is_sent_to_https(served: Served) -> None:
    answer = await ask(await served.plain(), get("/api2/json/version?a=b"))
    assert answer.startswith(b"HTTP/1.1 301 ")
    assert b"Location: https://pve:8006/api2/json/version?a=b\r\n" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user@evil\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"nonsense",
        b"",
    ],
)
def test_a_redirection_leads_nowhere_else(head: bytes) -> None:
    assert redirection(head).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "headers",
    [
        [f"X-{number}: a" for number in range(100)],
        [f"X: {'a' * 9000}"],
        [f"X-{number}: {'a' * 900}" for number in range(20)],
    ],
    ids=["many", "long", "much"],
)
async def test_too_much_of_a_head_ends_the_connection(served: Served, headers: list[str]) -> None:
    answer = await ask(await served.local(), get("/api2/json/version", *headers))
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(("pieces", "told"), [(20, True), (10_000, False)])
async def test_too_large_a_body_ends_the_connection(served: Served, pieces: int, told: bool) -> None:
    reader, writer = await served.local()
    writer.write(b"POST /api2/json/pools HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    sent, answer = 0, b""
    with contextlib.suppress(ConnectionError):
        for _ in range(pieces):
            writer.write(b"10000\r\n" + b"a" * 65536 + b"\r\n")
            await asyncio.wait_for(writer.drain(), 10)
            sent += 1
        writer.write(b"0\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(100), 10)
    writer.close()
    if told:
        assert answer.startswith(b"HTTP/1.1 413 ")
    else:
        assert sent < 1000, "the server took in what it had refused"


async def test_what_is_left_of_a_refused_body_is_no_next_request(served: Served) -> None:
    """The answer comes before the body, of which nobody wants the rest; the connection goes on after it."""
    reader, writer = await served.secure()
    writer.write(b"POST /api2/json/pools HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
    for _ in range(3):
        writer.write(b"a" * 33300)
        await writer.drain()
        await asyncio.sleep(0.05)
    writer.write(get("/api2/json/version"))
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_a_connection_serves_many_requests(served: Served) -> None:
    reader, writer = await served.local()
    for _ in range(3):
        writer.write(get("/api2/json/version").replace(b"Connection: close\r\n", b""))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert b'"release"' in await reader.readexactly(length)
    writer.close()


async def test_slow_heads_are_cut_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_DEADLINE", 0.2)
    assert await ask(await served.local(), b"GET / HTTP/1.1\r\nHost: ") == b""


async def test_idle_connections_do_not_keep_others_out(api: Api, tmp_path: Path, few: int) -> None:
    async with serving(api, tmp_path, free_port()) as served:
        idle = [await served.plain() for _ in range(2 * few)]
        answer = await asyncio.wait_for(ask(await served.secure(), get("/api2/json/version")), 10)
        assert answer.startswith(b"HTTP/1.1 401 ")
        for _, writer in idle:
            writer.close()


async def test_a_full_gate_puts_out_who_is_idle_longest_and_never_who_works() -> None:
    put_out: list[str] = []
    gate = connection.Gate(2)
    assert gate.enter("a", lambda: put_out.append("a"))
    assert gate.enter("b", lambda: put_out.append("b"))
    gate.busy("a")
    assert gate.enter("c", lambda: put_out.append("c"))
    assert put_out == ["b"]
    gate.busy("c")
    assert not gate.enter("d", lambda: put_out.append("d"))
    gate.leave("a")
    assert gate.enter("d", lambda: put_out.append("d"))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """A gate of a hundred connections."""
    monkeypatch.setattr(process, "Gate", lambda: connection.Gate(100))
    return 100


def upgrade(path: str, *headers: str) -> bytes:
    handshake = ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    return get(path, *handshake, *headers).replace(b"Connection: close", b"Connection: Upgrade")


async def test_a_websocket_is_refused_as_a_request_is(api: Api, served: Served) -> None:
    path = "/api2/json/bastide/guests/100/exec?command=id"
    stranger = await ask(await served.secure(), upgrade(path))
    assert stranger.startswith(b"HTTP/1.1 401 No ticket\r\n")
    made = await api.data("POST", "/access/users/root@pam/token/t", privsep="0")
    token = f"Authorization: PVEAPIToken=root@pam!t={made['value']}"
    missing = await ask(await served.secure(), upgrade(path, token))
    assert missing.startswith(b"HTTP/1.1 500 a guest 100 does not exist; `bastide ls` shows the guests\r\n")
    foreign = await ask(await served.secure(), upgrade(path, token, "Origin: https://evil.example"))
    assert foreign.startswith(b"HTTP/1.1 403 ")
    own = await ask(await served.secure(), upgrade(path, token, "Origin: https://pve:8006"))
    assert own.startswith(b"HTTP/1.1 500 a guest 100 does not exist")
    unknown = await ask(await served.local(), upgrade("/api2/json/no/such/socket"))
    assert unknown.startswith(b"HTTP/1.1 403 ")


async def test_refused_websockets_take_no_place_for_ever(api: Api, tmp_path: Path, few: int) -> None:
    """Were their places kept, strangers could shut everybody out: take `handle_websocket_upgrade` out and it fails."""
    wanted = upgrade("/api2/json/bastide/guests/100/exec?command=id")
    async with serving(api, tmp_path, free_port()) as served:
        for _ in range(few // 20 + 1):
            answers = await asyncio.gather(*(_ask_securely(served, wanted) for _ in range(20)))
            assert {answer[:12] for answer in answers} == {b"HTTP/1.1 401"}


async def _ask_securely(served: Served, request: bytes) -> bytes:
    return await ask(await served.secure(), request)


async def test_a_port_is_waited_for_that_a_dying_process_holds(api: Api, tmp_path: Path) -> None:
    holder = socket.create_server(("127.0.0.1", 0))
    asyncio.get_running_loop().call_later(0.3, holder.close)
    async with serving(api, tmp_path, holder.getsockname()[1]) as host:
        assert (await ask(await host.secure(), get("/api2/json/version"))).startswith(b"HTTP/1.1 401 ")


async def test_a_port_that_stays_taken_is_told(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_PORT_PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as holder, pytest.raises(OSError, match="already in use"):
        async with serving(api, tmp_path, holder.getsockname()[1]):
            pass


async def test_an_open_stream_of_events_does_not_hold_up_the_end(api: Api, tmp_path: Path) -> None:
    async with serving(api, tmp_path, free_port()) as host:
        reader, writer = await host.local()
        writer.write(b"GET /api2/json/bastide/events HTTP/1.1\r\nHost: pve:8006\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert b"text/event-stream" in head
        await asyncio.wait_for(reader.readuntil(b": bastide\n\n"), 5)
        await api.services.rooms.store.put("guest/100", "{}")
        await asyncio.wait_for(reader.readuntil(b'data: {"guests":[100]}\n\n'), 5)
        begun = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - begun < 3, "it ends at once, not when its time is over"
    assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"0\r\n\r\n")
    writer.close()
