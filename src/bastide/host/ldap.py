"""A client of directories: binding by password and searching, over LDAP (RFC 4511), LDAPS or StartTLS (RFC 4511, 4.14).

Answers are read with limits of their size, number and time; referrals and continuation references are not followed, so
that no directory sends this host elsewhere. Nothing is sent before TLS is there, where it is asked for.
"""

import asyncio
import contextlib
import os
import secrets
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bastide.base.errors import DeadlineExceeded, HostFailure, InvalidParameter
from bastide.base.units import MIB
from bastide.host import ber
from bastide.host.download import Guard, permitted

CONNECT_DEADLINE = 5.0
ANSWER_DEADLINE = 10.0
"""Seconds for one answer; a search has as many for each of its pages."""

MESSAGE_LIMIT = 8 * MIB
SEARCH_LIMIT = 64 * MIB
ENTRY_LIMIT = 200_000
PAGE = 1000
"""Entries of a page (RFC 2696): what Active Directory gives at most."""

_START_TLS = "1.3.6.1.4.1.1466.20037"
_PAGED = "1.2.840.113556.1.4.319"
_ENTRY, _DONE, _REFERENCE = 0x64, 0x65, 0x73
_SUCCESS, _INVALID_CREDENTIALS, _INAPPROPRIATE, _NO_SUCH_OBJECT, _INVALID_DN = 0, 49, 48, 32, 34
_NAMES = {
    1: "operations error", 2: "protocol error", 3: "time limit exceeded", 4: "size limit exceeded",
    8: "stronger authentication required", 11: "administrative limit exceeded", 13: "confidentiality required",
    32: "no such object", 34: "invalid DN syntax", 49: "invalid credentials", 50: "insufficient access",
    51: "busy", 52: "unavailable", 53: "unwilling to perform",
}  # fmt: skip
BASE, SUBTREE = 0, 2
"""Scopes of a search: the object alone, or it and all below it."""


class Refused(HostFailure):
    """The directory's answer is a failure; `code` is RFC 4511's."""

    def __init__(self, what: str, code: int, message: str) -> None:
        self.code = code
        said = "".join(char for char in message if char.isprintable())[:200]
        super().__init__(f"{what}: {_NAMES.get(code, f'result {code}')}{f' ({said})' if said else ''}")


@dataclass(frozen=True, slots=True)
class Server:
    """Where a directory is. `context` makes LDAPS of it, or with `upgrade` StartTLS. `guard`: addresses it may have."""

    host: str
    port: int
    context: ssl.SSLContext | None = None
    upgrade: bool = False
    guard: Guard = field(default_factory=Guard)


@dataclass(frozen=True, slots=True)
class Found:
    """An entry: its DN, and its attributes' values by their names in lower case."""

    dn: str
    attributes: Mapping[str, tuple[str, ...]]

    def first(self, attribute: str) -> str | None:
        """The first value of an attribute."""
        return next(iter(self.attributes.get(attribute.lower(), ())), None)


@contextlib.asynccontextmanager
async def connected(servers: Sequence[Server]) -> AsyncIterator["Directory"]:
    """A connection to the first of the servers that answers, closed in the end.

    Raises the last one's HostFailure, DeadlineExceeded, or PermissionDenied for an address that is not allowed.
    """
    for server in servers[:-1]:
        with contextlib.suppress(HostFailure):
            directory = await _connect(server)
            break
    else:
        directory = await _connect(servers[-1])
    try:
        yield directory
    finally:
        directory.close()


