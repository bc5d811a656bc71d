"""Downloads over HTTP and HTTPS that cannot be turned against this host or its networks.

A name is resolved once, every address that it has is checked, and the connection goes to a checked address; TLS
still verifies the name. Redirects take the same way. Proxies of the environment are not used: they would resolve
names where nobody checks them.
"""

import asyncio
import contextlib
import fcntl
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

import httpcore

from bastide.base.errors import BastideError, DeadlineExceeded, HostFailure, InvalidParameter, Locked, PermissionDenied
from bastide.base.units import MIB
from bastide.host.filesystems import translated
from bastide.host.partial import Part, Progress

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

CONNECT_DEADLINE = 15.0
READ_DEADLINE = 60.0
REDIRECTS = 5
_ATTEMPTS = 5
_CHUNK = MIB

# Services of cloud machines that hand out credentials, at addresses that look public or merely private.
_NEVER = frozenset(
    ipaddress.ip_address(text) for text in ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Guard:
    """Which addresses may be connected to: public ones, private ones if `private`, and `networks` in any case.

    Loopback, link-local, metadata, multicast and reserved addresses are refused otherwise.
    """

    private: bool = False
    networks: Sequence[Network] = ()

    def permits(self, address: Address) -> bool:
        """Whether a connection to an address is allowed."""
        if any(address in network for network in self.networks if network.version == address.version):
            return True
        if isinstance(address, IPv6Address):
            inner = address.ipv4_mapped or address.sixtofour
            if inner is None and address in _NAT64:
                inner = IPv4Address(int(address) & 0xFFFFFFFF)
            if inner is not None:
                return self.permits(inner)
            if address.teredo is not None or address.scope_id is not None:
                return False
        if address in _NEVER or address.is_multicast or address.is_loopback or address.is_link_local:
            return False
        if any(address in network for network in _PRIVATE if network.version == address.version):
            return self.private
        return address.is_global and not address.is_reserved


PUBLIC = Guard()
"""Public addresses only."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A finished download: bytes, and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a server says of a file before it is fetched; None where it says nothing."""

    filename: str
    mimetype: str | None
    size: int | None


class _Interrupted(HostFailure):
    """The transfer broke off; another try may carry on with it."""


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check every address, connect to the first that answers."""
        addresses = await permitted(host, port, self._guard)
        for address in addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._backend.connect_tcp(str(address), port, timeout, local_address, socket_options)
        return await self._backend.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Wait between the pool's own attempts."""
        await asyncio.sleep(seconds)


async def permitted(host: str, port: int, guard: Guard = PUBLIC) -> list[Address]:
    """The addresses of a host, to connect to these. Raises HostFailure, PermissionDenied if one is not allowed."""
    addresses = await _resolve(host, port)
    for address in addresses:
        if not guard.permits(address):
            raise PermissionDenied(f"'{host}' is at {address}, an address that this host does not connect to")
    return addresses


def check_url(url: str) -> str:
    """The URL if it can be downloaded from. Raises InvalidParameter naming `url`."""
    try:
        parts = urlsplit(url)
        port = parts.port
        url.encode("ascii")
    except (ValueError, UnicodeError):
        raise InvalidParameter({"url": "this is not a valid URL"}) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InvalidParameter({"url": "only http:// and https:// URLs with a host name can be used"})
    if "@" in parts.netloc or any(char <= " " or char == "\x7f" for char in url):
        raise InvalidParameter({"url": "a URL with a user name, spaces or control characters can't be used"})
    return url


async def fetch(
    url: str,
    guard: Guard = PUBLIC,
    *,
    limit: int = 64 * MIB,
    deadline: float = READ_DEADLINE,
    verify: bool = True,
) -> bytes:
    """A small document: at most `limit` bytes within `deadline` seconds.

    Raises HostFailure, DeadlineExceeded, PermissionDenied, InvalidParameter.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(deadline), _pool(guard, verify) as pool, _request(pool, "GET", url, {}) as response:
            _expect(response, url, (HTTPStatus.OK,))
            async for part in response.aiter_stream():
                body += part
                if len(body) > limit:
                    raise HostFailure(f"download failed: the answer of {_host(url)} is longer than {limit} bytes")
    except TimeoutError:
        raise DeadlineExceeded(f"download failed: {_host(url)} did not answer within {deadline:g} seconds") from None
    return bytes(body)


async def exchange(
    method: str, url: str, guard: Guard = PUBLIC, *, headers: Mapping[str, str], body: bytes = b"", limit: int = MIB
) -> tuple[int, bytes]:
    """One call of a service: the status and at most `limit` bytes. Redirects are not followed: a secret may be in it.

    Raises HostFailure, DeadlineExceeded, PermissionDenied, InvalidParameter.
    """
    check_url(url)
    sent = [("Host", urlsplit(url).netloc), ("User-Agent", "bastide"), ("Content-Length", str(len(body)))]
    answer = bytearray()
    try:
        async with (
            asyncio.timeout(CONNECT_DEADLINE),
            _pool(guard, True) as pool,
            pool.stream(method, url, headers=[*sent, *headers.items()], content=body) as response,
        ):
            async for part in response.aiter_stream():
                answer += part
                if len(answer) > limit:
                    raise HostFailure(f"the answer of {_host(url)} is longer than {limit} bytes")
            return response.status, bytes(answer)
    except TimeoutError:
        raise DeadlineExceeded(f"{_host(url)} did not answer within {CONNECT_DEADLINE:g} seconds") from None
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
        raise HostFailure(f"{_host(url)} cannot be asked: {str(error) or type(error).__name__}") from None


async def metadata(url: str, guard: Guard = PUBLIC, *, verify: bool = True) -> Metadata:
    """What a server says of a file. Raises HostFailure, PermissionDenied, InvalidParameter."""
    async with _pool(guard, verify) as pool, _request(pool, "HEAD", url, {}) as response:
        _expect(response, url, (HTTPStatus.OK,))
        headers = _headers(response)
        mimetype = headers.get("content-type", "").partition(";")[0].strip()
        name = unquote(urlsplit(url).path).rpartition("/")[2]
        return Metadata(name, mimetype or None, _number(headers.get("content-length")))


async def download(
    url: str,
    target: Path,
    guard: Guard = PUBLIC,
    *,
    checksum: tuple[str, str] | None = None,
    limit: int = 1 << 40,
    verify: bool = True,
    progress: Progress | None = None,
) -> Downloaded:
    """Fetch a URL to a file. A target that an earlier, broken download of the same URL left is carried on with.

    `checksum` is (algorithm, hexadecimal). `progress` gets the bytes so far and the whole, if known. After a failure
    the part stays for the next try, except when its content is wrong. Raises HostFailure,
    PermissionDenied, InvalidParameter, Locked when another download writes the target.
    """
    check_url(url)
    with _locked(target) as file:
        part = Part(url, target, file, algorithm=checksum[0] if checksum else None, limit=limit, progress=progress)
        await asyncio.to_thread(part.recover)
        async with _pool(guard, verify) as pool:
            await _attempts(pool, part)
        await asyncio.to_thread(part.finish)
        if checksum is not None and part.digest() != checksum[1].lower():
            part.discard()
            raise HostFailure(f"checksum mismatch: got '{part.digest()}' != expect '{checksum[1].lower()}'")
        part.note.unlink(missing_ok=True)
        return Downloaded(part.size, part.sha256.hexdigest())


async def _attempts(pool: httpcore.AsyncConnectionPool, part: Part) -> None:
    failures = 0
    while True:
        before = part.size
        try:
            return await _transfer(pool, part)
        except _Interrupted:
            failures = 0 if part.size > before else failures + 1
            if failures >= _ATTEMPTS or not part.known:
                raise
            await asyncio.sleep(min(8.0, 0.25 * 2**failures))


async def _transfer(pool: httpcore.AsyncConnectionPool, part: Part) -> None:
    async with _request(pool, "GET", part.url, part.range_headers()) as response:
        part.known = True
        headers = _headers(response)
        if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.size:
            part.restart()
            raise _Interrupted("download failed: the file has changed on the server")
        _expect(response, part.url, (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT))
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            if not headers.get("content-range", "").startswith(f"bytes {part.size}-"):
                part.restart()
                raise _Interrupted("download failed: the server sent another part than was asked for")
        elif part.size:
            part.restart()
        length = _number(headers.get("content-length"))
        total = None if length is None else part.size + length
        part.begin(headers.get("etag") or headers.get("last-modified"), total)
        buffer = bytearray()
        async for piece in response.aiter_stream():
            buffer += piece
            if len(buffer) >= _CHUNK:
                await asyncio.to_thread(part.write, bytes(buffer))
                buffer.clear()
        await asyncio.to_thread(part.write, bytes(buffer))
        if total is not None and part.size < total:
            raise _Interrupted(f"download failed: {_host(part.url)} ended the connection early")


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[BinaryIO]:
    with translated("write the download"):
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Locked("another task downloads the same file") from None
        yield file


def _pool(guard: Guard, verify: bool) -> httpcore.AsyncConnectionPool:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return httpcore.AsyncConnectionPool(ssl_context=context, max_connections=2, network_backend=_GuardedBackend(guard))


@contextlib.asynccontextmanager
async def _request(
    pool: httpcore.AsyncConnectionPool, method: str, url: str, extra: dict[str, str]
) -> AsyncIterator[httpcore.Response]:
    """The answer to a request after at most five redirects; errors of the connection as errors of the tree."""
    headers: dict[bytes | str, bytes | str] = {"User-Agent": "bastide", "Accept-Encoding": "identity"}
    headers.update(extra.items())
    timeouts = {"connect": CONNECT_DEADLINE, "read": READ_DEADLINE, "write": READ_DEADLINE, "pool": READ_DEADLINE}
    try:
        for _ in range(REDIRECTS + 1):
            check_url(url)
            headers["Host"] = urlsplit(url).netloc
            async with pool.stream(method, url, headers=headers, extensions={"timeout": timeouts}) as response:
                if response.status not in (301, 302, 303, 307, 308):
                    yield response
                    return
                target = urljoin(url, _headers(response).get("location", ""))
            if url.startswith("https:") and not target.startswith("https:"):
                raise PermissionDenied(f"{_host(url)} redirects from https to plain http")
            url = target
        raise HostFailure(f"download failed: more than {REDIRECTS} redirects")
    except BastideError:
        raise
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
        raise _Interrupted(f"download failed: {_host(url)}: {error or type(error).__name__}") from error
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
        raise HostFailure(f"download failed: {_host(url)}: {error or type(error).__name__}") from error


def _expect(response: httpcore.Response, url: str, wanted: Sequence[int]) -> None:
    if response.status not in wanted:
        with contextlib.suppress(ValueError):
            phrase = HTTPStatus(response.status).phrase
            raise HostFailure(f"download failed: {_host(url)} answered {response.status} {phrase}")
        raise HostFailure(f"download failed: {_host(url)} answered {response.status}")


async def _resolve(host: str, port: int) -> list[Address]:
    name = host.strip("[]")
    with contextlib.suppress(ValueError):
        return [ipaddress.ip_address(name)]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_DEADLINE):
            found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (TimeoutError, OSError) as error:
        raise HostFailure(f"the name '{name}' cannot be resolved") from error
    return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in response.headers}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and text.isascii() else None


def _host(url: str) -> str:
    return urlsplit(url).hostname or "the server"
