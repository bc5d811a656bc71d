"""People of a real host: users who come over the network, by a ticket or a token, and what becomes of them.

with person(host, "ada", {"/vms/100": "PVEVMUser"}) as ada:
    ada.status("GET", "/version")
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from framework import trust
from framework.host import ApiFailure, Host

PASSWORD = "a-password-of-tests"


@dataclass
class Person:
    """A user of the realm `pve`. `client` comes by the headers that were given last."""

    host: Host
    userid: str
    client: httpx.Client
    ticket: str = ""
    csrf: str = ""

    def by_ticket(self) -> "Person":
        """Log in, and come by the ticket from now on."""
        made = self.client.post("/access/ticket", data={"username": self.userid, "password": PASSWORD}).json()["data"]
        self.ticket, self.csrf = made["ticket"], made["CSRFPreventionToken"]
        self.client.headers = httpx.Headers(ticket_headers(self.ticket, self.csrf))
        return self

    def by_token(self, name: str = "t", *, privsep: int = 0) -> "Person":
        """Make a token, and come by it from now on."""
        made = self.host.post(f"/access/users/{self.userid}/token/{name}", privsep=privsep)
        self.client.headers = httpx.Headers({"Authorization": f"PVEAPIToken={made['full-tokenid']}={made['value']}"})
        return self

    def call(self, method: str, path: str, /, **values: Any) -> httpx.Response:
        """One call over the network."""
        where = "params" if method in ("GET", "DELETE") else "data"
        return self.client.request(method, path, **{where: values})  # type: ignore[arg-type]

    def status(self, method: str, path: str, /, **values: Any) -> int:
        """The status of one call."""
        return self.call(method, path, **values).status_code

    def socket(self, path: str, params: Mapping[str, object], origin: str | None = None) -> ClientConnection:
        """A WebSocket over the network. Raises InvalidStatus."""
        url = f"wss://127.0.0.1:{self.host.port}/api2/json{path}?{urlencode(list(params.items()))}"
        headers = {name: text for name, text in self.client.headers.items() if name in ("authorization", "cookie")}
        return connect(url, ssl=trust.anyone(), origin=origin, additional_headers=headers, compression=None)  # type: ignore[arg-type]

    def socket_status(self, path: str, params: Mapping[str, object], origin: str | None = None) -> int:
        """The status of a WebSocket's handshake; 101 when it opens."""
        try:
            self.socket(path, params, origin).close()
        except InvalidStatus as refused:
            return refused.response.status_code
        return 101


def ticket_headers(ticket: str, csrf: str | None = None) -> dict[str, str]:
    """The headers of who has a ticket, as programs send them."""
    headers = {"Cookie": f"PVEAuthCookie={ticket}"}
    return headers if csrf is None else {**headers, "CSRFPreventionToken": csrf}


def stranger(host: Host) -> httpx.Client:
    """A client over the network, without credentials."""
    return httpx.Client(base_url=f"https://127.0.0.1:{host.port}/api2/json", verify=trust.anyone(), timeout=60)


@contextlib.contextmanager
def person(host: Host, name: str, grants: Mapping[str, str] | None = None) -> Iterator[Person]:
    """A user with roles on paths, who is gone when the block ends."""
    userid = f"{name}@pve"
    host.post("/access/users", userid=userid, password=PASSWORD)
    try:
        for path, role in (grants or {}).items():
            host.put("/access/acl", path=path, users=userid, roles=role)
        with stranger(host) as client:
            yield Person(host, userid, client)
    finally:
        with contextlib.suppress(ApiFailure):
            host.delete(f"/access/users/{userid}")
