"""Whether a service in a guest answers, as seen from this host: HTTP, TCP, DNS and NTP.

Every check speaks to the one address that it is given: no redirects, no proxies, no names that are looked up, and what
it reads is bounded. Sources: RFC 9110 (HTTP), RFC 1035 4.1 (DNS messages), RFC 5905 7.3 (NTP packets).
"""

import asyncio
import ipaddress
import os
import secrets
import struct
from collections.abc import Container, Iterable

from bastide.base.errors import HostFailure
from bastide.host import links
from bastide.model.catalog import Probe

READ_LIMIT = 256 * 1024
"""Bytes of an answer that are looked at."""

DEADLINE = 5.0
"""Seconds that one attempt may take."""

_PACKET_LIMIT = 4096
_DNS_HEADER = struct.Struct("!6H")
_DNS_RECURSION_DESIRED = 0x0100
_DNS_RESPONSE = 0x8000
_DNS_NO_ERROR = 0
_TYPE_A = _CLASS_IN = 1
_NTP_CLIENT = 0x23  # leap 0, version 4, mode 3
_NTP_SERVER_MODE = 4
_NTP_LENGTH = 48
_NTP_STRATA = range(1, 16)  # 0 is a refusal, 16 a server that is not synchronized


async def usable(found: Iterable[str]) -> list[str]:
    """The addresses that can be a guest's: not a loopback, multicast or link-local one and none of this host's own.

    Guests choose what they say of themselves.
    """
    own = {each.address.ip for each in await links.with_netlink(links.Netlink.addresses)}
    return [text for text in found if _foreign(ipaddress.ip_address(text), own)]


def _foreign(address: ipaddress.IPv4Address | ipaddress.IPv6Address, own: Container[object]) -> bool:
    special = address.is_loopback or address.is_multicast or address.is_link_local or address.is_unspecified
    return not special and address not in own


async def check(probe: Probe, address: str, *, deadline: float = DEADLINE) -> None:
    """Ask the service at an address once. Raises HostFailure that says what was wrong with its answer."""
    try:
        async with asyncio.timeout(deadline):
            if probe.type in ("http", "https"):
                await _http(probe, address)
            elif probe.type == "tcp":
                await _tcp(probe, address)
            elif probe.type == "dns":
                await _dns(probe, address)
            elif probe.type == "ntp":
                await _ntp(probe, address)
            else:
                raise ValueError(f"a probe of type {probe.type} is no business of the host's")
    except TimeoutError:
        raise HostFailure(f"no answer within {deadline:g} seconds") from None
    except OSError as error:
        number = error.errno or 0
        raise HostFailure(os.strerror(number) if number > 0 else str(error) or type(error).__name__) from None


def target(probe: Probe, address: str) -> str:
    """What messages call the place that a probe asks: `http://10.0.0.5:80/`, `tcp 10.0.0.5:5432`."""
    host = f"[{address}]" if ":" in address else address
    if probe.type in ("http", "https"):
        return f"{probe.type}://{host}:{probe.port}{probe.path}"
    return f"{probe.type} {host}:{probe.port}"


async def _http(probe: Probe, address: str) -> None:
    # The library takes a fifth of a second to import, and the daemon may never need it.
    import httpx  # noqa: PLC0415

    body = bytearray()
    try:
        # The certificate is the guest's own, made a minute ago; the answer is judged and never used.
        async with (
            httpx.AsyncClient(verify=False, trust_env=False, timeout=DEADLINE) as client,  # noqa: S501 - see above
            client.stream("GET", target(probe, address), follow_redirects=False) as answer,
        ):
            if answer.status_code not in probe.status:
                raise HostFailure(f"the answer is HTTP {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) >= READ_LIMIT or _has(probe, body):
                    break
    except httpx.HTTPError as error:
        raise HostFailure(str(error) or type(error).__name__) from None
    _require(probe, body)


async def _tcp(probe: Probe, address: str) -> None:
    reader, writer = await asyncio.open_connection(address, probe.port)
    try:
        if probe.send is not None:
            writer.write(probe.send.encode())
            await writer.drain()
        heard = bytearray()
        while probe.contains is not None and not _has(probe, heard) and len(heard) < READ_LIMIT:
            data = await reader.read(_PACKET_LIMIT)
            if not data:
                break
            heard += data
        _require(probe, heard)
    finally:
        writer.close()


def _has(probe: Probe, heard: bytes | bytearray) -> bool:
    return probe.contains is None or probe.contains.encode() in heard


def _require(probe: Probe, heard: bytes | bytearray) -> None:
    if not _has(probe, heard):
        raise HostFailure(f"the answer does not contain '{probe.contains}'")


async def _dns(probe: Probe, address: str) -> None:
    query = dns_query(probe.name, secrets.randbelow(0x10000))
    check_dns_answer(query, await _exchange(query, address, probe.port))


async def _ntp(probe: Probe, address: str) -> None:
    query = ntp_query(secrets.token_bytes(8))
    check_ntp_answer(query, await _exchange(query, address, probe.port))


def dns_query(name: str, number: int) -> bytes:
    """A query for the A record of an ASCII name. Raises HostFailure for a name that no query can hold."""
    labels = [label.encode("ascii", "replace") for label in name.removesuffix(".").split(".")]
    if not name.isascii() or not all(0 < len(label) < 64 for label in labels):
        raise HostFailure(f"'{name}' is not a name that DNS knows")
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    header = _DNS_HEADER.pack(number, _DNS_RECURSION_DESIRED, 1, 0, 0, 0)
    return header + question + struct.pack("!2H", _TYPE_A, _CLASS_IN)


def check_dns_answer(query: bytes, answer: bytes) -> None:
    """Raise HostFailure unless it answers the query without an error and with a record."""
    if len(answer) < _DNS_HEADER.size:
        raise HostFailure("the answer is no DNS message")
    number, flags, _questions, records, _, _ = _DNS_HEADER.unpack_from(answer)
    if not flags & _DNS_RESPONSE or number != int.from_bytes(query[:2]):
        raise HostFailure("the answer is no answer to the DNS query")
    if flags & 0xF != _DNS_NO_ERROR:
        raise HostFailure(f"the DNS server answers with error {flags & 0xF}")
    if not records:
        raise HostFailure("the DNS server's answer holds no record")


def ntp_query(stamp: bytes) -> bytes:
    """A client's packet with these 8 bytes as the time at which it was sent."""
    return bytes([_NTP_CLIENT]).ljust(_NTP_LENGTH - 8, b"\0") + stamp


def check_ntp_answer(query: bytes, answer: bytes) -> None:
    """Raise HostFailure unless it is a synchronized server's answer to the query."""
    if len(answer) < _NTP_LENGTH or answer[0] & 0x7 != _NTP_SERVER_MODE or answer[24:32] != query[40:48]:
        raise HostFailure("the answer is no answer to the NTP query")
    if answer[1] not in _NTP_STRATA or answer[0] >> 6 == 0b11:
        raise HostFailure("the time server is not synchronized")


class _OneAnswer(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _addr: object) -> None:
        if not self.answer.done():
            self.answer.set_result(data[:_PACKET_LIMIT])

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _exchange(query: bytes, address: str, port: int | None) -> bytes:
    """The first datagram that comes back; the socket is connected, so nobody else's is heard."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_OneAnswer, remote_addr=(address, port or 0))
    try:
        transport.sendto(query)
        return await protocol.answer
    finally:
        transport.close()
        protocol.answer.cancel()
