"""Fuzzed: what comes over the wire. Heads, bodies, forms, headers, tickets, frames, and answers to our own client."""

import asyncio
import logging
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn
from starlette.requests import HTTPConnection, Request
from uvicorn.server import ServerState

from bastide.access.keys import SigningKeys
from bastide.access.passwords import Passwords
from bastide.access.tickets import ConsoleTickets, Tickets
from bastide.access.totp import TotpSecret
from bastide.access.users import Tokens, Users
from bastide.access.webauthn import Refused, Site, begin_registration, finish_registration
from bastide.api import parameters
from bastide.api.auth import check_origin, check_same_origin, find_ticket, find_token
from bastide.api.encodings import takes
from bastide.api.errors import RequestRefused
from bastide.api.lxc import ConfigChange
from bastide.api.multipart import read_upload, text_fields
from bastide.api.parameters import gather, gather_nested
from bastide.base.errors import AuthenticationFailed, InvalidParameter, PermissionDenied
from bastide.client.errors import from_answer
from bastide.operations.terminal_stream import TerminalStream
from bastide.state.memory import MemoryStore
from bastide.web.connection import GuardedProtocol, GuardedWebSocket
from bastide.web.frames import BrokenFrame, Head
from bastide.web.listeners import redirection
from fuzz.registry import again, split, target, text, wait

_KINDS = ("application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=x", "", "text/xml")
_USER = "root@pam"


def _request(body: bytes, kind: str = "", query: bytes = b"", method: str = "POST") -> Request:
    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", kind.encode())] if kind else []
    return Request({"type": "http", "method": method, "headers": headers, "query_string": query}, receive)


@target("body", RequestRefused, InvalidParameter)
def body(data: bytes) -> None:
    """Bodies of every content type."""
    which, rest = split(data)
    found = wait(gather(_request(rest, _KINDS[which % len(_KINDS)]), {"vmid": "100"}))
    assert found["vmid"] == "100", "the path's values are the last word"


@target("nested-body", RequestRefused, InvalidParameter)
def nested_body(data: bytes) -> None:
    """JSON bodies that may hold mappings."""
    wait(gather_nested(_request(data, "application/json"), {}))


@target("query", RequestRefused, InvalidParameter)
def query(data: bytes) -> None:
    """Queries, read as a change of a container's options."""
    parameters.parse(ConfigChange, wait(gather(_request(b"", query=data), {"node": "pve", "vmid": "100"})))


@target("multipart", RequestRefused)
def multipart(data: bytes) -> None:
    """Multipart forms, with a boundary that the client chooses."""
    boundary, _, rest = data.partition(b"\n")
    text_fields(f"multipart/form-data; boundary={boundary.decode('latin-1')}", rest)


@target("upload", RequestRefused)
def upload(data: bytes) -> None:
    """Uploads in pieces of a size from the first byte."""
    which, rest = split(data)
    step, taken = which + 1 if len(rest) < 4096 else 65536, bytearray()

    async def pieces() -> Any:
        for at in range(0, len(rest), step):
            yield rest[at : at + step]

    async def sink(piece: bytes) -> None:
        taken.extend(piece)

    async def opened(_fields: list[tuple[str, str]], _name: str) -> Any:
        return sink

    wait(read_upload("multipart/form-data; boundary=x", pieces(), opened))
    assert bytes(taken) in rest, "a file's bytes are what was sent"


def _connection(data: bytes) -> HTTPConnection:
    """A connection with a header a line: `cookie: PVEAuthCookie=...`."""
    pairs = (line.partition(b":") for line in data.split(b"\n"))
    headers = [(name.strip().lower(), value.strip()) for name, _, value in pairs]
    return HTTPConnection({"type": "http", "headers": headers, "scheme": "https", "server": ("pve", 8006), "path": "/"})


@target("headers", PermissionDenied)
def headers(data: bytes) -> None:
    """Cookies, authorization, content codings and origins."""
    connection = _connection(data)
    assert "\n" not in (find_ticket(connection) or "").replace("%0A", "") or b"%0" in data
    find_token(connection)
    takes(connection, "gzip")
    check_same_origin(connection)
    check_origin(connection)


@cache
def _keys() -> SigningKeys:
    return SigningKeys(Path(tempfile.mkdtemp(prefix="fuzz-keys-")) / "keys.json")


