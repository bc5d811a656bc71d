"""`spiceproxy`, and the tunnel through which a SPICE client comes.

SPICE clients speak HTTP CONNECT to a proxy and TLS to what lies behind it. The proxy is the API's own port, which
tells plain text from TLS; behind it the API's certificate ends the client's TLS, so that QEMU holds no key.
Sources: virt-viewer's connection files (remote-viewer(1)), RFC 9110 section 9.3.6.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from typing import Annotated, Any

from cryptography import x509
from pydantic import Field

from bastide.access.users import is_active
from bastide.api.allowed import LOOK_EVERY
from bastide.api.connection import HEAD_DEADLINE
from bastide.api.fields import GuestPath
from bastide.api.routing import Branch, Call
from bastide.api.services import Services
from bastide.base.errors import AuthenticationFailed, BastideError
from bastide.model.audit import AuditRecord
from bastide.operations.spice import Offer

branch = Branch("/nodes/{node}/qemu/{vmid}")

_PORT = 61000  # a label: nothing listens there
_TARGET = re.compile(rb"CONNECT spice-([0-9a-f]{48}):61000 HTTP/1\.[01]\r\n", re.ASCII)
_CHUNK = 64 * 1024
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class SpiceProxy(GuestPath):
    """`proxy` is how the client reaches this host; default: the host's address."""

    proxy: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9.:\[\]-]+$", max_length=255)] = None


@branch.post("/spiceproxy", SpiceProxy, check=("perm", "/vms/{vmid}", ("VM.Console",)))
async def offer_spice(call: Call, p: SpiceProxy) -> dict[str, Any]:
    """Offer the VM's screen to a SPICE client: what a connection file of virt-viewer's holds.

    The ticket in `host` and the password let the client's connections in for 30 seconds.
    """
    guest = await call.rooms.guests.get(p.vmid)
    offer, _ = await call.services.spice.offer(call.rooms, guest, call.identity)
    certificate = (call.rooms.layout.state / "api.pem").read_text()
    subject = x509.load_pem_x509_certificate(certificate.encode()).subject
    return {
        "type": "spice",
        "title": f"{guest.title} - {guest.name}",
        "proxy": f"http://{p.proxy or call.services.address}:{call.services.port}",
        "host": f"spice-{offer.ticket}",
        "tls-port": _PORT,
        "password": offer.password,
        "ca": certificate.replace("\n", "\\n"),
        "host-subject": ",".join(part.rfc4514_string() for part in subject.rdns),
        "delete-this-file": 1,
        "secure-attention": "Ctrl+Alt+Ins",
        "release-cursor": "Ctrl+Alt+R",
        "toggle-fullscreen": "Shift+F11",
    }


class Tunnel:
    """What `serve` gives plain CONNECT requests to."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def serve(self, connection: socket.socket, head: bytes, context: ssl.SSLContext) -> None:
        """Join a client to the guest that its ticket is for, until either goes or the right is taken away."""
        loop = asyncio.get_running_loop()
        match = _TARGET.match(head)
        try:
            if match is None:
                raise AuthenticationFailed("no such tunnel")
            async with self._services.spice.channel(self._services.rooms, match[1].decode()) as (offer, descriptor):
                with socket.socket(fileno=descriptor) as guest:
                    guest.setblocking(False)
                    await loop.sock_sendall(connection, b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._record(connection, offer, 101)
                    await self._join(connection, guest, offer, context)
        except BastideError as error:
            self._record(connection, None, 403, str(error))
            await loop.sock_sendall(connection, _REFUSED)

    def _record(self, connection: socket.socket, offer: Offer | None, status: int, error: str | None = None) -> None:
        """Tell the audit log of a client that came."""
        path = "" if offer is None else f"/nodes/{self._services.node}/qemu/{offer.vmid}/spiceproxy"
        try:
            address = str(connection.getpeername()[0])
        except OSError:
            address = ""  # it is gone already
        user = "" if offer is None else str(offer.by)
        self._services.audit.write(AuditRecord("console", user, address, "CONNECT", path, status, error=error))

    async def _join(self, client: socket.socket, guest: socket.socket, offer: Offer, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        async with asyncio.timeout(HEAD_DEADLINE):
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, client, ssl=context)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        tasks = [
            asyncio.create_task(_up(reader, guest)),
            asyncio.create_task(_down(guest, writer)),
            asyncio.create_task(self._watch(offer)),
            asyncio.create_task(offer.ended.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            transport.abort()

    async def _watch(self, offer: Offer) -> None:
        """Return when the client's user, token or right is gone."""
        access = self._services.access
        with contextlib.suppress(BastideError):
            while True:
                await asyncio.sleep(LOOK_EVERY)
                (await access.authority()).check(offer.by, f"/vms/{offer.vmid}", ("VM.Console",))
                if not is_active(await access.users.get(offer.by.userid)):
                    return


async def _up(reader: asyncio.StreamReader, guest: socket.socket) -> None:
    while data := await reader.read(_CHUNK):
        await asyncio.get_running_loop().sock_sendall(guest, data)


async def _down(guest: socket.socket, writer: asyncio.StreamWriter) -> None:
    while data := await asyncio.get_running_loop().sock_recv(guest, _CHUNK):
        writer.write(data)
        await writer.drain()
