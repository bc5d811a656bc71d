"""Probes against servers of the test's own, on loopback."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import HostFailure
from bastide.host import service_probe
from bastide.host.service_probe import (
    check,
    check_dns_answer,
    check_ntp_answer,
    dns_query,
    ntp_query,
    target,
    usable,
)
from bastide.model.catalog import Probe

pytestmark = pytest.mark.anyio

HERE = "127.0.0.1"


@contextlib.asynccontextmanager
async def tcp(answer: bytes, heard: list[bytes] | None = None, *, stays: bool = False) -> AsyncIterator[int]:
    """A server that reads once, answers and closes; with `stays` it does not close. Its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if heard is not None:
            heard.append(await reader.read(4096))
        writer.write(answer)
        with contextlib.suppress(OSError):
            await writer.drain()
            if stays:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, HERE, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def udp(answer) -> AsyncIterator[int]:
    """A server that answers each datagram with `answer(datagram)`. Its port."""

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport) -> None:
            self.transport = transport

        def datagram_received(self, data, addr) -> None:
            self.transport.sendto(answer(data), addr)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Server, local_addr=(HERE, 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def http(status: str, body: bytes = b"", head: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n".encode() + head + b"\r\n" + body


async def asked(port: int, **options) -> str:
    """What was wrong with the answer; empty when nothing was."""
    try:
        await check(Probe(port=port, **options), HERE, deadline=3)
    except HostFailure as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("answer", "options", "wrong"),
    [
        (http("200 OK", b"welcome"), {"contains": "come"}, ""),
        (http("200 OK", b"welcome"), {"contains": "nginx"}, "does not contain 'nginx'"),
        (http("503 No"), {}, "HTTP 503"),
        (http("401 Who"), {"status": [401]}, ""),
        (b"not http at all\r\n\r\n", {}, "llegal"),
    ],
)
async def test_http(answer, options, wrong) -> None:
    heard: list[bytes] = []
    async with tcp(answer, heard) as port:
        found = await asked(port, type="http", path="/a?b=c", **options)
        assert bool(found) == bool(wrong)
        assert wrong in found
    assert heard[0].startswith(b"GET /a?b=c HTTP/1.1\r\n")


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    reached: list[bytes] = []
    async with tcp(http("200 OK"), reached) as elsewhere:
        answer = http("302 Found", head=f"Location: http://{HERE}:{elsewhere}/\r\n".encode())
        async with tcp(answer, []) as port:
            assert await asked(port, type="http") == "the answer is HTTP 302"
            assert await asked(port, type="http", status=[302]) == ""
    assert reached == []


async def test_proxies_of_the_environment_are_not_asked(monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{HERE}:9")
    async with tcp(http("200 OK"), []) as port:
        assert await asked(port, type="http") == ""


async def test_an_endless_body_is_read_to_a_limit(monkeypatch) -> None:
    monkeypatch.setattr(service_probe, "READ_LIMIT", 1000)
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    async with tcp(head + b"x" * 200_000 + b"needle", [], stays=True) as port:
        assert "does not contain" in await asked(port, type="http", contains="needle")


@pytest.mark.parametrize(
    ("answer", "options", "wrong"),
    [
        (b"220 mail ESMTP\r\n", {"contains": "ESMTP"}, False),
        (b"220 mail\r\n", {"contains": "ESMTP"}, True),
        (b"", {}, False),
        (b"\xff\xfe+PONG", {"send": "PING\r\n", "contains": "PONG"}, False),
    ],
)
async def test_tcp(answer, options, wrong) -> None:
    async with tcp(answer, [] if "send" in options else None) as port:
        assert bool(await asked(port, type="tcp", **options)) == wrong


async def test_tcp_sends_what_it_shall() -> None:
    heard: list[bytes] = []
    async with tcp(b"VERSION 1\r\n", heard) as port:
        assert await asked(port, type="tcp", send="version\r\n", contains="VERSION") == ""
    assert heard == [b"version\r\n"]


async def test_what_never_answers_takes_no_longer_than_it_may() -> None:
    async with tcp(b"", stays=True) as port:
        with pytest.raises(HostFailure, match=r"no answer within 0\.1 seconds"):
            await check(Probe(type="tcp", port=port, contains="x"), HERE, deadline=0.1)


@pytest.mark.parametrize("kind", ["http", "https", "tcp", "dns", "ntp"])
async def test_a_closed_port_is_told(kind) -> None:
    async with tcp(b"") as port:
        pass
    wanted = "All connection attempts failed" if kind.startswith("http") else "Connection refused"
    assert await asked(port, type=kind) == wanted


async def test_a_command_is_not_asked_from_the_host() -> None:
    with pytest.raises(ValueError, match="command"):
        await check(Probe(type="command", command=("true",)), HERE)


def dns_answer(query: bytes, *, code: int = 0, records: int = 1, number: int | None = None) -> bytes:
    number = int.from_bytes(query[:2]) if number is None else number
    return struct.pack("!6H", number, 0x8180 | code, 1, records, 0, 0) + query[12:]


async def test_dns() -> None:
    async with udp(dns_answer) as port:
        assert await asked(port, type="dns", name="localhost") == ""
    async with udp(lambda query: dns_answer(query, code=5)) as port:
        assert "error 5" in await asked(port, type="dns")
    async with udp(lambda query: dns_answer(query, records=0)) as port:
        assert "no record" in await asked(port, type="dns")
    async with udp(lambda query: query) as port:
        assert "no answer to" in await asked(port, type="dns")


def test_a_dns_query_byte_by_byte() -> None:
    header = bytes.fromhex("abcd 0100 0001 0000 0000 0000")
    assert dns_query("db.lan.", 0xABCD) == header + b"\x02db\x03lan\x00" + bytes.fromhex("0001 0001")


@given(st.text(max_size=300))
def test_any_name_makes_a_query_or_an_error(name) -> None:
    with contextlib.suppress(HostFailure):
        query = dns_query(name, 7)
        assert query[:2] == b"\0\7"
        check_dns_answer(query, dns_answer(query))


@given(st.binary(max_size=200))
def test_any_datagram_is_judged(data) -> None:
    with pytest.raises(HostFailure):
        check_dns_answer(dns_query("localhost", 1), b"\xff\xff" + data)
    with pytest.raises(HostFailure):
        check_ntp_answer(ntp_query(b"12345678"), data)


def ntp_answer(query: bytes, *, first: int = 0x24, stratum: int = 2) -> bytes:
    return bytes([first, stratum]) + bytes(22) + query[40:48] + bytes(16)


async def test_ntp() -> None:
    async with udp(ntp_answer) as port:
        assert await asked(port, type="ntp") == ""
    for options in ({"stratum": 0}, {"stratum": 16}, {"first": 0xE4}):
        async with udp(lambda query, options=options: ntp_answer(query, **options)) as port:
            assert "not synchronized" in await asked(port, type="ntp")
    async with udp(lambda _query: ntp_answer(bytes(48))) as port:
        assert "no answer to" in await asked(port, type="ntp")


async def test_a_guest_is_none_of_the_hosts_own_addresses() -> None:
    assert await usable(["127.0.0.2", "::1", "0.0.0.0", "224.0.0.1", "fe80::1", "203.0.113.7", "2001:db8::7"]) == [
        "203.0.113.7",
        "2001:db8::7",
    ]


def test_targets_as_people_write_them() -> None:
    assert target(Probe(type="https", port=8006, path="/x"), "fd00::5") == "https://[fd00::5]:8006/x"
    assert target(Probe(type="tcp", port=25), "10.0.0.5") == "tcp 10.0.0.5:25"