class Directory:
    """A connection, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        self._reader = reader
        self._writer = writer
        self._name = name
        self._number = 0

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Go on encrypted. Raises Refused, HostFailure."""
        answer = await self._ask(ber.encode(0x77, ber.octets(_START_TLS, 0x80)), 0x78)
        with _named(self._name):
            _expect(f"{self._name}: StartTLS", answer)
        await self._writer.start_tls(context, server_hostname=name)
        # By chance: an answer that somebody put on the line before TLS began has not the number of what is asked now.
        self._number = 1 + secrets.randbelow(1 << 30)

    async def bind(self, name: str, password: str) -> bool:
        """Whether the directory knows the name (a DN, or what it takes for one) with the password.

        An empty password never binds: directories answer success to it and mean nobody (RFC 4513, section 5.1.2).
        Raises Refused for other failures than these, HostFailure, DeadlineExceeded.
        """
        if not name or not password:
            return False
        return await self._bind(name, password)

    async def bind_anonymously(self) -> None:
        """Be nobody, for directories that are read so. Raises Refused."""
        if not await self._bind("", ""):
            raise Refused(f"{self._name}: anonymous bind", _INAPPROPRIATE, "")

    async def search(
        self, base: str, wanted: bytes, attributes: Sequence[str] = ("1.1",), *, scope: int = SUBTREE, limit: int = 0
    ) -> list[Found]:
        """The entries below `base` that a filter (`ldap_filter`) matches, page by page; at most `limit`, if it is set.

        Raises Refused, HostFailure for an answer beyond the limits, DeadlineExceeded.
        """
        found: list[Found] = []
        request = _search(base, scope, limit, wanted, attributes)
        what = f"{self._name}: search below '{base[:80]}'"
        cookie, left = b"", SEARCH_LIMIT
        while True:
            async with self._in_time():
                await self._send(request, b"" if limit else _paged(cookie))
                while (message := await self._receive()).operation.tag != _DONE:
                    left -= message.size
                    if left < 0 or len(found) >= ENTRY_LIMIT:
                        raise HostFailure(f"{what}: the answer is too long: narrow it with a filter")
                    if message.operation.tag != _REFERENCE:
                        found.append(_entry(message.operation.expect(_ENTRY)))
                _expect(what, message.operation)
                cookie = _cookie(message.controls)
            if not cookie:
                return found

    def close(self) -> None:
        """End the connection, politely if it still takes a word."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write(ber.sequence(ber.integer(self._number + 1), ber.encode(0x42)))
        self._writer.close()

    async def _bind(self, name: str, password: str) -> bool:
        request = ber.encode(0x60, ber.integer(3), ber.octets(name), ber.octets(password, 0x80))
        answer = await self._ask(request, 0x61)
        with _named(self._name):
            # A name that is no DN, or is not there, is a wrong one as well.
            if _result(answer)[0] in (_INVALID_CREDENTIALS, _INAPPROPRIATE, _NO_SUCH_OBJECT, _INVALID_DN):
                return False
            _expect(f"{self._name}: bind", answer)
            return True

    async def _ask(self, request: bytes, tag: int) -> ber.Element:
        async with self._in_time():
            await self._send(request)
            return (await self._receive()).operation.expect(tag)

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        with _named(self._name):
            async with asyncio.timeout(ANSWER_DEADLINE):
                yield

    async def _send(self, request: bytes, controls: bytes = b"") -> None:
        self._number += 1
        self._writer.write(ber.sequence(ber.integer(self._number), request, controls))
        await self._writer.drain()

    async def _receive(self) -> "_Message":
        message = await self._read()
        if message.number != self._number:
            raise ber.MalformedError("an answer to what was not asked")
        return message

    async def _read(self) -> "_Message":
        data = await self._reader.readexactly(2)
        while (head := ber.head_of(data)) is None:
            data += await self._reader.readexactly(1)
        if data[0] != ber.SEQUENCE or head[1] > MESSAGE_LIMIT:
            raise ber.MalformedError(f"a message of {head[1]} bytes")
        body = await self._reader.readexactly(head[1])
        number, operation, *controls = ber.Element(data[0], body).children()
        return _Message(number.expect(ber.INTEGER).number, operation, controls[0] if controls else None, len(body))


@dataclass(frozen=True, slots=True)
class _Message:
    number: int
    operation: ber.Element
    controls: ber.Element | None
    size: int


async def _connect(server: Server) -> Directory:
    name = f"{server.host}:{server.port}"
    with _named(name):
        async with asyncio.timeout(CONNECT_DEADLINE):
            reader, writer = await _open(server)
            directory = Directory(reader, writer, name)
            try:
                if server.context is not None and server.upgrade:
                    await directory.start_tls(server.context, server.host)
            except BaseException:
                writer.close()
                raise
            return directory


async def _open(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    addresses = [str(address) for address in await permitted(server.host, server.port, server.guard)]
    context = None if server.upgrade else server.context
    name = server.host if context is not None else None
    for address in addresses[:-1]:
        with contextlib.suppress(ConnectionError):
            return await asyncio.open_connection(address, server.port, ssl=context, server_hostname=name)
    return await asyncio.open_connection(addresses[-1], server.port, ssl=context, server_hostname=name)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of a connection as errors of the tree, with the server's name."""
    try:
        yield
    except TimeoutError:
        raise DeadlineExceeded(f"the directory {name} does not answer in time") from None
    except ssl.SSLCertVerificationError as error:
        raise HostFailure(f"the certificate of the directory {name} is refused: {error.verify_message}") from None
    except (ber.MalformedError, ValueError) as error:
        raise HostFailure(f"the directory {name} does not speak LDAP: {error}") from None
    except (OSError, EOFError) as error:
        raise HostFailure(f"the directory {name} cannot be reached: {str(error) or type(error).__name__}") from None