@target("ticket", AuthenticationFailed)
def ticket(data: bytes) -> None:
    """Tickets, consoles' tickets and CSRF prevention tokens: not one that was not issued is good."""
    tickets, consoles, given = Tickets(_keys()), ConsoleTickets(), text(data)
    for verify in (
        tickets.verify,
        lambda told: tickets.verify_csrf(told, _USER),
        lambda told: consoles.use(told, _USER, "/vms/100", 5900),
    ):
        try:
            verify(given)
        except AuthenticationFailed:
            continue
        raise AssertionError(f"good, and never issued: {given!r}")


@target("token", AuthenticationFailed)
def token(data: bytes) -> None:
    """API tokens as the header has them."""
    store = MemoryStore()
    wait(Tokens(store, Users(store, Passwords())).verify(text(data)))


@target("terminal-stream", ValueError)
def terminal_stream(data: bytes) -> None:
    """What a browser's terminal sends, in one piece and byte by byte."""
    assert TerminalStream().feed(data) == _by_bytes(data[:4096]) or len(data) > 4096


def _by_bytes(data: bytes) -> list[bytes]:
    stream = TerminalStream()
    return [frame for at in range(len(data)) for frame in stream.feed(data[at : at + 1])]


@target("redirection")
def redirected(data: bytes) -> None:
    """Heads of plain HTTP on the port of TLS: the answer is one head and leads nowhere else."""
    answer = redirection(data)
    assert answer.count(b"\r\n\r\n") == 1
    assert answer.endswith(b"\r\n\r\n")
    assert len(answer) < 8192


@target("client-answer")
def client_answer(data: bytes) -> None:
    """A server's errors, as our own client reads them."""
    which, rest = split(data)
    assert isinstance(from_answer(400 + which % 112, "reason", rest), Exception)


class _Transport(asyncio.Transport):
    """A connection's end that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 5), "sockname": ("192.0.2.2", 8006)}.get(name, default)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def pause_reading(self) -> None:
        """Nobody writes here."""

    def resume_reading(self) -> None:
        """Nobody writes here."""


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Takes WebSockets, and answers every other request with as many bytes as its body had."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            pass
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    told = str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]})
    await send({"type": "http.response.body", "body": told})


@cache
def _config() -> uvicorn.Config:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    config = uvicorn.Config(_app, http=GuardedProtocol, ws=GuardedWebSocket, lifespan="off", log_config=None,
                            access_log=False, proxy_headers=False, ws_max_size=1 << 20,
                            ws_per_message_deflate=False, ws_ping_interval=None)  # fmt: skip
    config.load()
    return config


async def _served(pieces: list[bytes]) -> bytes:
    state, transport = ServerState(), _Transport()
    transport.protocol = GuardedProtocol(config=_config(), server_state=state, app_state={})
    transport.protocol.connection_made(transport)
    for piece in pieces:
        if not transport.closed:
            transport.protocol.data_received(piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    transport.protocol.connection_lost(None)
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=10)
        assert not [task for task in state.tasks if not task.done()], "a request is at work for ever"
    return bytes(transport.written)


@target("http")
def http(data: bytes) -> None:
    """Requests as a stranger sends them, in two pieces."""
    answer = wait(_served([data[: len(data) // 2], data[len(data) // 2 :]]))
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 500" not in answer


_UPGRADE = (
    b"GET /x HTTP/1.1\r\nHost: pve\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@target("websocket")
def websocket(data: bytes) -> None:
    """Frames behind a good handshake."""
    assert wait(_served([_UPGRADE, b"", data])).startswith(b"HTTP/1.1 101")


@target("web-head", BrokenFrame)
def web_head(data: bytes) -> None:
    """A request's head as the daemon reads it from the web process, which may be taken over."""
    head = Head.from_bytes(data)
    assert Head.from_bytes(head.to_bytes()) == head


@target("totp", InvalidParameter)
def totp(data: bytes) -> None:
    """Secrets of second factors."""
    again(TotpSecret.from_uri, text(data), lambda secret: f"otpauth://totp/x?{urlencode(_kept(secret))}")


def _kept(secret: TotpSecret) -> dict[str, object]:
    return {"secret": secret.secret, "digits": secret.digits, "period": secret.period, "algorithm": secret.algorithm}


@target("webauthn", Refused)
def webauthn(data: bytes) -> None:
    """A key's answer to a registration, and to a login."""
    site = Site("pve.test", "pve", "https://pve.test")
    challenge, _ = begin_registration(site, "root@pam", [])
    finish_registration(site, challenge, text(data))
