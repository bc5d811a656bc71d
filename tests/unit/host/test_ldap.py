"""The LDAP client against servers that are hostile: none hangs it, fills the memory or is believed."""

import asyncio
import contextlib
import ipaddress
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bastide.base.errors import DeadlineExceeded, HostFailure, PermissionDenied
from bastide.base.units import MIB
from bastide.host import ber, ldap, ldap_filter
from bastide.host.download import Guard

pytestmark = pytest.mark.anyio

HERE = Guard(networks=(ipaddress.ip_network("127.0.0.0/8"),))
ANY = ldap_filter.present("objectClass")
Answer = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def done(number: int, tag: int = 0x65, code: int = 0, *controls: bytes) -> bytes:
    result = ber.encode(tag, ber.integer(code, ber.ENUMERATED), ber.octets(""), ber.octets("what it says"))
    return ber.sequence(ber.integer(number), result, *controls)


def entry(number: int, dn: str = "cn=x", size: int = 1) -> bytes:
    values = ber.encode(ber.SET, ber.octets(b"v" * size))
    return ber.sequence(
        ber.integer(number), ber.encode(0x64, ber.octets(dn), ber.sequence(ber.sequence(ber.octets("a"), values)))
    )


async def _number(reader: asyncio.StreamReader) -> int:
    head = await reader.readexactly(2)
    while (sizes := ber.head_of(head)) is None:
        head += await reader.readexactly(1)
    return ber.Element(0, await reader.readexactly(sizes[1])).children()[0].number


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[ldap.Server]:
    """A server that answers each connection's first request with `answer(its number, ...)`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await answer(await _number(reader), reader, writer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield ldap.Server("127.0.0.1", server.sockets[0].getsockname()[1], guard=HERE)
    finally:
        server.close()


async def search(server: ldap.Server) -> list[ldap.Found]:
    async with ldap.connected([server]) as directory:
        return await directory.search("dc=x", ANY, ["a"])


async def test_an_honest_answer_is_read() -> None:
    async def answer(number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        referral = ber.sequence(ber.integer(number), ber.encode(0x73, ber.octets("ldap://elsewhere/")))
        writer.write(entry(number, "cn=ada") + referral + done(number))

    async with serving(answer) as server:
        assert await search(server) == [ldap.Found("cn=ada", {"a": ("v",)})]


@pytest.mark.parametrize(
    "said",
    [
        lambda number: done(number + 1),
        lambda number: entry(number + 1) + done(number),
        lambda _number: done(0, 0x78, 52),  # the notice of disconnection, RFC 4511 section 4.4.1
        lambda number: ber.sequence(ber.integer(number), ber.encode(0x61)),
        lambda number: ber.sequence(ber.integer(number), ber.encode(0x64, ber.octets("cn=x"))),
        lambda number: ber.sequence(ber.integer(number)),
        lambda number: b"\x30\x80\x00\x00",
        lambda number: b"\x30\x84\xff\xff\xff\xff",
        lambda number: b"HTTP/1.1 400 Bad Request\r\n\r\n",
        lambda number: b"",
        lambda number: done(number)[:-4],
        lambda number: done(number, 0x65, 0, ber.encode(0xA0, b"\x30\x03\x04\x05x")),
    ],
    ids=["wrong number", "another's entry", "disconnection", "another answer", "half an entry", "empty message",
         "indefinite", "4 GB", "http", "nothing", "cut short", "bad controls"],
)  # fmt: skip
async def test_what_is_no_answer_is_a_failure(said: Callable[[int], bytes]) -> None:
    async def answer(number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said(number))

    async with serving(answer) as server:
        with pytest.raises(HostFailure, match=r"directory 127\.0\.0\.1"):
            await search(server)


async def test_deep_nesting_is_an_answer_like_any_other() -> None:
    async def answer(number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        deep = b""
        for _ in range(3000):
            deep = ber.sequence(deep)
        writer.write(ber.sequence(ber.integer(number), ber.encode(0x64, ber.octets("cn=x"), deep)))

    async with serving(answer) as server:
        with pytest.raises(HostFailure):
            await search(server)


async def test_an_endless_answer_ends_at_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "SEARCH_LIMIT", 4 * MIB)

    async def answer(number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        piece = entry(number, size=64_000)
        while True:
            writer.write(piece)
            await writer.drain()

    tracemalloc.start()
    try:
        async with serving(answer) as server:
            with pytest.raises(HostFailure, match="too long"):
                await search(server)
        assert tracemalloc.get_traced_memory()[1] < 40 * MIB
    finally:
        tracemalloc.stop()


async def test_endless_pages_end_at_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "ENTRY_LIMIT", 50)
    value = ber.sequence(ber.integer(0), ber.octets("more"))
    more = ber.encode(0xA0, ber.sequence(ber.octets("1.2.840.113556.1.4.319"), ber.octets(value)))

    async def answer(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(entry(number) + done(number, 0x65, 0, more))
            await writer.drain()
            number = await _number(reader)

    async with serving(answer) as server:
        with pytest.raises(HostFailure, match="too long"):
            await search(server)


async def test_a_server_that_hangs_is_left_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "ANSWER_DEADLINE", 0.3)

    async def hang(_number: int, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(hang) as server:
        with pytest.raises(DeadlineExceeded, match="does not answer in time"):
            await search(server)


async def test_the_second_server_is_asked_when_the_first_is_down() -> None:
    async def answer(number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(done(number, 0x61))

    async with serving(answer) as server:
        nobody = ldap.Server("127.0.0.1", 1, guard=HERE)
        async with ldap.connected([nobody, server]) as directory:
            assert await directory.bind("cn=ada", "lovelace")
        with pytest.raises(HostFailure, match="cannot be reached"):
            async with ldap.connected([nobody]):
                pass


async def test_an_empty_password_never_binds() -> None:
    asked = 0

    async def answer(number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(done(number, 0x61))  # as directories do, and mean nobody

    async with serving(answer) as server, ldap.connected([server]) as directory:
        assert not await directory.bind("cn=ada", "")
        assert not await directory.bind("", "lovelace")
        assert asked == 0
        assert await directory.bind("cn=ada", "lovelace")
        assert asked == 1


async def test_addresses_that_are_not_allowed_are_not_connected_to() -> None:
    connections = 0

    async def answer(_number: int, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1

    async with serving(answer) as server:
        for name in ("127.0.0.1", "localhost"):
            with pytest.raises(PermissionDenied):
                await search(ldap.Server(name, server.port, guard=Guard(private=True)))
        for name in ("169.254.169.254", "168.63.129.16"):
            with pytest.raises(PermissionDenied):
                await search(ldap.Server(name, server.port, guard=Guard(private=True, networks=HERE.networks)))
    assert connections == 0