def _search(base: str, scope: int, limit: int, wanted: bytes, attributes: Sequence[str]) -> bytes:
    return ber.encode(
        0x63,
        ber.octets(base),
        ber.integer(scope, ber.ENUMERATED),
        ber.integer(0, ber.ENUMERATED),  # aliases are not followed
        ber.integer(limit),
        ber.integer(int(ANSWER_DEADLINE)),
        ber.boolean(False),
        wanted,
        ber.sequence(*(ber.octets(name) for name in attributes)),
    )


def _paged(cookie: bytes) -> bytes:
    value = ber.sequence(ber.integer(PAGE), ber.octets(cookie))
    return ber.encode(0xA0, ber.sequence(ber.octets(_PAGED), ber.octets(value)))


def _cookie(controls: ber.Element | None) -> bytes:
    """Where the next page begins; empty after the last one, and where the directory knows no pages."""
    for control in controls.children(ber.SEQUENCE) if controls is not None else ():
        name, *rest = control.children()
        if name.text == _PAGED and rest:
            _, cookie = ber.Element(0, rest[-1].body).children()[0].children()
            return cookie.expect(ber.OCTETS).body
    return b""


def _entry(operation: ber.Element) -> Found:
    dn, attributes = operation.children()
    values = {}
    for attribute in attributes.expect(ber.SEQUENCE).children(ber.SEQUENCE):
        name, found = attribute.children()
        values[name.text.lower()] = tuple(one.text for one in found.expect(ber.SET).children(ber.OCTETS))
    return Found(dn.expect(ber.OCTETS).text, values)


def _result(operation: ber.Element) -> tuple[int, str]:
    code, _, message, *_ = operation.children()
    return code.expect(ber.ENUMERATED).number, message.expect(ber.OCTETS).text


def _expect(what: str, operation: ber.Element) -> None:
    code, message = _result(operation)
    if code != _SUCCESS:
        raise Refused(what, code, message)


def tls_context(
    *,
    verify: bool,
    authorities: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    newest: bool = False,
) -> ssl.SSLContext:
    """How to speak TLS to a directory; `newest` is TLS 1.3 alone.

    `authorities` is a file or folder of certificates, without which the system's are believed. Raises
    InvalidParameter that names what cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if newest else ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    parameter = "capath"
    try:
        if verify and authorities is None:
            context.load_default_certs()
        elif authorities is not None and verify:
            folder = os.path.isdir(authorities)
            context.load_verify_locations(None if folder else authorities, authorities if folder else None)
        if cert is not None:
            parameter = "cert"
            context.load_cert_chain(cert, key)
    except (OSError, ValueError):
        raise InvalidParameter({parameter: "this is not readable as PEM"}) from None
    return context
