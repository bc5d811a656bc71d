"""`spiceproxy`, and the tunnel through which a SPICE client comes.

SPICE clients speak HTTP CONNECT to a proxy and TLS to what lies behind it. The proxy is the API's own port, which
tells plain text from TLS; behind it the web process ends the client's TLS, so that QEMU holds no key.
Sources: virt-viewer's connection files (remote-viewer(1)), RFC 9110 section 9.3.6.
"""

import asyncio
import contextlib
import re
import socket
from typing import Annotated, Any

from cryptography import x509
from pydantic import Field

from bastide.access.users import is_active
from bastide.api.allowed import LOOK_EVERY
from bastide.api.fields import GuestPath
from bastide.api.routing import Branch, Call
from bastide.api.services import Services
from bastide.base.errors import AuthenticationFailed, BastideError
from bastide.model.audit import AuditRecord
from bastide.operations.spice import Offer

branch = Branch("/nodes/{node}/qemu/{vmid}")

_PORT = 61000  # a label: nothing listens there
_TARGET = re.compile(r"spice-([0-9a-f]{48}):61000", re.ASCII)
_CHUNK = 64 * 1024


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
    """Joins clients that sent CONNECT to a guest's screen, as an application for scopes of the type `tunnel`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Join a client to the guest that its ticket is for, until either goes or the right is taken away."""
        match = _TARGET.fullmatch(scope["path"])
        try:
            if match is None:
                raise AuthenticationFailed("no such tunnel")
            async with self._services.spice.channel(self._services.rooms, match[1]) as (offer, descriptor):
                with socket.socket(fileno=descriptor) as guest:
                    guest.setblocking(False)
                    await send({"type": "websocket.accept"})
                    self._record(scope["client"][0], offer, 101)
                    await self._join(guest, offer, receive, send)
        except (BastideError, OSError) as error:
            if isinstance(error, BastideError):
                self._record(scope["client"][0], None, 403, str(error))
            with contextlib.suppress(OSError):
                await send({"type": "websocket.close", "code": 1008})

    def _record(self, address: str, offer: Offer | None, status: int, error: str | None = None) -> None:
        """Tell the audit log of a client that came."""
        path = "" if offer is None else f"/nodes/{self._services.node}/qemu/{offer.vmid}/spiceproxy"
        user = "" if offer is None else str(offer.by)
        self._services.audit.write(AuditRecord("console", user, address, "CONNECT", path, status, error=error))

    async def _join(self, guest: socket.socket, offer: Offer, receive: Any, send: Any) -> None:
        tasks = [
            asyncio.create_task(_up(receive, guest)),
            asyncio.create_task(_down(guest, send)),
            asyncio.create_task(self._watch(offer)),
            asyncio.create_task(offer.ended.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, offer: Offer) -> None:
        """Return when the client's user, token or right is gone."""
        access = self._services.access
        with contextlib.suppress(BastideError):
            while True:
                await asyncio.sleep(LOOK_EVERY)
                (await access.authority()).check(offer.by, f"/vms/{offer.vmid}", ("VM.Console",))
                if not is_active(await access.users.get(offer.by.userid)):
                    return


def with_tunnel(app: Any, tunnel: Tunnel) -> Any:
    """An application whose tunnels are this one."""

    async def either(scope: Any, receive: Any, send: Any) -> None:
        await (tunnel if scope["type"] == "tunnel" else app)(scope, receive, send)

    return either


async def _up(receive: Any, guest: socket.socket) -> None:
    while (message := await receive())["type"] != "websocket.disconnect":
        if data := message.get("bytes"):
            await asyncio.get_running_loop().sock_sendall(guest, data)


async def _down(guest: socket.socket, send: Any) -> None:
    while data := await asyncio.get_running_loop().sock_recv(guest, _CHUNK):
        await send({"type": "websocket.send", "bytes": data})
